"""Fine-tuning the fc layers on stored pool5 (SPEC §9): part by part, each from what the last left.

What a part trains on depends on the seed and the number of the step alone: a run that was killed
and goes on ends with the same weights, to the bit, as one that was not.

One device is enough. A step of ZF-5 (52 million weights in fc6, 17 in fc7) takes 53 GFLOP; its
gradients are 280 MB, so that devices that share a batch of 128 windows would wait for each other
longer than they compute. The paper's 300,000 steps took 2 hours on one GPU of 2013 (§4.1).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from pipeline import networks
from pipeline.config import Finetune
from pipeline.errors import InputError
from pipeline.extraction import NetworkSpec
from pipeline.learning.finetune_batches import Draw, draw
from pipeline.learning.finetune_rows import Rows, read_rows
from pipeline.learning.finetune_states import restore, save, state_file
from pipeline.networks import Head, Network
from pipeline.store.files import written_aside
from pipeline.store.reader import Store
from pipeline.store.rows import Vectors
from pipeline.threads import torch_threads

MEASURED_ROWS = 512  # held-out windows that go through the layers together
SCALED_ROWS = 512  # windows whose numbers say how large all are
_MEASURED, _SCALED = 6, 12  # purposes of the random numbers


@dataclass(frozen=True)
class FinetuneSpec:
    """Everything that decides the weights; small enough to send anywhere."""

    network: NetworkSpec
    stores: tuple[Store, ...]
    """Of pool5: of the training images, and where half the windows are mirrored of their mirror
    images."""
    labels: tuple[tuple[Path, ...], ...]
    """Of each store what `label_shard` wrote, in the manifest's order."""
    classes: tuple[str, ...]
    settings: Finetune
    seed: int

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.settings.steps // self.settings.check_every)


@dataclass(frozen=True)
class PartStats:
    """How a part went."""

    step: int
    """The last of it, from 1."""
    loss: float
    """Mean cross-entropy of its batches, dropout on."""
    held_loss: float
    """Of the held-out windows after it, dropout off."""
    held_accuracy: float
    """Share of them whose highest score is their label's."""
    seconds: float


def begin(spec: FinetuneSpec) -> Network:
    """Return the network before the first step: with a new fc8, and fc layers if it had none.

    Raises:
        InputError: the weights cannot be read.
    """
    # Trained in float32 and on full layers: precision and ranks come after.
    full = replace(spec.network, precision="float32", fc6_rank=None, fc7_rank=None)
    network = full.load()
    networks.renew_classifier(network, len(spec.classes) + 1, spec.seed)
    return network.eval().requires_grad_(False)


