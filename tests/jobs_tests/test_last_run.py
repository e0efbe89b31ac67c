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


@pytest.fixture
def recipe(tiny: Path) -> Callable[..., Recipe]:
    return lambda *changed: config.load(tiny, changed)


def planned(known: Recipe, runs: Path) -> dict[str, Any]:
    return dag.plan(steps.jobs_of(known), known, runs)


def done(known: Recipe, runs: Path) -> None:
    """Leave what a whole run leaves."""
    held = planned(known, runs)
    last_run.write_run(runs, known, held, ["report"])
    for step in held.values():
        step.folder.mkdir(parents=True, exist_ok=True)
        (step.folder / DONE).write_text('{"summary": {}}')
    last_run.keep_whole(runs, known, held)


def test_the_run_says_which_folders_are_its_own(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    held = planned(recipe(), tmp_path)
    last_run.write_run(tmp_path, recipe(), held, ["windows_test"])
    written = json.loads((tmp_path / "tiny/run.json").read_text())
    assert written["jobs"]["mine"] == f"jobs/{held['mine'].folder.name}"
    assert written["wanted"] == ["dataset_test", "windows_test"]
    assert Recipe.model_validate(written["recipe"]) == recipe()


def test_the_whole_run_before_is_another_one(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    soft, hard, harder = recipe(), recipe("svm.C=1.0"), recipe("svm.C=2.0")

    def before(known: Recipe) -> float:
        return last_run.before(known, tmp_path).recipe.svm.C

    done(soft, tmp_path)
    assert before(hard) == soft.svm.C  # which has not begun
    done(hard, tmp_path)
    done(hard, tmp_path)  # the same again
    assert before(hard) == soft.svm.C
    last_run.write_run(tmp_path, harder, planned(harder, tmp_path), ["train"])  # never whole
    assert before(hard) == soft.svm.C
    assert before(harder) == hard.svm.C
    done(soft, tmp_path)  # back again
    assert before(soft) == hard.svm.C


def test_it_is_taken_from_the_folders_that_it_had(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(recipe(), tmp_path)
    had = planned(recipe(), tmp_path)
    # The same fields, and other images: as when somebody adds some.
    jobs = steps.jobs_of(recipe())
    monkeypatch.setattr(
        steps,
        "jobs_of",
        lambda _: [dag.Job(j.name, j.run, j.needs, lambda _: "others") for j in jobs],
    )
    run = last_run.before(recipe(), tmp_path)
    assert run.name == "tiny, before"
    assert {name: step.folder for name, step in run.planned.items()} == {
        name: step.folder for name, step in had.items()
    }


def test_where_there_is_none_it_is_said(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no whole run of tiny before this one in .*: run"):
        last_run.before(recipe(), tmp_path)
    done(recipe(), tmp_path)
    with pytest.raises(InputError, match="no whole run of tiny before"):
        last_run.before(recipe(), tmp_path)
    now = recipe("svm.C=1.0")
    (planned(recipe(), tmp_path)["detect"].folder / DONE).unlink()
    with pytest.raises(InputError, match=r"not whole any more: .*its job detect, was removed"):
        last_run.before(now, tmp_path)
    file = tmp_path / "tiny" / last_run.WHOLE
    content = json.loads(file.read_text())
    content["recipe"]["svm"]["of another version"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="made by a version of this program with other fields"):
        last_run.before(now, tmp_path)
