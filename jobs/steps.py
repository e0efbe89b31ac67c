"""The DAGs of both tasks: which job follows which, and what of the recipe each one reads.

dataset_train ─► windows_train ─► extract_train ─► train ─► mine ─┐
dataset_test ──► windows_test ──► extract_test ───────────────────┴─► detect ─► evaluate, report

Where the recipe trains its own network, `pretrain` comes before the extractions; it needs
`dataset_train`, but for the digits, which it makes. `errors` judges that network on `dataset_test`.
Nothing on the way to classifiers reads `dataset_test`.

Classification goes the same way as far as the two stores:

extract_train ─► train ─┐                    with random splits `evaluate` trains for each of them,
extract_test ───────────┴─► evaluate, report on parts of extract_train, and there is no other store

Where it regresses boxes, `regress` comes between the training store of pool5 and `detect`. That is
`extract_train`, or where classifiers read another layer `pool5_train`; `detect` then needs
`pool5_test`, too.

Where the layer is fine-tuned, `finetune` comes between `pool5_train` with `mirrored_train`, and the
two extractions.
"""

from functools import partial

from jobs import (
    dataset,
    detect,
    errors,
    evaluate,
    extract,
    extractions,
    finetune,
    mine,
    pretrain,
    regress,
    report,
    train,
    windows,
)
from jobs.classification import evaluate as evaluate_images
from jobs.classification import report as report_images
from jobs.classification import train as train_images
from jobs.job import Job
from pipeline.config import Recipe
from pipeline.errors import RecipeError


def jobs_of(recipe: Recipe) -> list[Job]:
    """Return the jobs of a recipe, each after those it needs."""
    first: list[Job] = []
    for role in recipe.roles:
        run, reads = (partial(each, role) for each in (dataset.run, dataset.reads))
        first.append(Job(f"dataset_{role}", run, (), reads, shares="dataset"))
    if recipe.network.weights == "pretrain":
        first.append(Job("pretrain", pretrain.run, pretrain.needs(recipe), pretrain.reads))
    for role in recipe.roles:
        work, needs = partial(windows.run, role), (f"dataset_{role}",)
        first.append(Job(f"windows_{role}", work, needs, windows.reads))
    if not recipe.dataset.has_labels:
        return [*first, *_extractions(recipe)]
    own = _classification if recipe.task == "classification" else _detection
    return [*first, *_extractions(recipe), *own(recipe)]


def _detection(recipe: Recipe) -> list[Job]:
    return [
        *_regression(recipe),
        Job("train", train.run, ("extract_train",), train.reads),
        Job("mine", mine.run, ("extract_train", "train"), mine.reads),
        Job("detect", detect.run, detect.needs(recipe), detect.reads),
        *judging(("dataset_test", "windows_test", "detect")),
    ]


def _classification(recipe: Recipe) -> list[Job]:
    judged, shown = evaluate_images.needs(recipe), report_images.needs(recipe)
    return [
        *_errors(recipe),
        Job("train", train_images.run, ("extract_train",), train_images.reads),
        Job("evaluate", evaluate_images.run, judged, evaluate_images.reads),
        Job("report", report_images.run, shown, report_images.reads, report_images.VERSION),
    ]


def _errors(recipe: Recipe) -> list[Job]:
    """Return the job that judges the network's own classifier, if it has one."""
    if errors.why_not(recipe):
        return []
    return [Job("errors", errors.run, errors.needs(recipe), errors.reads)]


def judging(needs: tuple[str, ...]) -> list[Job]:
    """Return the jobs that tell how good detections are."""
    return [
        Job("evaluate", evaluate.run, needs, evaluate.reads, evaluate.VERSION),
        Job("report", report.run, (*needs, "evaluate"), report.reads, report.VERSION),
    ]


def _extractions(recipe: Recipe) -> list[Job]:
    """Return the jobs that make stores, and the fine-tuning between them."""
    made = {each.job: _extraction(recipe, each) for each in extractions.extractions(recipe)}
    if not recipe.features.fine_tuned:
        return list(made.values())
    first = [job for name, job in made.items() if not name.startswith("extract_")]
    tune = Job("finetune", finetune.run, finetune.needs(recipe), finetune.reads, finetune.VERSION)
    return [*first, tune, made["extract_train"], made["extract_test"]]


def _extraction(recipe: Recipe, each: extractions.Extraction) -> Job:
    before = ("pretrain",) if recipe.network.weights == "pretrain" else ()
    if each.recipe.features.fine_tuned:
        before = ("finetune",)
    return Job(
        each.job,
        partial(extractions.run, each.kind, each.role),
        (f"dataset_{each.role}", f"windows_{each.role}", *before),
        partial(extractions.reads, each.kind),
        extract.VERSION,
        extract.sound,
        f"extract_{each.role}",
    )


def _regression(recipe: Recipe) -> list[Job]:
    if not recipe.regression.enabled:
        return []
    return [Job("regress", regress.run, (extractions.pool5(recipe, "train"),), regress.reads)]


def targets(recipe: Recipe, word: str) -> tuple[str, ...]:
    """Return the jobs that a word on the command line asks for, or `dataset`: all image sets.

    Raises:
        RecipeError: the recipe has no such job.
    """
    if recipe.task == "classification" and word in ("mine", "regress", "detect", "finetune"):
        raise RecipeError(
            f"{recipe.name} classifies whole images, and {word} is of detection: its commands are "
            "pretrain, extract, train, errors, evaluate, report and run"
        )
    if word == "errors":
        errors.require(recipe)
    if not recipe.dataset.has_labels and word not in ("dataset", "windows", "extract", "run"):
        raise RecipeError(
            f"{recipe.name} has images that nobody has labelled, and {word} needs labels: its "
            f"commands are windows, extract and run; then `spp new CLASS RECIPE:train` teaches "
            "classes by examples"
        )
    if word in ("dataset", "windows"):
        return tuple(f"{word}_{role}" for role in recipe.roles)
    if word == "regress" and not recipe.regression.enabled:
        raise RecipeError(f"{recipe.name} regresses no boxes: set regression.enabled = true")
    if word == "finetune" and not recipe.features.fine_tuned:
        raise RecipeError(f"{recipe.name} fine-tunes nothing: set features.layer to ftfc6 or ftfc7")
    if word == "extract" or not recipe.dataset.has_labels:
        return tuple(each.job for each in extractions.extractions(recipe))
    return TARGETS[word]


# What one word on the command line asks for, of any recipe.
TARGETS = {
    "windows": ("windows_train", "windows_test"),
    "extract": ("extract_train", "extract_test"),
    **{
        name: (name,)
        for name in (
            *("pretrain", "finetune", "train", "mine"),
            *("regress", "detect", "errors", "evaluate", "report"),
        )
    },
    "run": ("evaluate", "report"),
}
