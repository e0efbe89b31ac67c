"""Training from nothing, part by part: an epoch each, from the state that the last one left.

What a part trains on depends on the seed and the number of the epoch alone: a training that was
killed after any part and goes on ends with the same weights, to the bit, on a CPU.

Where `torch.distributed` is initialised, all its processes call `train_part` with the same
arguments, and `states` is a folder that all of them see: they share every batch, and the first one
writes. Two processes then come to what one does, up to rounding; but batch norm that helps
(`scaffold`) looks at each one's share.
"""

import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from pipeline import networks
from pipeline.config import Pretrain
from pipeline.errors import InputError, RecipeError
from pipeline.extraction import NetworkSpec
from pipeline.networks import Network
from pipeline.networks.whole import require_side
from pipeline.pretraining import states as held_states
from pipeline.pretraining.files import FileImages, Views
from pipeline.pretraining.images import HELD, Images, seeded
from pipeline.pretraining.ranks import Ranks, own_device
from pipeline.pretraining.sums import Outcome
from pipeline.pretraining.training import Progress, side_px, training
from pipeline.store.files import written_aside

NAMED = 1000  # unreadable images that are told by name; more are counted


@dataclass(frozen=True)
class TrainingSpec:
    """Everything that decides the weights; small enough to send anywhere."""

    network: NetworkSpec
    """Trained from nothing where it has no weights; its precision and ranks are for later."""
    images: Path | Images
    """The table of the training images (see `files`); or images in memory, which are not small."""
    classes: int
    settings: Pretrain
    seed: int
    validation: Path | Images | None = None
    """What is measured on; none: a seeded share of the training images, which then trains
    nothing."""
    names: tuple[str, ...] = ()
    """Of the classes, to be kept with the weights; none: they are not known."""

    @property
    def parts(self) -> int:
        """How many parts there are, at most."""
        return self.settings.epochs


@dataclass(frozen=True)
class EpochStats:
    """How a part went."""

    step: int
    """The last of it, from 1."""
    loss: float
    """Mean cross-entropy of its batches, dropout on."""
    accuracy: float
    """Of the same."""
    held_loss: float
    """Of the held-out images after it, dropout off: of their centre crops, at the largest size."""
    held_accuracy: float
    """Share of them whose highest score is their label's."""
    rate: float
    """The learning rate of its last step."""
    side_px: int
    """Of the images of its last step."""
    images: int
    """How many trained."""
    unreadable: int
    """How many images, to train and to measure, could not be read."""
    reasons: dict[str, str]
    """Why, by name: of the first thousand."""
    ended: bool
    """Whether the training ends with it: it was the last, or the accuracy no longer rises."""
    seconds: float


@dataclass(frozen=True)
class _Data:
    """Who trains, and who measures."""

    images: Images
    chosen: Int64[np.ndarray, " chosen"]
    held_images: Images
    held: Int64[np.ndarray, " held"]


def begin(spec: TrainingSpec) -> Network:
    """Return the network before the first step.

    Raises:
        RecipeError: it does not take the sizes, or gives scores of other classes.
        InputError: its weights cannot be read.
    """
    # what the recipe makes narrower or thinner is made so of trained weights
    network = replace(spec.network, precision="float32", fc6_rank=None, fc7_rank=None).load()
    for side in spec.settings.sides_px:
        require_side(network, side)
    if network.head is not None:
        networks.renew_classifier(network, spec.classes, spec.seed)
    elif network.options.get("classes") != spec.classes:
        raise RecipeError(
            f"{network.name} gives scores of {network.options.get('classes')} classes, the images "
            f"have {spec.classes}: give the network's option classes, or fc layers (`added`)"
        )
    return network.eval().requires_grad_(False)


