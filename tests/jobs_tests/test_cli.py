"""The command line: its exit codes, and one sentence for whatever is wrong."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import dag, execution, options, steps
from pipeline import config
from pipeline.errors import InputError

Run = Callable[..., Any]
PROJECT = Path(options.__file__).parents[1]
RECIPES = sorted(path.stem for path in options.RECIPES.glob("*.toml"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_says_how_to_run_it_and_can_be_read(name: str, tmp_path: Path) -> None:
    text = (options.RECIPES / f"{name}.toml").read_text()
    opening = text.partition("\nname = ")[0].partition("\nextends = ")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    assert f"spp run {name}" in opening
    assert "xpected" in opening
    recipe = options.load(name, None, tmp_path)
    assert recipe.name == name
    if recipe.dataset.kind == "voc":
        assert recipe.dataset.root is not None
        assert recipe.dataset.root.is_relative_to(tmp_path)


@pytest.mark.parametrize("base", ["digits", "digits.toml"])
def test_a_recipe_extends_a_shipped_one_or_a_file_beside_it(tmp_path: Path, base: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f'extends = "{base}"\nname = "own"\nseed = 4\n')
    recipe = options.load(str(own), None, None)
    assert (recipe.seed, recipe.network.width) == (4, 0.25)
    (tmp_path / base).write_text('name = "x"\ndataset.kind = "digits"\n')
    assert options.load(str(own), None, None).network.width is None


def test_shipped_recipes_share_what_they_agree_on(tmp_path: Path) -> None:
    folders = {}
    for name in ("digits", "digits_untrained"):
        recipe = options.load(name, None, None)
        planned = dag.plan(steps.jobs_of(recipe), recipe, tmp_path)
        folders[name] = {job: step.folder for job, step in planned.items()}
    trained, untrained = folders["digits"], folders["digits_untrained"]
    shared = {job for job in untrained if trained[job] == untrained[job]}
    assert shared == {"dataset_train", "dataset_test", "windows_train", "windows_test"}
    assert set(trained) - set(untrained) == {"pretrain"}


def test_a_run_and_all_that_can_be_asked_of_it(tiny: Path, spp: Run) -> None:
    runs = tiny.parent / "runs"
    said = spp("run", tiny, "--runs", runs, "--serial")
    assert said.code == 0, said.err
    assert "tiny: mAP" in said.out
    (sheet,) = runs.glob("jobs/report-*/pictures/sheet.png")
    assert str(sheet) in said.out
    assert "\x1b" not in said.err  # colours and bars are for terminals

    again = spp("run", tiny, "--runs", runs, "--serial")
    assert again.out == said.out
    assert [line.split()[2] for line in again.err.splitlines()[1:]] == ["done"] * 11

    as_json = spp("run", tiny, "--runs", runs, "--serial", "--json")
    assert as_json.err == ""
    rows = json.loads(as_json.out)
    assert json.loads(spp("status", tiny, "--runs", runs, "--json").out) == rows
    assert {row["state"] for row in rows} == {"done"}
    shown = spp("status", tiny, "--runs", runs)
    assert shown.code == 0
    assert [line.split()[:2] for line in shown.out.splitlines()[1:12]] == [
        [row["job"], "done"] for row in rows
    ]

    store = next(runs.glob("jobs/extract_test-*/store"))
    whole = spp("verify", store)
    assert whole.code == 0
    assert whole.out.endswith("rows: whole\n")
    count = spp("query", store, "SELECT count(*) AS n FROM images", "--json")
    assert json.loads(count.out) == [{"n": 8}]
    odd = spp("query", store, "SELECT '[/x]' AS \"[red]\", vector FROM windows LIMIT 1")
    head, row = odd.out.splitlines()
    assert head.split() == ["[red]", "vector"]
    length = 26 * (4 + 1)  # channels, bins
    assert re.fullmatch(rf" ?\[/x\] +\[([-\d.e]+, ){{4}}… {length}\] *", row)
    many = spp("query", store, "SELECT window_id FROM windows")
    assert re.fullmatch(r"100 of \d+ rows; --out FILE writes all\n", many.err)

    shard = next((store / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1])
    broken = spp("verify", store)
    assert broken.code == 1
    assert shard.stem in broken.out
    assert broken.out.endswith(f"to mend: spp fsck {store}, then run the recipe again\n")


def test_a_run_directory_that_cannot_be_made_is_named(spp: Run, refused: Run) -> None:
    said = spp("run", "digits", "--runs", "/dev/null/x")
    refused(said, 1, "/dev/null/x cannot be made (Not a directory): give another folder")


def test_a_run_directory_that_nobody_may_write_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # for root may, wherever
    with pytest.raises(InputError, match=f"{tmp_path} may not be written to: give another fold"):
        execution.execute([config.load(options.RECIPES / "digits.toml")], [("pretrain",)], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["run", "nonsense"], 2, ["no recipe nonsense", "digits, digits_untrained"]),
        (["run", "digit"], 2, ["no recipe digit; did you mean digits?"]),
        (["run", "no/such.toml"], 2, ["no recipe no/such.toml"]),
        (["status", "nonsense"], 2, ["no recipe nonsense"]),
        (["run", "."], 2, ["no file, but a folder"]),
        (["run", "voc_squeezenet", "--data", "/no/such"], 1, ["/no/such", "does not exist"]),
        (["status", "voc_squeezenet", "--data", "/no/such"], 1, ["/no/such", "does not exist"]),
        (["run", "digits", "--set", "nonsense"], 2, ['"nonsense" does not set anything']),
        (["run", "digits", "--set", "=3"], 2, ["does not set anything"]),
        (["run", "digits", "--set", "windows=3"], 2, ["windows: "]),
        (["run", "digits", "--set", "svm.C=large"], 2, ["svm.C: "]),
        (["run", "digits", "--set", "svm.c=1"], 2, ["digits.toml --set svm.c=1: svm.c is not a"]),
        (["run", "digits", "--set", "a.b.c=1"], 2, ["a is not a key", "dataset, windows"]),
        (["pretrain", "digits_untrained"], 2, ["has no job pretrain", "it has dataset"]),
        (["verify", "/no/such"], 1, ["there is no store /no/such"]),
        (["query", "/no/such", "SELECT 1"], 1, ["there is no store /no/such"]),
        (["verify", "http://x/store"], 1, ["http://x/store: a store lies in a folder, or on s3"]),
        (["fsck", "/no/such"], 1, ["there is no store /no/such"]),
        (["gc", "/no/such"], 1, ["there is no store /no/such"]),
    ],
)
def test_nonsense_is_refused_in_one_sentence(
    spp: Run, tmp_path: Path, arguments: list[str], code: int, parts: list[str], refused: Run
) -> None:
    runs = (
        [] if arguments[0] in ("verify", "query", "export", "fsck", "gc") else ["--runs", tmp_path]
    )
    refused(spp(*arguments, *runs), code, *parts)


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["run", "digits", "--nonsense"]])
def test_wrong_usage_is_code_2(spp: Run, arguments: list[str]) -> None:
    said = spp(*arguments)
    assert said.code == 2
    assert "Usage" in said.err


def test_a_misspelt_key_is_named_with_those_that_exist(spp: Run, tiny: Path, refused: Run) -> None:
    tiny.write_text(tiny.read_text().replace("max_windows", "max_window"))
    said = spp("run", tiny, "--runs", tiny.parent / "runs")
    refused(said, 2, "windows.max_window is not a key", "max_windows")
    assert not (tiny.parent / "runs").exists()


def test_a_folder_of_that_name_does_not_hide_a_shipped_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert options.load("digits", None, None).name == "digits"


def test_runs_that_cannot_be_written_are_named(spp: Run, tiny: Path, refused: Run) -> None:
    blocked = tiny.parent / "file"
    blocked.touch()
    refused(spp("run", tiny, "--runs", blocked, "--serial"), 1, str(blocked))


def test_a_cluster_that_does_not_answer_is_named() -> None:
    # In a process of its own: this one may have joined the tests' cluster.
    code = """
