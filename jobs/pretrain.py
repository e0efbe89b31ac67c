"""Job `pretrain`: train the recipe's own network from nothing."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jobs.context import Context
from jobs.network import TRAINED_LATER, WEIGHTS, network_content, network_spec
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.datasets.labels import read_labels
from pipeline.errors import InputError
from pipeline.learning.pretrain_digits import PretrainSpec, PretrainStats, pretrain_digits
from pipeline.pretraining import (
    EpochStats,
    FinishStats,
    TrainingSpec,
    finish,
    keep,
    last,
    train_part,
    train_remaining,
    write_table,
)
from pipeline.pretraining.files import BOX

TABLE, STATES = "crops.parquet", "states"


def run(context: Context) -> dict[str, Any]:
    """Write `network.safetensors`; of image files also how it learnt."""
    recipe = context.recipe
    if recipe.dataset.kind != "digits":
        return _train_on_files(context)
    spec = PretrainSpec(recipe.network, recipe.features.levels, recipe.pretrain, recipe.seed)
    train = partial(pretrain_digits, spec, context.folder / WEIGHTS)
    settings = recipe.pretrain
    done = context.in_steps("epochs", train, settings.epochs, PretrainStats, settings.threads)
    return asdict(done)


def _train_on_files(context: Context) -> dict[str, Any]:
    """Train epoch by epoch, each from the state that the last one left.

    With several workers on several machines, the run directory is one that all of them see.
    """
    recipe, folder, settings = context.recipe, context.folder, context.recipe.pretrain
    trained_on = _write_crops(context, folder / TABLE)
    counted = "objects" if recipe.task == "detection" else "images"
    spec = training_spec(recipe, folder)
    states, history = folder / STATES, list[EpochStats]()
    with closing(_epochs(context, spec, states)) as epochs:
        for _, stats in epochs:
            # Several processes may be ahead already, and those after it are theirs.
            keep(states, range(len(history), spec.parts))
            history.append(stats)
            if stats.ended:
                break
    from pipeline.report.plots import plot_learning, save_figure  # see there

    save_figure(plot_learning(history, len(history) - 1, "images"), folder / "learning")
    if last(states) is not None:  # else a run before has come so far
        save = partial(finish, spec, states, destination=folder / WEIGHTS)
        context.map("save", save, {"network": len(history) - 1}, FinishStats, settings.threads)
        keep(states, [])
    end = history[-1]
    return {
        counted: trained_on - end.unreadable,
        "quarantined": end.unreadable,
        "epochs": len(history),
        "loss": end.loss,
        "held_loss": end.held_loss,
        "held_accuracy": end.held_accuracy,
        "unreadable": end.reasons,
        "history": [asdict(stats) for stats in history],
    }


def training_spec(recipe: Recipe, folder: Path) -> TrainingSpec:
    """Return everything that decides the weights, with the training images in a folder."""
    names, seed = class_names(recipe.dataset), recipe.seed + recipe.pretrain.seed
    network = replace(network_spec(recipe, None), seed=seed)  # what it begins with goes by it, too
    return TrainingSpec(network, folder / TABLE, len(names), recipe.pretrain, seed, names=names)


def _epochs(
    context: Context, spec: TrainingSpec, states: Path
) -> Generator[tuple[str, EpochStats]]:
    """Yield how each epoch went: of one process, or of several that share every batch."""
    settings = spec.settings
    parts = {f"{part:06d}": part for part in range(spec.parts)}
    cpus, gpus, workers = settings.threads, settings.gpus, settings.workers
    if workers == 1:
        train = partial(train_part, spec, states)
        return context.in_turn("epochs", train, parts, EpochStats, cpus, gpus)
    train = partial(train_remaining, spec, states)
    return context.together("epochs", train, list(parts), EpochStats, workers, cpus, gpus)


def _write_crops(context: Context, path: Path) -> int:
    """Write what is trained on: whole images by their class, or each object's part of its image."""
    recipe, dataset = context.recipe, context.inputs["dataset_train"]
    read = read_labels(dataset, class_names(recipe.dataset))
    if not len(read.objects):
        raise InputError(
            f"no image of {recipe.dataset.train!r} shows a class: there is nothing to train on"
        )
    if recipe.task == "classification" and len(np.unique(read.owners)) < len(read.owners):
        raise InputError(
            "some training image shows several classes, and a network that is trained from nothing "
            "learns one of each: name a weights file instead"
        )
    files, names = ([each[owner] for owner in read.owners] for each in (read.files, read.image_ids))
    boxes = None
    if recipe.task == "detection":
        boxes = np.stack([read.objects[name].to_numpy() for name in BOX], axis=1)
    write_table(path, files, read.classes, boxes, names)
    return len(files)


def needs(recipe: Recipe) -> tuple[str, ...]:
    """Return the jobs that must be done before: digits are made on the spot."""
    return () if recipe.dataset.kind == "digits" else ("dataset_train",)


def reads(recipe: Recipe) -> Any:
    """Return the network's shape and its training."""
    network = network_content(recipe, *TRAINED_LATER)
    training = recipe.pretrain.model_dump(mode="json", exclude={"gpus", "decode_threads"})
    content = [network, recipe.features.levels, training, recipe.seed]
    if recipe.dataset.kind == "digits":
        return content
    return [*content, recipe.task, class_names(recipe.dataset)]


if __name__ == "__main__":
    from jobs.cli import main

    main("pretrain")