def train_part(
    spec: TrainingSpec, states: Path, part: int, progress: Progress | None = None
) -> EpochStats:
    """Train an epoch from where the part before ended; leave all that the next one needs.

    Args:
        spec: what is trained.
        states: a folder.
        part: number of the epoch, from 0.
        progress: called after each step with its number in the epoch, from 1, and their number.

    Raises:
        RecipeError: network, sizes and classes do not go together.
        InputError: the state before is gone or damaged, training ended with it, images are
            missing, or the loss is no longer finite.
    """
    started, settings, ranks = time.perf_counter(), spec.settings, Ranks.here()
    network, data = begin(spec), _data(spec)
    steps = -(-len(data.chosen) // settings.batch_size)
    with training(network, settings, spec.seed, device=own_device(), ranks=ranks) as at_work:
        colours = held_states.restore(states, part - 1, at_work) if part else None
        if at_work.plateau.ended:
            raise InputError(
                f"this training ended with epoch {part}, as held-out accuracy no longer rose: "
                f"there is no epoch {part + 1}"
            )
        if isinstance(data.images, FileImages) and settings.colour:
            found = colours or data.images.find_colours(data.chosen, settings.colour_images)
            data.images.colours = colours = found
        at_work.connect()
        rate = at_work.rate((part + 1) * steps - 1, steps)
        outcome = at_work.epoch(data.images, data.chosen, part, progress)
        measured = at_work.measure(data.held_images, data.held)
        if settings.schedule == "plateau":
            at_work.plateau = at_work.plateau.after(measured.accuracy, settings)
        unreadable, reasons = _unreadable(data, outcome, measured, ranks)
        if ranks.first:
            held_states.save(states, part, at_work, colours)
        ranks.wait()
        ended = at_work.plateau.ended or part + 1 == spec.parts
    return EpochStats(
        (part + 1) * steps,
        outcome.loss,
        outcome.accuracy,
        measured.loss,
        measured.accuracy,
        rate,
        side_px(settings, part, steps - 1, steps),
        outcome.images,
        unreadable,
        reasons,
        ended,
        time.perf_counter() - started,
    )


@dataclass(frozen=True)
class FinishStats:
    """What `finish` wrote."""

    bytes: int


def finish(spec: TrainingSpec, states: Path, part: int, destination: Path) -> FinishStats:
    """Write the network as it was after a part.

    Raises:
        InputError: the state is gone or damaged, or images are missing.
    """
    network, data = begin(spec), _data(spec)
    with training(network, spec.settings, spec.seed) as at_work:
        held_states.restore(states, part, at_work)
        at_work.finish(data.images, data.chosen, part + 1)
    with written_aside(destination) as aside:
        networks.save(network, aside, spec.names)
    return FinishStats(destination.stat().st_size)


def _data(spec: TrainingSpec) -> _Data:
    images = _opened(spec, spec.images)
    everyone = np.arange(len(images.labels))
    if spec.validation is not None:
        held_images = _opened(spec, spec.validation)
        return _Data(images, everyone, held_images, np.arange(len(held_images.labels)))
    share = spec.settings.held_out
    owners = images.owners
    out = (seeded(spec.seed, HELD).random(owners.max() + 1) < share)[owners]
    for what, count in (("held out", out.sum()), ("left to train", (~out).sum())):
        if not count:
            raise InputError(
                f"of {len(everyone):,} images none is {what} at pretrain.held_out = {share}: give "
                "more images, or another share"
            )
    return _Data(images, everyone[~out], images, everyone[out])


def _opened(spec: TrainingSpec, images: Path | Images) -> Images:
    settings = spec.settings
    if isinstance(images, Path):
        views = Views.of(settings)
        images = FileImages(images, views, seed=spec.seed, threads=settings.decode_threads)
    least, most = int(images.labels.min()), int(images.labels.max())
    if least < 0 or most >= spec.classes:
        raise InputError(
            f"labels of the training images go from {least} to {most}, and there are "
            f"{spec.classes} classes: labels are 0 to {spec.classes - 1}"
        )
    return images


def _unreadable(
    data: _Data, outcome: Outcome, measured: Outcome, ranks: Ranks
) -> tuple[int, dict[str, str]]:
    """Return how many images all processes together could not read, and why: of the first."""
    total, told = 0, dict[str, str]()
    for images, found in ((data.images, outcome), (data.held_images, measured)):
        reasons = dict(found.unreadable)
        if ranks.count > 1:
            flags = torch.zeros(len(images.labels), dtype=torch.int32, device=own_device())
            flags[list(reasons)] = 1
            everywhere = ranks.add(flags).nonzero().flatten().tolist()
            # Of others' images only the indices came: this process looks for their reasons itself.
            others = np.array([k for k in everywhere if k not in reasons][:NAMED], np.int64)
            again = dict(images.plain(others).unreadable)
            reasons = {k: again.get(k, "not readable a moment ago") for k in everywhere} | reasons
        total += len(reasons)
        told |= {images.name(key): reasons[key] for key in sorted(reasons)}
    return total, dict(islice(told.items(), NAMED))
