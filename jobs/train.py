"""Job `train`: positives and a seeded sample of negatives, and the first SVM of every class."""

from typing import Any

from jobs.context import Context
from pipeline import store
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.learning import rounds
from pipeline.learning.mining import MiningSpec


def run(context: Context) -> dict[str, Any]:
    """Write the caches of every shard, the weights of every class, and the classifiers."""
    spec = mining_spec(context)
    trained, positives = rounds.start(spec, context.map, context.folder, context.runner.cpus)
    trained.classifiers.save(context.folder)
    return {
        "classes": len(spec.classes),
        "positives": positives,
        "negatives": sum(each.negatives for each in trained.stats),
        "objective": sum(each.objective for each in trained.stats),
        "scale": trained.classifiers.scale,
    }


def mining_spec(context: Context) -> MiningSpec:
    """Return what training and mining tasks need to know."""
    recipe = context.recipe
    features = store.open(context.store_of("extract_train"))
    classes = class_names(recipe.dataset)
    return MiningSpec(features, classes, recipe.svm, recipe.mining, recipe.seed)


def reads(recipe: Recipe) -> Any:
    """Return the classes and the settings of the SVM."""
    return [class_names(recipe.dataset), recipe.svm.model_dump(mode="json"), recipe.seed]


if __name__ == "__main__":
    from jobs.cli import main

    main("train")
