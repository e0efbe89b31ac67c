"""Job `train`: positives and a seeded sample of negatives, and the first SVM of every class."""

from functools import partial
from pathlib import Path
from typing import Any

from jobs.context import Context
from jobs.extract import STORE
from pipeline import store
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.mining import (
    FitStats,
    MiningSpec,
    StartStats,
    assemble,
    fit_class,
    require_positives,
    start_shard,
)

CACHES, FITS = "caches", "fits"


def run(context: Context) -> dict[str, Any]:
    """Write the caches of every shard, the weights of every class, and the classifiers."""
    spec = mining_spec(context)
    start = partial(start_shard, spec, caches=context.folder / CACHES)
    shards = {record.shard_id: record.shard_id for record in spec.store.records}
    started = list(context.map("sample", start, shards, StartStats).values())
    positives = [sum(each) for each in zip(*(stats.positives for stats in started), strict=True)]
    require_positives(spec, positives)
    norms = sum(stats.norm_sum for stats in started), sum(stats.norm_count for stats in started)
    scale = spec.svm.target_norm * norms[1] / norms[0] if norms[0] else 1.0
    fits = fit(context, spec, "fit", context.folder / CACHES, scale, range(len(spec.classes)))
    stats = [fits[k] for k in range(len(spec.classes))]
    save(context, spec, scale, [context.folder / FITS / "fit"] * len(stats), stats)
    return {
        "classes": len(spec.classes),
        "positives": sum(positives),
        "negatives": sum(each.negatives for each in stats),
        "objective": sum(each.objective for each in stats),
        "scale": scale,
    }


def fit(
    context: Context,
    spec: MiningSpec,
    label: str,
    caches: Path,
    scale: float,
    classes: Any,
) -> dict[int, FitStats]:
    """Train some classes on the caches; their weights land in `fits/<label>/<class index>`."""
    weights = context.folder / FITS / label
    train = partial(fit_class, spec, caches=caches, scale=scale, folder=weights)
    done = context.map(label, train, {str(k): k for k in classes}, FitStats)
    return {int(k): stats for k, stats in done.items()}


def save(
    context: Context, spec: MiningSpec, scale: float, fits: list[Path], stats: list[FitStats]
) -> Classifiers:
    """Join the classes' weights into one set of classifiers in the job's folder."""
    classifiers = assemble(spec, scale, fits, stats)
    classifiers.save(context.folder)
    return classifiers


def mining_spec(context: Context) -> MiningSpec:
    """Return what training and mining tasks need to know."""
    recipe = context.recipe
    features = store.open(context.inputs["extract_train"] / STORE)
    classes = class_names(recipe.dataset)
    return MiningSpec(features, classes, recipe.svm, recipe.mining, recipe.seed)


def reads(recipe: Recipe) -> Any:
    """Return the classes and the settings of the SVM."""
    return [class_names(recipe.dataset), recipe.svm.model_dump(mode="json"), recipe.seed]


if __name__ == "__main__":
    from jobs.cli import main

    main("train")
