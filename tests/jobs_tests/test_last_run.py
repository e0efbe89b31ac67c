"""What a recipe's name stands for in a run directory, and what it stood for before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import dag, last_run, steps
from jobs.context import DONE
from pipeline import config
from pipeline.config import Recipe
from pipeline.errors import InputError

Run = Callable[..., Any]


@pytest.fixture
def recipe(tiny: Path) -> Callable[..., Recipe]:
    return lambda *changed: config.load(tiny, changed)


def planned(known: Recipe, runs: Path) -> dict[str, Any]:
    return dag.plan(steps.jobs_of(known), known, runs)


def whole(known: Recipe, runs: Path, *but: str) -> None:
    """Write a run down, with all its jobs done but some."""
    held = planned(known, runs)
    last_run.write_run(runs, known, held, ["report"])
    for name, step in held.items():
        step.folder.mkdir(parents=True, exist_ok=True)
        if name not in but:
            (step.folder / DONE).write_text('{"summary": {}}')


def before(runs: Path) -> dict[str, Any]:
    return json.loads((runs / "tiny" / last_run.BEFORE).read_text())


def test_the_run_says_which_folders_are_its_own(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    held = planned(recipe(), tmp_path)
    last_run.write_run(tmp_path, recipe(), held, ["windows_test"])
    written = json.loads((tmp_path / "tiny/run.json").read_text())
    assert written["jobs"]["mine"] == f"jobs/{held['mine'].folder.name}"
    assert written["wanted"] == ["dataset_test", "windows_test"]
    assert Recipe.model_validate(written["recipe"]) == recipe()
    assert not (tmp_path / "tiny" / last_run.BEFORE).exists()


def test_a_whole_run_is_kept_when_another_begins(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    soft, hard = recipe(), recipe("svm.C=1.0")
    whole(soft, tmp_path)
    whole(soft, tmp_path)  # the same again
    assert not (tmp_path / "tiny" / last_run.BEFORE).exists()
    whole(hard, tmp_path, "report")
    assert before(tmp_path)["recipe"]["svm"]["C"] == soft.svm.C
    whole(recipe("svm.C=2.0"), tmp_path)  # the one between was never whole
    assert before(tmp_path)["recipe"]["svm"]["C"] == soft.svm.C
    known, held = last_run.before(recipe("svm.C=2.0"), tmp_path)
    assert (known.name, known.svm.C) == ("tiny, before", soft.svm.C)
    assert held["report"].folder == planned(soft, tmp_path)["report"].folder


def test_the_last_run_is_the_one_before_while_the_new_one_has_not_begun(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    whole(recipe(), tmp_path)
    known, _ = last_run.before(recipe("svm.C=1.0"), tmp_path)
    assert known.svm.C == recipe().svm.C


def test_where_there_is_none_it_is_said(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run before that of tiny: .*before.json"):
        last_run.before(recipe(), tmp_path)
    whole(recipe(), tmp_path)
    whole(recipe("svm.C=1.0"), tmp_path)
    (planned(recipe(), tmp_path)["detect"].folder / DONE).unlink()
    with pytest.raises(InputError, match="not whole any more: its job detect was removed"):
        last_run.before(recipe("svm.C=1.0"), tmp_path)
    content = before(tmp_path)
    content["recipe"]["svm"]["of another version"] = 1
    (tmp_path / "tiny" / last_run.BEFORE).write_text(json.dumps(content))
    with pytest.raises(InputError, match="or is of another version; run it again with the fields"):
        last_run.before(recipe("svm.C=1.0"), tmp_path)
