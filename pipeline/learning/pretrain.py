"""Training a whole network from nothing, on labelled crops of one or several sizes (SPEC §10)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import ArrayLike

from pipeline.config import Pretrain
from pipeline.errors import InputError
from pipeline.networks.network import Network
from pipeline.networks.whole import class_scores
from pipeline.pretraining.images import CropImages
from pipeline.pretraining.pixels import at_size, preprocessed
from pipeline.pretraining.training import training


@dataclass(frozen=True)
class PretrainReport:
    """What training went like.

    Attributes:
        losses: mean cross-entropy of each epoch.
        accuracy: of the last epoch's training batches, in 0..1, with dropout on.
        seconds: wall-clock time.
    """

    losses: tuple[float, ...]
    accuracy: float
    seconds: float


def pretrain(
    network: Network,
    crops: UInt8[np.ndarray, "crops side side 3"],
    labels: ArrayLike,
    *,
    sides_px: Sequence[int] = (),
    mix: Literal["epoch", "batch"] = "epoch",
    epochs: int = 8,
    batch_size: int = 32,
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    flips: bool = False,
    dropout: float | int = 0.5,
    scaffold: bool = True,
    precision: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> PretrainReport:
    """Fit ``network`` to ``crops`` in place by SGD; it is back in evaluation mode afterwards.

    With several ``sides_px`` one set of weights learns all of them, in turn: the same crops are
    resized. The learning rate rises over the first tenth of
    the steps and then falls to zero along a cosine. With the same arguments, thread count
    included, the same weights result on one kind of machine.

    Args:
        network: any that gives class scores, untrained or not.
        crops: RGB, one object (or none) each.
        labels: class index of each crop.
        sides_px: sizes to train at; empty for the crops' own.
        mix: whether sizes alternate epoch by epoch or batch by batch.
        epochs: passes over all crops.
        batch_size: crops a step.
        learning_rate: its highest value.
        momentum: of SGD.
        weight_decay: on weights; biases are left alone.
        flips: whether each crop is mirrored with probability 1/2.
        dropout: of the fc layers.
        scaffold: whether batch norm helps while training; it is folded into the weights at the end.
        precision: of products and convolutions; weights are in float32.
        seed: of order, flips and dropout; torch's global random state is put back afterwards.
        threads: of torch, while this runs.
        progress: called after each epoch with its number, from 1, and its mean loss.

    Raises:
        InputError: no crops, labels that do not fit them, or a loss that is no longer finite.
    """
    targets = _require_labels(crops, labels)
    started = time.perf_counter()
    settings = Pretrain(
        sides_px=tuple(sides_px) or (crops.shape[1],),
        mix=mix,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        dropout=dropout,
        scaffold=scaffold,
        precision=precision,
        threads=threads,
    )
    images, chosen = CropImages(crops, targets, flips=flips, seed=seed), np.arange(len(crops))
    losses: list[float] = []
    reached = 0.0
    with training(network, settings, seed) as at_work:
        for epoch in range(epochs):
            outcome = at_work.epoch(images, chosen, epoch)
            losses.append(outcome.loss)
            reached = outcome.accuracy
            if progress is not None:
                progress(epoch + 1, outcome.loss)
        at_work.finish(images, chosen, epochs)
    return PretrainReport(tuple(losses), reached, time.perf_counter() - started)


def accuracy(
    network: Network,
    crops: UInt8[np.ndarray, "crops side side 3"],
    labels: ArrayLike,
    *,
    side_px: int | None = None,
    batch_size: int = 64,
) -> float:
    """Share of ``crops`` whose highest class score is their label's.

    Raises:
        InputError: no crops, or labels that do not fit them.
    """
    targets = _require_labels(crops, labels)
    right = 0
    with torch.inference_mode():
        for start in range(0, len(crops), batch_size):
            part = slice(start, start + batch_size)
            ready = preprocessed(network.preprocessing, crops[part])
            scores = class_scores(network, at_size(ready, side_px or crops.shape[1]))
            right += int((scores.argmax(1).numpy() == targets[part]).sum())
    return right / len(crops)


def _require_labels(
    crops: UInt8[np.ndarray, "crops side side 3"], labels: ArrayLike
) -> Int64[np.ndarray, " crops"]:
    targets = np.asarray(labels, dtype=np.int64)
    if len(crops) == 0 or targets.shape != (len(crops),):
        raise InputError(
            f"{len(crops)} crops with labels of shape {targets.shape}: "
            "give one label for each of at least one crop"
        )
    return targets
