"""Job `train` of classification: a linear SVM of each class, on all training images."""

from dataclasses import asdict
from functools import partial
from typing import Any

from jobs.context import Context
from pipeline import store
from pipeline.classification import TrainSpec, TrainStats, train
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names

THREADS = 2  # of a fit: more only wait for memory


def run(context: Context) -> dict[str, Any]:
    """Write the classifiers."""
    recipe = context.recipe
    images = store.open(context.store_of("extract_train"))
    spec = TrainSpec(images, class_names(recipe.dataset), recipe.classification)
    cpus = min(THREADS, context.runner.cpus)
    work = partial(train, folder=context.folder, threads=cpus)
    return asdict(context.map("fit", work, {"all": spec}, TrainStats, cpus)["all"])


def reads(recipe: Recipe) -> Any:
    """Return the classes and the settings of the SVM."""
    return [class_names(recipe.dataset), fitted_by(recipe)]


def fitted_by(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of the SVM."""
    later = {"random_splits", "train_per_class", "test_per_class", "mistakes", "memory_bytes"}
    return recipe.classification.model_dump(mode="json", exclude=later)