import sys
from actors.resources import connect
from pipeline.errors import InputError
for address in sys.argv[1:]:
    try:
        connect(address)
    except InputError as error:
        assert str(error).startswith(f"no Ray cluster answers at {address} ("), error
    else:
        raise SystemExit(f"joined {address}")
"""
    addresses = ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:1"]
    command = [sys.executable, "-c", code, *addresses]
    subprocess.run(command, cwd=PROJECT, check=True, timeout=90)


def test_a_query_that_fails_says_why(tiny: Path, spp: Run) -> None:
    runs = tiny.parent / "runs"
    assert spp("extract", tiny, "--runs", runs, "--serial").code == 0
    store = next(runs.glob("jobs/extract_test-*/store"))
    for sql in ("nonsense", "SELECT x FROM windows", "DROP VIEW windows", ""):
        said = spp("query", store, sql)
        assert (said.code, said.out) == (1, ""), sql
        assert said.err.startswith("error: ")
        assert "Traceback" not in said.err


def test_every_job_is_a_module_too() -> None:
    for name in steps.TARGETS:
        tree = ast.parse((PROJECT / "jobs" / f"{name}.py").read_text())
        last = tree.body[-1]
        assert isinstance(last, ast.If), name
        assert ast.unparse(last.test) == "__name__ == '__main__'"
        assert ast.unparse(last.body[-1]) == f"main('{name}')"


def test_a_command_looks_for_no_garbage_in_what_it_imported() -> None:
    script = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]["spp"]
    assert script == "jobs.__main__:main"
    asked = """
import gc
from typer.main import get_command
from jobs.cli import app
get_command(app).get_command(None, "status")
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
    command = [sys.executable, "-c", asked]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=90)
    assert said.stdout.split() == ["True", "True"]


def test_a_job_runs_as_a_module(tiny: Path) -> None:
    runs = tiny.parent / "runs"
    command = [sys.executable, "-m", "jobs.windows", str(tiny), "--runs", str(runs), "--serial"]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=90)
    assert said.returncode == 0, said.stderr
    assert sorted(path.parent.name.partition("-")[0] for path in runs.glob("jobs/*/done.json")) == [
        "dataset", "dataset", "windows_test", "windows_train",
    ]  # fmt: skip


def test_recipes_can_be_made_from_any_field(tiny: Path) -> None:
    recipe = options.load(str(tiny), ["mining.rounds=converged", "features.scales=[96, 160]"], None)
    assert (recipe.mining.rounds, recipe.features.scales) == ("converged", (96, 160))
    assert config.digest(recipe) != config.digest(options.load(str(tiny), None, None))
