"""A network in training: an epoch at a time, in one process or as one of several."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from pipeline.config import Pretrain
from pipeline.errors import InputError
from pipeline.learning.scaffold import Scaffold
from pipeline.networks.network import Network
from pipeline.networks.whole import class_scores
from pipeline.pretraining.images import DROPOUT, Batch, Images, seeded
from pipeline.pretraining.pixels import at_size, preprocessed
from pipeline.pretraining.ranks import Ranks
from pipeline.pretraining.schedule import Plateau, one_cycle
from pipeline.pretraining.sums import Outcome, Sums
from pipeline.threads import ahead, torch_threads

# Gradients longer than this are shortened; those of a calm step measured 3 to 5. Without a limit
# one bad batch in the steep first steps silences ReLUs for good.
_LARGEST_GRADIENT_NORM = 5.0
_SAMPLE = 512  # crops whose statistics replace batch norm's moving ones
_SAMPLE_PIXELS = 1 << 23  # of them that go through together: activations take a hundred times that

_CPU = torch.device("cpu")
Progress = Callable[[int, int], None]


class Trained(nn.Module):
    """A network and the batch norm that stands on it, as one module that gives class scores."""

    def __init__(self, network: Network, scaffold: Scaffold | None) -> None:
        super().__init__()
        self.network = network
        self.norms = nn.ModuleList(scaffold.norms if scaffold else ())

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch classes"]:
        """Class scores before the softmax."""
        return class_scores(self.network, images)


class Training:
    """A network in training, see `training`.

    Attributes:
        trained: what learns.
        optimizer: with the momentum.
        random: of the order of images.
        plateau: where the schedule of that name is.
    """

    def __init__(
        self, network: Network, settings: Pretrain, seed: int, device: torch.device, ranks: Ranks
    ) -> None:
        self._network, self._settings, self._seed = network.to(device), settings, seed
        self._device, self._ranks = device, ranks
        self._scaffold = Scaffold(network) if settings.scaffold else None
        self.trained = Trained(network, self._scaffold)
        self.optimizer = _optimizer(self.trained, settings)
        self.random = torch.Generator().manual_seed(seed)
        self.plateau = Plateau(settings.learning_rate)
        self._model: nn.Module = self.trained

    def connect(self) -> None:
        """Let the processes average their gradients; behind whatever is restored before."""
        if self._ranks.count > 1:
            self._model = DistributedDataParallel(
                self.trained,
                device_ids=None if self._device.type == "cpu" else [self._device],
                # An architecture's own classifier is idle where fc layers were added.
                find_unused_parameters=self._network.added_head is not None,
            )

    @property
    def _settled(self) -> int:
        """The epoch before which batch norm's statistics are fixed.

        One set of weights is left in the end, with statistics between those of the sizes: with
        several, the last epochs learn to live with them.
        """
        epochs = self._settings.epochs
        return epochs - epochs // 3 if len(self._settings.sides_px) > 1 else epochs

    def epoch(
        self,
        images: Images,
        chosen: Int64[np.ndarray, " chosen"],
        number: int,
        progress: Progress | None = None,
    ) -> Outcome:
        """Train on the chosen images once, in a random order.

        Args:
            images: all there are.
            chosen: indices of those that train.
            number: of the epoch, from 0; all before it are done.
            progress: called after each step with its number, from 1, and how many there are.

        Raises:
            InputError: no image could be read, or the loss is no longer finite.
        """
        self._network.train()
        if self._scaffold is not None and number == self._settled:
            self._settle(self._scaffold, images, chosen)
        elif self._scaffold is not None and number > self._settled:
            self._scaffold.freeze()
        order = chosen[torch.randperm(len(chosen), generator=self.random).numpy()]
        batches = _batches(order, self._settings.batch_size)
        drawn = seeded(self._seed, DROPOUT, number, self._ranks.rank).integers(1 << 62)
        torch.manual_seed(int(drawn))
        sums, own = Sums(self._device), [self._ranks.share(batch) for batch in batches]
        coming = ahead(lambda part: self._read(images.varied(part, number)), own)
        for step, (batch, ready) in enumerate(coming):
            rate = self.rate(number * len(batches) + step, len(batches))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            side = side_px(self._settings, number, step, len(batches))
            self._step(self._moved(ready, side), self._targets(images, batch), sums)
            sums.unreadable |= batch.unreadable
            if progress is not None:
                progress(step + 1, len(batches))
        outcome = sums.outcome(self._ranks, images)
        if not np.isfinite(outcome.loss):
            raise InputError(
                f"training diverged in epoch {number + 1} (loss {outcome.loss}): "
                f"lower the learning rate from {self._settings.learning_rate}"
            )
        return outcome

    def rate(self, step: int, steps_an_epoch: int) -> float:
        """Return the learning rate of a step, from 0 through all epochs."""
        settings = self._settings
        if settings.schedule == "plateau":
            return self.plateau.rate
        return one_cycle(step, settings.epochs * steps_an_epoch, settings.learning_rate)

    @torch.no_grad()
    def measure(self, images: Images, chosen: Int64[np.ndarray, " chosen"]) -> Outcome:
        """Return loss and accuracy on images at the largest size, dropout off.

        Raises:
            InputError: none of them could be read.
        """
        self._network.eval()
        if self._scaffold is not None:
            self._scaffold.freeze()
        sums = Sums(self._device)
        own = _batches(self._ranks.share(chosen), self._settings.batch_size)
        for batch, ready in ahead(lambda part: self._read(images.plain(part)), own):
            if len(batch.indices):
                with self._autocast():
                    scores = self.trained(self._moved(ready, images.side_px))
                targets = self._targets(images, batch)
                sums.add(functional.cross_entropy(scores.float(), targets), scores, targets)
            sums.unreadable |= batch.unreadable
        if self._scaffold is not None:
            self._scaffold.thaw()
        return sums.outcome(self._ranks, images)

    def finish(self, images: Images, chosen: Int64[np.ndarray, " chosen"], epochs: int) -> None:
        """Leave the architecture alone, without batch norm, after so many epochs."""
        if self._scaffold is not None:
            if epochs <= self._settled:
                self._settle(self._scaffold, images, chosen)
            self._scaffold.fold()

    def _step(
        self,
        ready: Float[Tensor, "batch 3 side side"],
        targets: Int64[Tensor, " batch"],
        sums: Sums,
    ) -> None:
        """Take one step; images that could not be read have no part in the batch's mean."""
        alone = self._ranks.count == 1
        if alone and not len(targets):
            return
        idle = not len(targets)  # this process still has to meet the others
        if idle:
            ready, targets = ready.new_zeros(1, *ready.shape[1:]), targets.new_zeros(1)
        with self._autocast():
            scores = self._model(ready)
        loss = functional.cross_entropy(scores.float(), targets)
        weighted = loss
        if not alone:
            # The gradients' mean over processes becomes the mean over all images of the batch.
            own = torch.tensor(0.0 if idle else float(len(targets)), device=self._device)
            weighted = loss * own * self._ranks.count / self._ranks.add(own.clone()).clamp(min=1)
        self.optimizer.zero_grad(set_to_none=True)
        weighted.backward()
        self._shorten_gradients()
        self.optimizer.step()
        if not idle:
            sums.add(loss.detach(), scores.detach(), targets)

    def _shorten_gradients(self) -> None:
        """Shorten gradients that are too long; a GPU is not made to wait for the answer."""
        weights = list(self._network.parameters())
        norm = nn.utils.get_total_norm([each.grad for each in weights if each.grad is not None])
        if self._device.type != "cpu" or not norm <= _LARGEST_GRADIENT_NORM:
            nn.utils.clip_grads_with_norm_(weights, _LARGEST_GRADIENT_NORM, norm)

    def _settle(
        self, scaffold: Scaffold, images: Images, chosen: Int64[np.ndarray, " chosen"]
    ) -> None:
        """Fix the statistics at their means over a sample in every size."""
        order = torch.randperm(len(chosen), generator=self.random)[:_SAMPLE].numpy()
        with self._autocast():
            scaffold.estimate(self._network, self._sample(images, chosen[order]))
        self._network.train()

    def _sample(
        self, images: Images, sample: Int64[np.ndarray, " sample"]
    ) -> Iterator[Float[Tensor, "batch 3 side side"]]:
        for side in self._settings.sides_px:
            for part in _batches(sample, max(1, _SAMPLE_PIXELS // side**2)):
                batch, ready = self._read(images.plain(part))
                if len(batch.indices):
                    yield self._moved(ready, side)

    def _read(self, batch: Batch) -> tuple[Batch, Float[Tensor, "read 3 side side"]]:
        """Return what a batch's crops are to the network, before the device has them."""
        ready = preprocessed(self._network.preprocessing, batch.pixels)
        # From pinned memory a GPU fetches a batch while it computes.
        return batch, ready.pin_memory() if self._device.type == "cuda" else ready

    def _moved(
        self, images: Float[Tensor, "read 3 side side"], side: int
    ) -> Float[Tensor, "read 3 wanted wanted"]:
        return at_size(images.to(self._device, non_blocking=True), side)

    def _targets(self, images: Images, batch: Batch) -> Int64[Tensor, " batch"]:
        return torch.from_numpy(images.labels[batch.indices]).to(self._device)

    def _autocast(self) -> AbstractContextManager[object]:
        narrow = self._settings.precision == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=narrow)


@contextmanager
def training(
    network: Network,
    settings: Pretrain,
    seed: int,
    *,
    device: torch.device = _CPU,
    ranks: Ranks | None = None,
) -> Iterator[Training]:
    """Put a network into training; all but its weights is put back, whatever happens inside.

    Args:
        network: any that gives class scores, untrained or not; it stays on the device.
        settings: all of it but what concerns image files.
        seed: of order, dropout and sample.
        device: on which it trains.
        ranks: the processes that train it together; none: this one alone.
    """
    dropout = network.dropout
    network.dropout = settings.dropout
    network.train().requires_grad_(True)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch_threads(settings.threads), torch.random.fork_rng(devices=devices):
            yield Training(network, settings, seed, device, ranks or Ranks())
    finally:
        network.eval().requires_grad_(False)
        network.zero_grad(set_to_none=True)
        network.dropout = dropout


def side_px(settings: Pretrain, epoch: int, step: int, steps: int) -> int:
    """Return the size of a step's images: in turn, epoch by epoch or batch by batch.

    >>> two = Pretrain(sides_px=(224, 180))
    >>> [side_px(two, epoch, 0, 9) for epoch in range(4)]
    [224, 180, 224, 180]
    """
    turn = epoch if settings.mix == "epoch" else epoch * steps + step
    return settings.sides_px[turn % len(settings.sides_px)]


def _batches(order: Int64[np.ndarray, " images"], size: int) -> Sequence[Int[np.ndarray, " batch"]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _optimizer(trained: Trained, settings: Pretrain) -> torch.optim.SGD:
    """SGD; biases and batch norm do not decay."""
    weights = [p for p in trained.parameters() if p.ndim > 1]
    others = [p for p in trained.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
