"""The README's session with a store, on a smaller one: its commands run, and answer as shown."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SESSION = README.split("## Asking the features")[1].split("## Words")[0]


def commands() -> Iterator[tuple[list[str], list[str]]]:
    """The commands, in order, and the lines that are shown below each."""
    for block in re.findall(r"(?:^    .*\n)+", SESSION, flags=re.MULTILINE):
        first, *shown = [line[4:] for line in block.splitlines()]
        if first.startswith("$ spp "):
            yield shlex.split(first.removeprefix("$ spp ")), shown


def words(line: str) -> list[str]:
    """What a line says, without figures and file names."""
    return re.findall(r"[a-z]{3,}", line.partition("; in runs/")[0])


def is_hit(line: str) -> bool:
    """Whether it is a row of hits: how many there are depends on the store."""
    return re.match(r"\s*(-?[\d.]+|test_\d+)\s", line) is not None


def test_the_session_runs_and_answers_as_shown(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spp: Callable[..., Any]
) -> None:
    # Names of the README's recipe, where the small one lies; what is taught goes aside.
    (tmp_path / "digits").write_text((tiny_run.parent / "tiny.toml").read_text())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "jobs").symlink_to(tiny_run / "jobs")
    monkeypatch.chdir(tmp_path)
    session = list(commands())
    assert [command[0] for command, _ in session] == ["query", "similar", "new", "new", "detect"]
    for command, shown in session:
        said = spp(*command)
        assert said.code == 0, said
        told = [words(line) for line in said.out.splitlines()]
        assert any(is_hit(line) for line in said.out.splitlines())
        assert [line for line in shown if not is_hit(line) and words(line) not in told] == []
