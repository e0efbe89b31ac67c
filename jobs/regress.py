"""Job `regress`: a box regressor for every class, from pool5 of the training windows (SPEC §8)."""

from dataclasses import asdict
from functools import partial
from typing import Any

from jobs import extractions
from jobs.context import Context
from jobs.train import learnt_classes
from pipeline import store
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.learning import box_regressors
from pipeline.learning.box_pairs import PairStats, RegressionSpec, pair_shard
from pipeline.learning.box_regressors import RegressionStats, fit_class

PAIRS, PARTS = "pairs", "parts"


def run(context: Context) -> dict[str, Any]:
    """Write the regressors, and what each class learnt from."""
    recipe, folder = context.recipe, context.folder
    features = store.open(context.store_of(extractions.pool5(recipe, "train")))
    spec = RegressionSpec(
        features,
        learnt_classes(recipe, features),
        recipe.regression,
        recipe.svm.difficult_positives,
        recipe.svm.norm_sample,
        recipe.seed,
    )
    shards = {entry.shard_id: entry.shard_id for entry in spec.store.shards}
    pair = partial(pair_shard, spec, folder=folder / PAIRS)
    paired = context.map("pairs", pair, shards, PairStats).values()
    norm, count = (sum(getattr(s, name) for s in paired) for name in ("norm_sum", "norm_count"))
    scale = recipe.regression.target_norm * count / norm if norm else 1.0
    fit = partial(fit_class, spec, folder / PAIRS, scale, folder / PARTS)
    # By number: a class may be called what no file can.
    numbers = {f"{k:04d}": k for k in range(len(spec.classes))}
    fitted = list(context.map("fit", fit, numbers, RegressionStats).values())
    box_regressors.assemble(spec, folder / PARTS, scale).save(folder)
    return {
        "classes": len(fitted),
        "pairs": sum(each.pairs for each in fitted),
        "error_before": _mean([each.error_before for each in fitted if each.pairs]),
        "error_after": _mean([each.error_after for each in fitted if each.pairs]),
        "scale": scale,
        "history": [asdict(each) for each in fitted],
    }


def reads(recipe: Recipe) -> Any:
    """Return the classes and the settings of the regression."""
    svm = [recipe.svm.difficult_positives, recipe.svm.norm_sample]
    settings = recipe.regression.model_dump(mode="json", exclude={"memory_bytes"})
    return [class_names(recipe.dataset), settings, svm, recipe.seed]


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


if __name__ == "__main__":
    from jobs.cli import main

    main("regress")
