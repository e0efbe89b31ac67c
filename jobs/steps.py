"""The DAG of detection: which job follows which, and what of the recipe each one reads.

dataset ─► windows_train ─► extract_train ─► train ─► mine ─┐
└────► windows_test ──► extract_test ───────────────────┴─► detect ─► evaluate, report
pretrain ─────────────────────┘   where the recipe trains its own network
"""

from functools import partial

from jobs import dataset, detect, evaluate, extract, mine, pretrain, report, train, windows
from jobs.dag import Job
from pipeline.config import Recipe


def detection_jobs(recipe: Recipe) -> list[Job]:
    """Return the jobs of a recipe, each after those it needs."""
    trained = ("pretrain",) if recipe.network.weights == "pretrain" else ()
    first = [Job("dataset", dataset.run, (), dataset.reads)]
    if trained:
        first.append(Job("pretrain", pretrain.run, (), pretrain.reads))
    for split in ("train", "test"):
        first.append(
            Job(f"windows_{split}", partial(windows.run, split), ("dataset",), windows.reads)
        )
    for split in ("train", "test"):
        needs = ("dataset", f"windows_{split}", *trained)
        run = partial(extract.run, split)
        first.append(
            Job(f"extract_{split}", run, needs, extract.reads, extract.VERSION, extract.sound)
        )
    return [
        *first,
        Job("train", train.run, ("dataset", "extract_train"), train.reads),
        Job("mine", mine.run, ("extract_train", "train"), mine.reads),
        Job("detect", detect.run, ("extract_test", "mine"), detect.reads),
        Job("evaluate", evaluate.run, ("dataset", "windows_test", "detect"), evaluate.reads),
        Job("report", report.run, ("dataset", "windows_test", "detect"), report.reads),
    ]


# What one word on the command line asks for.
TARGETS = {
    "windows": ("windows_train", "windows_test"),
    "extract": ("extract_train", "extract_test"),
    **{name: (name,) for name in ("pretrain", "train", "mine", "detect", "evaluate", "report")},
    "run": ("evaluate", "report"),
}
