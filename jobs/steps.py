"""The DAG of detection: which job follows which, and what of the recipe each one reads.

dataset ─► windows_train ─► extract_train ─► train ─► mine ─┐
└────────► windows_test ──► extract_test ───────────────────┴─► detect ─► evaluate, report
pretrain ───────────────────┘   where the recipe trains its own network

Where it regresses boxes, `regress` comes between the training store of pool5 and `detect`. That is
`extract_train`, or where classifiers read another layer `pool5_train`; `detect` then needs
`pool5_test`, too.
"""

from functools import partial

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
from pipeline.errors import RecipeError


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
        *(
            _extraction(recipe, split, kind)
            for kind in pool5.extractions(recipe)
            for split in ("train", "test")
        ),
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


def _extraction(recipe: Recipe, split: str, kind: str) -> Job:
    """Return the job that makes a store of one image set: the recipe's own, or that of pool5."""
    module = {"extract": extract, "pool5": pool5}[kind]
    trained = ("pretrain",) if recipe.network.weights == "pretrain" else ()
    return Job(
        f"{kind}_{split}",
        partial(module.run, split),
        ("dataset", f"windows_{split}", *trained),
        module.reads,
        extract.VERSION,
        extract.sound,
        f"extract_{split}",
    )


def _regression(recipe: Recipe) -> list[Job]:
    if not recipe.regression.enabled:
        return []
    needs = ("dataset", pool5.name(recipe, "train"))
    return [Job("regress", regress.run, needs, regress.reads)]


def targets(recipe: Recipe, word: str) -> tuple[str, ...]:
    """Return the jobs that a word on the command line asks for.

    Raises:
        RecipeError: the recipe has no such job.
    """
    if word == "regress" and not recipe.regression.enabled:
        raise RecipeError(f"{recipe.name} regresses no boxes: set regression.enabled = true")
    if word == "extract":
        kinds = pool5.extractions(recipe)
        return tuple(f"{kind}_{split}" for kind in kinds for split in ("train", "test"))
    return TARGETS[word]


# What one word on the command line asks for, of any recipe.
TARGETS = {
    "windows": ("windows_train", "windows_test"),
    "extract": ("extract_train", "extract_test"),
    **{
        name: (name,)
        for name in ("pretrain", "train", "mine", "regress", "detect", "evaluate", "report")
    },
    "run": ("evaluate", "report"),
}
