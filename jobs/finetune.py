"""Job `finetune`: fc6, fc7 and a new fc8, fine-tuned on pool5 of the training windows (SPEC §9)."""

import operator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jobs import extractions
from jobs.context import Context
from jobs.network import TRAINED_LATER, WEIGHTS, network_content, network_spec
from pipeline import store
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.learning.finetune import FinetuneSpec, PartStats, finish, train_part
from pipeline.learning.finetune_rows import RowStats, label_shard
from pipeline.learning.finetune_states import keep, last
from pipeline.store.reader import Store

LABELS, STATES = "labels", "states"
VERSION = 2  # since then untrained layers find their inputs scaled


def run(context: Context) -> dict[str, Any]:
    """Write the network with the weights that did best on held-out images, and how it learnt."""
    recipe, folder = context.recipe, context.folder
    stores = tuple(store.open(context.store_of(job)) for job in stores_of(recipe))
    labels = tuple(
        tuple(folder / LABELS / f"{number}-{entry.shard_id}.parquet" for entry in each.shards)
        for number, each in enumerate(stores)
    )
    counts = _label(context, stores, labels)
    spec = FinetuneSpec(
        network_spec(recipe, context.inputs.get("pretrain")),
        stores,
        labels,
        class_names(recipe.dataset),
        recipe.finetune,
        recipe.seed + recipe.finetune.seed,
    )
    states, parts = folder / STATES, {f"{part:06d}": part for part in range(spec.parts)}
    train = partial(train_part, spec, states)
    settings, history, best = recipe.finetune, [], 0
    turns = context.in_turn("parts", train, parts, PartStats, settings.threads, settings.gpus)
    for key, stats in turns:
        history.append(stats)
        if stats.held_loss < history[best].held_loss:
            best = parts[key]
        if parts[key] == last(states):  # else it was trained by a run before
            keep(states, [best, parts[key]])
    from pipeline.report.plots import plot_learning, save_figure  # see there

    save_figure(plot_learning(history, best), folder / "learning")
    if last(states) is not None:  # else a run before has come so far
        finish(spec, states, best, folder / WEIGHTS)
        keep(states, [])
    chosen: PartStats = history[best]
    by_counting = 1 - round(settings.batch_size * settings.positive_share) / settings.batch_size
    if chosen.held_accuracy <= by_counting:
        context.note(
            f"held-out windows are told no better ({chosen.held_accuracy:.0%} right) than by "
            f"calling all of them background ({by_counting:.0%}): look at learning.png, and change "
            "finetune.stretches"
        )
    return {
        **counts,
        "steps": settings.steps,
        "chosen_step": chosen.step,
        "held_loss": chosen.held_loss,
        "held_accuracy": chosen.held_accuracy,
        "history": [asdict(stats) for stats in history],
    }


def stores_of(recipe: Recipe) -> list[str]:
    """Return the jobs whose stores are learnt from: images as they are, and mirrored."""
    plain = extractions.pool5(recipe, "train")
    return [plain, "mirrored_train"] if recipe.finetune.mirrored else [plain]


def needs(recipe: Recipe) -> tuple[str, ...]:
    """Return the jobs that must be done before."""
    trained = ("pretrain",) if recipe.network.weights == "pretrain" else ()
    return (*trained, *stores_of(recipe))


def reads(recipe: Recipe) -> Any:
    """Return the classes, the settings of the training, and the weights that it begins with."""
    settings = recipe.finetune.model_dump(mode="json", exclude={"gpus", "schedule", "stretches"})
    schedule = recipe.finetune.schedule_in_force
    network = network_content(recipe, *TRAINED_LATER)
    return [
        class_names(recipe.dataset),
        settings,
        schedule,
        network,
        recipe.features.levels,
        recipe.svm.difficult_positives,
        recipe.seed,
    ]


def _label(
    context: Context, stores: tuple[Store, ...], labels: tuple[tuple[Path, ...], ...]
) -> dict[str, int]:
    """Say of every window what it is learnt as; return how many there are of each kind."""
    recipe = context.recipe
    items = {
        path.stem: partial(
            label_shard,
            each,
            class_names(recipe.dataset),
            recipe.svm.difficult_positives,
            recipe.finetune,
            recipe.seed,
            entry.shard_id,
            path,
        )
        for each, paths in zip(stores, labels, strict=True)
        for entry, path in zip(each.shards, paths, strict=True)
    }
    # Not a function of this module, which would bring torch with it into every worker.
    done = context.map("label", operator.call, items, RowStats).values()
    return {
        "positives": sum(stats.positives for stats in done),
        "background": sum(stats.background for stats in done),
        "held_positives": sum(stats.held_positives for stats in done),
        "held_background": sum(stats.held_background for stats in done),
    }


if __name__ == "__main__":
    from jobs.cli import main

    main("finetune")
