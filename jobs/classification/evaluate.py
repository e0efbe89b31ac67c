"""Job `evaluate` of classification: accuracy and average precision, by test images or at random."""

from functools import partial
from pathlib import Path
from typing import Any

from jobs.classification.train import THREADS, fitted_by
from jobs.context import Context
from pipeline import store
from pipeline.classification import JudgeSpec, JudgeStats, judge, judge_split, summarise
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names

OWN = "test"  # folder of what `dataset.test` came to; those of random splits have their numbers


def run(context: Context) -> dict[str, Any]:
    """Write `<split>/predictions.parquet` and `<split>/judged.json`."""
    recipe = context.recipe
    splits, classes = recipe.classification.random_splits, class_names(recipe.dataset)
    images = store.open(context.store_of("extract_train" if splits else "extract_test"))
    known = None if splits else context.inputs["train"]
    given = (images, classes, recipe.classification, recipe.evaluation.method, known, recipe.seed)
    spec = JudgeSpec(*given)
    cpus = min(THREADS, context.runner.cpus) if splits else 1
    work = partial(_judge_one, spec, context.folder, cpus)
    numbers = {folder.name: folder.name for folder in folders(recipe, context.folder)}
    done = context.map("judge", work, numbers, JudgeStats, cpus)
    return summarise(list(done.values()))


def _judge_one(spec: JudgeSpec, folder: Path, threads: int, name: str) -> JudgeStats:
    if spec.classifiers is not None:
        return judge(spec, folder / name)
    return judge_split(spec, int(name), folder / name, threads)


def folders(recipe: Recipe, folder: Path) -> list[Path]:
    """Return where each split's answers lie in the job's folder."""
    splits = recipe.classification.random_splits
    return [folder / f"{number:02d}" for number in range(splits)] or [folder / OWN]


def needs(recipe: Recipe) -> tuple[str, ...]:
    """Return the jobs that must be done before."""
    if recipe.classification.random_splits:
        return ("extract_train",)
    return ("extract_test", "train")


def reads(recipe: Recipe) -> Any:
    """Return the splits, if any, and the measure."""
    own = recipe.classification
    content = [class_names(recipe.dataset), recipe.evaluation.method, own.random_splits]
    if own.random_splits:
        content += [own.train_per_class, own.test_per_class, fitted_by(recipe), recipe.seed]
    return content
