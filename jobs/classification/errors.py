"""Job `errors`: top-1 and top-5 errors of the network's own classifier, by views of test images."""

from pathlib import Path
from typing import Any

from jobs.context import Context
from jobs.network import network_spec, outline, require_weights, weights_content
from pipeline.config import Recipe
from pipeline.config.errors import View
from pipeline.datasets.catalogue import class_names
from pipeline.datasets.labelled import read_labels
from pipeline.errors import InputError
from pipeline.evaluation import top_errors
from pipeline.evaluation.top_errors import ErrorStats, TestSpec
from pipeline.evaluation.views import TestViews
from pipeline.networks.whole import takes_any_size

PART = 128  # images a task
SCALE, CROP_PX = 256, 224  # paper §3.1


def run(context: Context) -> dict[str, Any]:
    """Return the errors of each view, in 0..1; images that cannot be read are named."""
    recipe = context.recipe
    classes = len(class_names(recipe.dataset))
    images = _labelled(context)
    network = network_spec(recipe, context.inputs.get("pretrain"))
    top = tuple(k for k in recipe.errors.top if k < classes)
    specs = {kind: TestSpec(network, of, classes, top) for kind, of in views_of(recipe).items()}
    parts = [images[start : start + PART] for start in range(0, len(images), PART)]
    items = {
        f"{kind}-{number:06d}": (spec, part)
        for kind, spec in specs.items()
        for number, part in enumerate(parts)
    }
    done = context.map("classify", _classify, items, ErrorStats, gpus=recipe.errors.gpus)
    by_view = {
        kind: [stats for key, stats in done.items() if key.rpartition("-")[0] == kind]
        for kind in specs
    }
    first = next(iter(by_view.values()))
    summary: dict[str, Any] = {"images": sum(one.images for one in first)}
    for kind, stats in by_view.items():
        for k, error in zip(top, top_errors.errors(stats), strict=True):
            summary[error_name(k, kind)] = error
    told = [text.partition(": ") for one in first for text in one.unreadable]
    return summary | {"unreadable": {name: reason for name, _, reason in told}}


def error_name(k: int, kind: str) -> str:
    """Return how an error is called in the job's summary.

    >>> error_name(1, "10")
    'top-1 error of 10'
    """
    return f"top-{k} error of {kind}"


def _classify(item: tuple[TestSpec, tuple[tuple[Path, int], ...]]) -> ErrorStats:
    return top_errors.classify(*item)


def _labelled(context: Context) -> tuple[tuple[Path, int], ...]:
    """Return the test images, each with its class.

    Raises:
        InputError: an image shows several classes, or none.
    """
    recipe = context.recipe
    read = read_labels(context.inputs["dataset"], recipe.dataset.test, class_names(recipe.dataset))
    if read.odd_one is not None:
        name, shown = read.odd_one
        raise InputError(
            f"image {name} shows {shown} of the classes, and errors are counted where each shows "
            "one: of others spp evaluate measures average precision"
        )
    pairs = zip(read.owners.tolist(), read.classes.tolist(), strict=True)
    return tuple((Path(read.files[owner]), label) for owner, label in pairs)


def views_of(recipe: Recipe) -> dict[View, TestViews]:
    """Return the views that are judged.

    Raises:
        RecipeError: the network does not take them.
    """
    settings, network = recipe.errors, outline(recipe)
    trained = recipe.pretrain if recipe.network.weights == "pretrain" else None
    scale, side = (trained.resized_px, max(trained.sides_px)) if trained else (SCALE, CROP_PX)
    scales, crop_px = settings.scales or (scale,), settings.crop_px or side
    whole: tuple[View, ...] = ("full", "8+2") if takes_any_size(network) else ()
    kinds: tuple[View, ...] = settings.views or ("crop", "10", *whole)
    made: dict[View, TestViews] = {kind: TestViews(kind, scales, crop_px) for kind in kinds}
    for of in made.values():
        of.require(network)
    return made


def why_not(recipe: Recipe) -> str:
    """Say why the recipe's network has no errors to count; nothing: it has."""
    if recipe.task == "detection":
        return (
            f"{recipe.name} detects objects in windows, and errors are of classifying images: set "
            'task = "classification"'
        )
    if recipe.network.weights == "random":
        return (
            f"{recipe.name} has an untrained network, whose errors say nothing: name a weights "
            'file, or set network.weights = "pretrain"'
        )
    if recipe.network.upto is not None:
        return (
            f"network.upto ends the network at {recipe.network.upto}, before its classifier: leave "
            "it out"
        )
    if recipe.classification.random_splits:
        return (
            "classification.random_splits judges by parts of the training images, which the "
            "network may have learnt: set it to 0, with dataset.test"
        )
    return ""


def needs(recipe: Recipe) -> tuple[str, ...]:
    """Return the jobs that must be done before."""
    return ("dataset", *(("pretrain",) if recipe.network.weights == "pretrain" else ()))


def reads(recipe: Recipe) -> Any:
    """Return the classes, the views, and the network with the content of its weights.

    Raises:
        RecipeError: there are no such weights, or the network does not take such views.
    """
    require_weights(recipe)
    made = [[kind, of.scales, of.crop_px] for kind, of in views_of(recipe).items()]
    network = recipe.network.model_dump(mode="json", exclude={"weights"}, exclude_none=True)
    held = weights_content(recipe)
    return [class_names(recipe.dataset), made, recipe.errors.top, network, held, recipe.seed]
