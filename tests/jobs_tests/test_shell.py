"""`spp` explains itself: help that loads nothing, examples, completion, errors."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from jobs import options, steps
from jobs.cli import Spp, app
from jobs.shell import Explained

Run = Callable[..., Any]
NAMES = [name for held in Spp.listed.values() for name in held]
HEAVY = ("torch", "ray", "duckdb", "pyarrow", "numpy")


def command(name: str) -> Explained:
    return get_command(app).get_command(None, name)  # pyright: ignore[reportAttributeAccessIssue]


def test_help_names_every_command_and_fits_a_screen(spp: Run) -> None:
    said = spp("--help")
    rows = said.out.splitlines()
    assert (said.code, len(rows) <= 49, max(map(len, rows)) <= 80) == (0, True, True)
    listed = re.findall(r"^  ([a-z][a-z-]+)  |([a-z]+)(?=, |\n?$)", said.out, flags=re.MULTILINE)
    assert {*NAMES} <= {word for pair in listed for word in pair}
    assert {*steps.TARGETS} - {*NAMES} == set()
    assert len(NAMES) == len(set(NAMES))
    assert spp().err == said.out


@pytest.mark.parametrize("words", [["--help"], ["rn"], []])
def test_help_and_misspelt_words_load_nothing(words: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["spp", *{words!r}]
from jobs.cli import main
try:
    main()
finally:
    print("loaded:", *(name for name in {HEAVY!r} if name in sys.modules))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_listed_is_what_a_command_says_of_itself(name: str) -> None:
    (listed,) = (held[name] for held in Spp.listed.values() if name in held)
    known = command(name)
    assert (known.help or "").splitlines()[0] == f"{listed.told}."
    assert known.examples


def examples() -> Iterator[tuple[str, str]]:
    for name in NAMES:
        for example in command(name).examples:
            yield name, example


@pytest.mark.parametrize(("name", "example"), [*examples()])
def test_examples_have_only_what_their_command_takes(
    name: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    words = shlex.split(example, comments=True)
    assert words[:2] == ["spp", name]
    with command(name).make_context(name, words[2:]):
        pass
    assert len(example) <= 98


def test_every_option_is_explained() -> None:
    silent = [
        (name, each.opts) for name in NAMES for each in command(name).params
        if not getattr(each, "help", None)
    ]  # fmt: skip
    assert silent == []


def test_errors_are_a_sentence_and_with_debug_their_way_there(spp: Run) -> None:
    said = spp("plan", "nosuch")
    assert (said.code, "Traceback" in said.err, said.err.count("\n")) == (2, False, 1)
    for words in (["--debug", "plan", "nosuch"], ["plan", "nosuch", "--debug"]):
        shown = spp(*words)
        assert (shown.code, shown.err.startswith("Traceback")) == (2, True)
        assert shown.err.endswith(said.err)


def test_a_fault_of_ours_is_told_as_one(spp: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("some key")

    monkeypatch.setattr("jobs.plan.command.load", broken)
    said = spp("plan", "digits")
    assert said.code == 1
    assert re.fullmatch(
        r"error: 'some key' \(KeyError in line \d+ of \S+test_shell.py\): a fault of this program; "
        r"please report what --debug, added to the command, shows\n",
        said.err,
    )
    assert "in broken" in spp("plan", "digits", "--debug").err


def completed(*words: str) -> list[str]:
    """What a shell is told of the last word."""
    variables = {"_SPP_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["spp", *words])}
    run = subprocess.run(
        [sys.executable, "-m", "jobs"], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **variables, "COMP_CWORD": str(len(words))},
    )  # fmt: skip
    return run.stdout.split()


def test_a_shell_completes_commands_options_recipes_and_stores() -> None:
    assert completed("qu") == ["query", "quarantine"]
    assert completed("query", "--fo") == ["--format"]
    assert completed("query", "digits_u") == ["digits_untrained:train", "digits_untrained:test"]


def test_a_file_is_named_where_its_ending_was_left_out(
    spp: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bees.toml").write_text('name = "bees"')
    (tmp_path / "bees2.toml").write_text('name = "bees2"')
    assert spp("plan", "bees").err == "error: no recipe bees; did you mean bees.toml?\n"
    assert spp("plan", "digts").err == "error: no recipe digts; did you mean digits?\n"


def test_words_are_completed_to_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "deep.toml").touch()
    assert options.recipes_like("ow") == ["own.toml"]
    assert options.recipes_like("fold") == ["folder/"]
    assert options.recipes_like("folder/d") == ["folder/deep.toml"]
    assert options.recipes_like("none/") == []
    assert "digits" in options.recipes_like("di")
    assert options.stores_like("own.toml:tes") == ["own.toml:test"]
    assert options.stores_like("fold") == ["folder/"]
