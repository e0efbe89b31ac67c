"""Training a whole network from nothing, on labelled crops of one or several sizes (SPEC §10)."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from pipeline.errors import InputError
from pipeline.learning.scaffold import Scaffold
from pipeline.networks.network import Network
from pipeline.threads import torch_threads

# Gradients longer than this are shortened; those of a calm step measured 3 to 5. Without a limit
# one bad batch in the steep first steps silences ReLUs for good.
_LARGEST_GRADIENT_NORM = 5.0


_SAMPLE = 512  # crops whose statistics replace batch norm's moving ones


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
    epochs: int = 8,
    batch_size: int = 32,
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    flips: bool = False,
    dropout: float | int = 0.5,
    scaffold: bool = True,
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> PretrainReport:
    """Fit ``network`` to ``crops`` in place by SGD; it is back in evaluation mode afterwards.

    With several ``sides_px`` each epoch sees one size, in turn, and one set of weights learns all
    of them: every epoch resizes the same crops. The learning rate rises over the first tenth of
    the steps and then falls to zero along a cosine. With the same arguments, thread count
    included, the same weights result on one kind of machine.

    Args:
        network: any that gives class scores, untrained or not.
        crops: RGB, one object (or none) each.
        labels: class index of each crop.
        sides_px: sizes to train at; empty for the crops' own.
        epochs: passes over all crops.
        batch_size: crops a step.
        learning_rate: its highest value.
        momentum: of SGD.
        weight_decay: on weights; biases are left alone.
        flips: whether each crop is mirrored with probability 1/2.
        dropout: of the fc layers.
        scaffold: whether batch norm helps while training; it is folded into the weights at the end.
        seed: of order, flips and dropout; torch's global random state is put back afterwards.
        threads: of torch, while this runs.
        progress: called after each epoch with its number, from 1, and its mean loss.

    Raises:
        InputError: no crops, labels that do not fit them, or a loss that is no longer finite.
    """
    targets = _require_labels(crops, labels)
    started = time.perf_counter()
    total = epochs * -(-len(crops) // batch_size)
    losses: list[float] = []
    accuracy = 0.0
    sides = tuple(sides_px) or (crops.shape[1],)
    with _training(network, dropout, seed, threads):
        norms = Scaffold(network) if scaffold else None
        optimizer = _optimizer(network, norms, learning_rate, momentum, weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=learning_rate, total_steps=total, pct_start=0.1, cycle_momentum=False
        )
        # One set of weights is left in the end, with statistics between those of the sizes: with
        # several, the last epochs learn to live with them.
        settled = epochs - epochs // 3 if len(sides) > 1 else epochs
        for epoch in range(epochs):
            side = sides[epoch % len(sides)]
            if norms is not None and epoch == settled:
                _settle(norms, network, crops, sides)
            loss_sum, right = 0.0, 0
            for batch in _batches(len(crops), batch_size):
                images = _images(network, crops[batch.numpy()], side, flips)
                loss, hits = _step(network, optimizer, images, targets[batch])
                schedule.step()
                loss_sum, right = loss_sum + loss * len(batch), right + hits
            losses.append(loss_sum / len(crops))
            accuracy = right / len(crops)
            _require_finite(losses[-1], epoch, learning_rate)
            if progress is not None:
                progress(epoch + 1, losses[-1])
        if norms is not None:
            if settled == epochs:
                _settle(norms, network, crops, sides)
            norms.fold()
    return PretrainReport(tuple(losses), accuracy, time.perf_counter() - started)


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
            images = _images(network, crops[part], side_px or crops.shape[1], flips=False)
            right += int((network.logits(images).argmax(1) == targets[part]).sum())
    return right / len(crops)


def _settle(
    norms: Scaffold,
    network: Network,
    crops: UInt8[np.ndarray, "crops side side 3"],
    sides: Sequence[int],
) -> None:
    """Fix the statistics at their means over a sample in every size."""
    sample = crops[torch.randperm(len(crops))[:_SAMPLE].numpy()]
    norms.estimate(network, (_images(network, sample, side, flips=False) for side in sides))
    network.train()
    norms.freeze()


def _step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    images: Float[Tensor, "batch 3 side side"],
    targets: Int64[Tensor, " batch"],
) -> tuple[float, int]:
    scores = network.logits(images)
    loss = functional.cross_entropy(scores, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT_NORM)
    optimizer.step()
    return loss.item(), int((scores.argmax(1) == targets).sum())


def _images(
    network: Network, crops: UInt8[np.ndarray, "batch rows cols 3"], side: int, flips: bool
) -> Float[Tensor, "batch 3 side side"]:
    """One preprocessed batch; resized as tensors because crops of one size go through at once."""
    tall = crops.reshape(-1, crops.shape[2], 3).astype(np.float32)
    images = network.preprocessing.apply(tall).unflatten(1, (len(crops), -1)).transpose(0, 1)
    if side != crops.shape[1]:
        images = functional.interpolate(
            images, size=(side, side), mode="bilinear", antialias=side < crops.shape[1]
        )
    if flips:
        mirrored = torch.rand(len(crops)) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images.contiguous(memory_format=torch.channels_last)


def _batches(count: int, batch_size: int) -> Iterator[Int[Tensor, " batch"]]:
    return iter(torch.randperm(count).split(batch_size))


def _optimizer(
    network: Network,
    norms: Scaffold | None,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> torch.optim.SGD:
    """SGD; biases and batch norm do not decay."""
    parameters = [*network.parameters(), *(norms.parameters() if norms else ())]
    decaying = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
    others = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    return torch.optim.SGD([decaying, others], lr=learning_rate, momentum=momentum)


@contextmanager
def _training(network: Network, dropout: float | int, seed: int, threads: int) -> Iterator[None]:
    """Training mode with seeded randomness; all of it is put back, whatever happens inside."""
    dropout_before = network.dropout
    network.dropout = float(dropout)
    network.train().requires_grad_(True)
    try:
        with torch_threads(threads), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
            yield
    finally:
        network.eval().requires_grad_(False)
        network.zero_grad(set_to_none=True)
        network.dropout = dropout_before


def _require_labels(
    crops: UInt8[np.ndarray, "crops side side 3"], labels: ArrayLike
) -> Int64[Tensor, " crops"]:
    targets = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    if len(crops) == 0 or targets.shape != (len(crops),):
        raise InputError(
            f"{len(crops)} crops with labels of shape {tuple(targets.shape)}: "
            "give one label for each of at least one crop"
        )
    return targets


def _require_finite(loss: float, epoch: int, learning_rate: float) -> None:
    if not np.isfinite(loss):
        raise InputError(
            f"training diverged in epoch {epoch + 1} (loss {loss}): "
            f"lower the learning rate from {learning_rate}"
        )
