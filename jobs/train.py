"""Job `train`: positives and a seeded sample of negatives, and the first SVM of every class."""

from typing import Any

from jobs.context import Context
from pipeline import store
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.errors import InputError
from pipeline.learning import rounds
from pipeline.learning.labelling import lost_classes
from pipeline.learning.mining import MiningSpec


def run(context: Context) -> dict[str, Any]:
    """Write the caches of every shard, the weights of every class, and the classifiers."""
    spec = mining_spec(context)
    lost = [name for name in class_names(context.recipe.dataset) if name not in spec.classes]
    for name in lost:
        context.note(f"class {name} is left out: all training images that show it are quarantined")
    trained, positives = rounds.start(spec, context.map, context.folder, context.runner.cpus)
    trained.classifiers.save(context.folder)
    return {
        "classes": len(spec.classes),
        "positives": positives,
        "negatives": sum(each.negatives for each in trained.stats),
        "objective": sum(each.objective for each in trained.stats),
        "scale": trained.classifiers.scale,
        "without": ", ".join(lost),
    }


def mining_spec(context: Context) -> MiningSpec:
    """Return what training and mining tasks need to know."""
    recipe = context.recipe
    features = store.open(context.store_of("extract_train"))
    classes = learnt_classes(recipe, features)
    return MiningSpec(features, classes, recipe.svm, recipe.mining, recipe.seed)


def learnt_classes(recipe: Recipe, features: store.Store) -> tuple[str, ...]:
    """Return the recipe's classes that can be learnt from a store.

    Raises:
        InputError: none can.
    """
    names = class_names(recipe.dataset)
    lost = lost_classes(features, names, recipe.svm.difficult_positives)
    if len(lost) == len(names):
        raise InputError(
            f"all labelled images of {features.root} are quarantined: see spp quarantine "
            f"{recipe.name}, and mend some"
        )
    return tuple(name for name in names if name not in lost)


def reads(recipe: Recipe) -> Any:
    """Return the classes and the settings of the SVM."""
    return [class_names(recipe.dataset), recipe.svm.model_dump(mode="json"), recipe.seed]


if __name__ == "__main__":
    from jobs.cli import main

    main("train")