def train_part(spec: FinetuneSpec, states: Path, part: int) -> PartStats:
    """Train from where the part before ended; leave the weights and their momentum in `states`.

    Raises:
        InputError: the state before is gone or damaged, there is nothing to draw from, or the loss
            is no longer finite.
    """
    started, settings = time.perf_counter(), spec.settings
    first = part * settings.check_every
    last = min(first + settings.check_every, settings.steps)
    vectors = [Vectors(store, kept_open=len(store.shards)) for store in spec.stores]
    rows = read_rows(vectors, spec.labels, held=False)
    held = read_rows(vectors[:1], spec.labels[:1], held=True)  # of images as they are
    _require_rows(rows, held, settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    with _training(begin(spec), settings, device) as head:
        optimizer = _optimizer(head, settings)
        if part:
            scale = restore(state_file(states, part - 1), head, optimizer)
        else:
            scale = _input_scale(spec, vectors, rows)
        total = torch.zeros((), device=device)
        draw = Draw(vectors, rows, settings, spec.seed)
        for step, (drawn, labels) in draw.ahead(range(first, last)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)
            torch.manual_seed(int(np.random.default_rng([spec.seed, step]).integers(1 << 62)))
            scores = head(drawn.to(device, torch.float32) * scale)
            loss = functional.cross_entropy(scores, labels.to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        mean = total.item() / (last - first)
        if not np.isfinite(mean):
            raise InputError(
                f"fine-tuning diverged between steps {first + 1:,} and {last:,} (loss {mean}): "
                f"lower the learning rate from {learning_rate(settings, first)}, in "
                "finetune.stretches"
            )
        measured = _measure(head.eval(), vectors, held, scale, spec)
        save(state_file(states, part), head, optimizer, scale)
    return PartStats(last, mean, *measured, time.perf_counter() - started)


def finish(spec: FinetuneSpec, states: Path, part: int, destination: Path) -> None:
    """Write the network as it was after a part.

    Raises:
        InputError: the state is gone or damaged.
    """
    network = begin(spec)
    head = _head(network)
    scale = restore(state_file(states, part), head)
    with torch.no_grad():
        dict(head.named_parameters())["fc6.weight"].mul_(scale)
    with written_aside(destination) as aside:
        networks.save(network, aside)


def learning_rate(settings: Finetune, step: int) -> float:
    """Return the rate of a step, from 0.

    >>> [learning_rate(Finetune(), step) for step in (0, 249_999, 250_000)]
    [0.0001, 0.0001, 1e-05]
    """
    schedule = settings.schedule_in_force
    ends = np.cumsum([steps for steps, _ in schedule])
    return schedule[int(np.searchsorted(ends, step, side="right"))][1]


def _input_scale(spec: FinetuneSpec, vectors: Sequence[Vectors], rows: Rows) -> float:
    """Return by what untrained fc layers find their inputs multiplied while they are trained.

    Untrained layers expect numbers about 1 in size, and so do rates of learning; SqueezeNet's are
    about 20, with which every unit of fc6 soon was silent for good. In the end fc6's weights take
    the factor in. Layers that come with a network were trained on its numbers as they are.
    """
    if not spec.network.begins_untrained:
        return 1.0
    random = np.random.default_rng([spec.seed, _SCALED])
    drawn, _ = draw(vectors, rows, spec.settings, SCALED_ROWS, random)
    size = drawn.double().square().mean().sqrt().item()
    return 1 / size if size else 1.0


@torch.inference_mode()
def _measure(
    head: Head, vectors: Sequence[Vectors], held: Rows, scale: float, spec: FinetuneSpec
) -> tuple[float, float]:
    """Return loss and accuracy on held-out windows, the same ones after each part."""
    random = np.random.default_rng([spec.seed, _MEASURED])
    loss, right, count = 0.0, 0, spec.settings.held_windows
    device = next(head.parameters()).device
    for start in range(0, count, MEASURED_ROWS):
        size = min(MEASURED_ROWS, count - start)
        drawn, labels = draw(vectors, held, spec.settings, size, random)
        scores = head(drawn.to(device, torch.float32) * scale)
        labels = labels.to(device)
        loss += functional.cross_entropy(scores, labels, reduction="sum").item()
        right += int((scores.argmax(1) == labels).sum())
    return loss / count, right / count


@contextmanager
def _training(network: Network, settings: Finetune, device: torch.device) -> Iterator[Head]:
    """Give the fc layers, ready to train; torch's random state and threads are put back."""
    head = _head(network)
    head = Head(head.fc6, head.fc7, head.fc8, settings.dropout)
    head = head.to(device).train().requires_grad_(True)
    devices = [device] if device.type == "cuda" else []
    with torch_threads(settings.threads), torch.random.fork_rng(devices=devices):
        yield head


def _optimizer(head: Head, settings: Finetune) -> torch.optim.SGD:
    """SGD; biases do not decay."""
    weights = [p for p in head.parameters() if p.ndim > 1]
    biases = [p for p in head.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum)


def _head(network: Network) -> Head:
    head = network.head
    assert head is not None
    return head


def _require_rows(rows: Rows, held: Rows, settings: Finetune) -> None:
    counts = {
        "positives to learn from": len(rows.positives),
        "background windows to learn from": len(rows.background),
        "held-out positives": len(held.positives),
        "held-out background windows": len(held.background),
    }
    for what, count in counts.items():
        if not count:
            raise InputError(
                f"fine-tuning has no {what} (positives overlap an object by "
                f"{settings.positive_iou} or more, background by {settings.background_iou} or "
                f"more; {settings.held_out:.0%} of the images are held out): give more images, or "
                "change these in [finetune]"
            )
