"""The DAG of detection: which job follows which, and what of the recipe each one reads.

dataset ─► windows_train ─► extract_train ─┬► train ─► mine ─┐
│                           │              └► regress ───────┤   where the recipe regresses boxes
└────────► windows_test ──► extract_test ────────────────────┴► detect ─► evaluate, report
pretrain ───────────────────┘   where the recipe trains its own network
"""

from functools import partial
from types import ModuleType

from jobs import (
    dataset,
    detect,
    evaluate,
    extract,
    mine,
    pool5,
    pretrain,
    regress,
    report,
    train,
    windows,
)
from jobs.dag import Job
from pipeline.config import Recipe


def detection_jobs(recipe: Recipe) -> list[Job]:
    """Return the jobs of a recipe, each after those it needs."""
    first = [Job("dataset", dataset.run, (), dataset.reads)]
    if recipe.network.weights == "pretrain":
        first.append(Job("pretrain", pretrain.run, (), pretrain.reads))
    for split in ("train", "test"):
        first.append(
            Job(f"windows_{split}", partial(windows.run, split), ("dataset",), windows.reads)
        )
    return [
        *first,
        *(_extraction(recipe, split, extract) for split in ("train", "test")),
        *_regression(recipe),
        Job("train", train.run, ("dataset", "extract_train"), train.reads),
        Job("mine", mine.run, ("extract_train", "train"), mine.reads),
        Job("detect", detect.run, detect.needs(recipe), detect.reads),
        Job(
            "evaluate",
            evaluate.run,
            ("dataset", "windows_test", "detect"),
            evaluate.reads,
            evaluate.VERSION,
        ),
        Job("report", report.run, ("dataset", "windows_test", "detect"), report.reads),
    ]


def _extraction(recipe: Recipe, split: str, kind: ModuleType) -> Job:
    """Return the job that makes a store of one image set: the recipe's own, or that of pool5."""
    own = f"extract_{split}"
    trained = ("pretrain",) if recipe.network.weights == "pretrain" else ()
    return Job(
        own if kind is extract else f"pool5_{split}",
        partial(kind.run, split),
        ("dataset", f"windows_{split}", *trained),
        kind.reads,
        extract.VERSION,
        extract.sound,
        own,
    )


def _regression(recipe: Recipe) -> list[Job]:
    if not recipe.regression.enabled:
        return []
    apart = recipe.features.layer != "pool5"
    needs = ("dataset", pool5.name(recipe, "train"))
    return [
        *(_extraction(recipe, split, pool5) for split in ("train", "test") if apart),
        Job("regress", regress.run, needs, regress.reads),
    ]


# What one word on the command line asks for.
TARGETS = {
    "windows": ("windows_train", "windows_test"),
    "extract": ("extract_train", "extract_test"),
    **{
        name: (name,)
        for name in ("pretrain", "train", "mine", "regress", "detect", "evaluate", "report")
    },
    "run": ("evaluate", "report"),
}
