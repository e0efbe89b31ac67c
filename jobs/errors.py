"""Job `errors`: top-1 and top-5 errors of the network's own classifier, by views of test images."""

from functools import partial
from pathlib import Path
from typing import Any

from jobs.context import Context
from jobs.network import network_content, network_spec, outline, weights_content
from pipeline.config import Recipe
from pipeline.config.errors import View
from pipeline.datasets.catalogue import class_names
from pipeline.datasets.labels import read_labels
from pipeline.errors import InputError, RecipeError
from pipeline.evaluation.top_errors import (
    ErrorStats,
    TestImage,
    TestSpec,
    classify,
    error_name,
    errors,
)
from pipeline.evaluation.views import TestViews
from pipeline.networks import PlainZF5, classes_in
from pipeline.networks.whole import takes_any_size
from pipeline.report.tables import markdown

PART = 256  # images a task
TOLD = "errors.txt"


def run(context: Context) -> dict[str, Any]:
    """Return the errors of each view, in 0..1; images that cannot be read are named."""
    recipe = context.recipe
    images = _test_images(context)
    network = network_spec(recipe, context.inputs.get("pretrain"))
    spec = TestSpec(network, _views(recipe), len(class_names(recipe.dataset)), _top(recipe))
    starts = range(0, len(images), PART)
    parts = {f"{start // PART:06d}": images[start : start + PART] for start in starts}
    gpus = recipe.errors.gpus
    answered = context.map("classify", partial(classify, spec), parts, ErrorStats, 1, gpus)
    done = list(answered.values())
    unreadable = {name: reason for stats in done for name, reason in stats.unreadable.items()}
    found = errors(done)
    told = format_errors(found, spec, len(images), len(unreadable))
    (context.folder / TOLD).write_text(told, encoding="utf-8")
    return {"images": len(images) - len(unreadable), **found, "unreadable": unreadable}


def format_errors(found: dict[str, float], spec: TestSpec, images: int, unreadable: int) -> str:
    """Return errors as a table, a line for each view."""
    header = ["view", *(f"top-{k} error" for k in spec.top)]
    rows = [
        [of.kind, *(f"{100 * found[error_name(k, of.kind)]:.2f}" for k in spec.top)]
        for of in spec.views
    ]
    lost = f"; {unreadable:,} could not be read, and count neither way" if unreadable else ""
    sizes = " and ".join(map(str, spec.views[0].scales))
    told = (
        f"In percent of {images - unreadable:,} images at {sizes} px on the shorter side, crops of "
        f"{spec.views[0].crop_px} px{lost}."
    )
    return f"{markdown(header, rows)}\n\n{told}\n"


def _test_images(context: Context) -> tuple[TestImage, ...]:
    """Return the test images.

    Raises:
        InputError: an image shows several classes, or none.
    """
    recipe = context.recipe
    read = read_labels(context.inputs["dataset_test"], class_names(recipe.dataset))
    if read.not_single is not None:
        name, shown = read.not_single
        raise InputError(
            f"image {name} shows {shown} of the classes, and errors are counted where each shows "
            "one: take it out of dataset.test, or measure average precision (spp evaluate)"
        )
    pairs = zip(read.owners.tolist(), read.classes.tolist(), strict=True)
    return tuple(
        TestImage(read.image_ids[owner], Path(read.files[owner]), label) for owner, label in pairs
    )


def require(recipe: Recipe) -> None:
    """Check that the network has errors to count, before anything is trained for them.

    Raises:
        RecipeError: it has none, or not by such views or of these classes.
    """
    reason = why_not(recipe)
    if reason:
        raise RecipeError(reason)
    network = outline(recipe)
    for of in _views(recipe):
        of.require(network)
    classes, known = class_names(recipe.dataset), ()
    if isinstance(recipe.network.weights, Path):
        known = classes_in(recipe.network.weights)
    if known and known != classes:
        odd = next((pair for pair in zip(known, classes, strict=False) if pair[0] != pair[1]), None)
        told = f"{odd[0]!r} stands there for {odd[1]!r}" if odd else "their numbers differ"
        raise RecipeError(
            f"{recipe.network.weights} was trained for {len(known)} classes, and the dataset has "
            f"{len(classes)} that are not the same in order ({told}): set dataset.classes to its "
            f"{', '.join(known[:5])}{', …' if known[5:] else ''}"
        )
    if not _top(recipe):
        raise RecipeError(
            f"errors.top = {list(recipe.errors.top)}, and of {len(classes)} classes the best "
            f"{len(classes)} are always right: give smaller numbers"
        )


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
    if recipe.network.weights == "pretrain" and recipe.dataset.test == recipe.dataset.train:
        return (
            f"dataset.test is {recipe.dataset.test!r}, and so is dataset.train: errors on what was "
            "learnt say nothing; name other images"
        )
    return ""


def _views(recipe: Recipe) -> tuple[TestViews, ...]:
    """Return the views that are judged, as the network's own training was where nothing is said."""
    settings, network = recipe.errors, outline(recipe)
    side, scale = TestViews.crop_px, TestViews.scales[0]
    if isinstance(network, PlainZF5):
        side, scale = network.image_px, round(network.image_px * scale / side)
    if recipe.network.weights == "pretrain":
        side, scale = max(recipe.pretrain.sides_px), recipe.pretrain.resized_px
    whole: tuple[View, ...] = ("full", "8+2") if takes_any_size(network) else ()
    kinds = settings.views or ("crop", "10", *whole)
    scales, crop_px = settings.scales or (scale,), settings.crop_px or side
    return tuple(TestViews(kind, scales, crop_px) for kind in kinds)


def _top(recipe: Recipe) -> tuple[int, ...]:
    classes = len(class_names(recipe.dataset))
    return tuple(k for k in recipe.errors.top if k < classes)


def needs(recipe: Recipe) -> tuple[str, ...]:
    """Return the jobs that must be done before."""
    return ("dataset_test", *(("pretrain",) if recipe.network.weights == "pretrain" else ()))


def reads(recipe: Recipe) -> Any:
    """Return the classes, the views, and the network with the content of its weights."""
    views = recipe.errors.model_dump(mode="json", exclude={"gpus"})
    network = [network_content(recipe), weights_content(recipe)]
    return [class_names(recipe.dataset), views, *network, recipe.features.levels, recipe.seed]


if __name__ == "__main__":
    from jobs.cli import main

    main("errors")
