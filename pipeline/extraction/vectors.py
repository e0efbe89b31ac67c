"""The middle stage: images of one size through the network, and on to what is stored of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline import config, features, networks, spp
from pipeline.extraction.decoding import Ready
from pipeline.extraction.earlier import HeldRows
from pipeline.extraction.stats import Clock


@dataclass(frozen=True)
class Part:
    """Vectors on their way to the shard: of whole images, or of parts of images."""

    pieces: list[tuple[Ready, int]]
    """The images they belong to, and how many vectors of each, in order."""
    narrow: Callable[[], Float[Tensor, "rows dim"]]
    """Gives the vectors in the stored dtype, or raises where one does not fit. Called by the
    stage that writes: it costs time, and waits for the device."""
    release: Callable[[], None] = lambda: None
    """Says that the vectors are copied, and their memory free for others."""


@dataclass(frozen=True)
class Maps:
    """The feature maps of one image, to be stored as they are."""

    ready: Ready
    narrow: Callable[[], list[Tensor]]
    """Gives one map a scale in the stored dtype, or raises where a number does not fit."""


@dataclass(frozen=True)
class TakenOver:
    """One image, whose rows an earlier store has."""

    ready: Ready
    rows: HeldRows


Made = Part | Maps | TakenOver


@runtime_checkable
class Maker(Protocol):
    """Makes of images' feature maps what is stored; may hold images back to fill a batch."""

    def add(self, ready: Ready, maps: Sequence[Tensor]) -> Iterator[Made]:
        """Take the next image; yield what can be written."""
        ...

    def rest(self) -> Iterator[Made]:
        """Yield what was held back: the shard ends."""
        ...


def run_network(
    group: Sequence[Ready], network: networks.Network, clock: Clock
) -> Iterator[tuple[Ready, list[Tensor]]]:
    """Run images of equal sizes through the conv net together; yield each with its maps.

    What is yielded has no pixels any more: an fc batch may hold thousands of small images back.
    """
    with clock.device("network"):
        scales = zip(*(ready.resized for ready in group), strict=True)
        batches = [features.feature_maps(one_size, network) for one_size in scales]
    for place, ready in enumerate(group):
        yield ready.without_pixels(), [maps[place] for maps in batches]


class Spare:
    """Memory of vectors that are written down, for the next ones. Safe in threads.

    Pooling into memory that was used before takes a third of the time that it takes into new pages.
    """

    def __init__(self) -> None:
        self._free: SimpleQueue[Tensor] = SimpleQueue()

    def take(self, size: int, like: Tensor) -> Float[Tensor, " at_least_size"]:
        """Return room for so many numbers; what is too small for them is given up."""
        try:
            memory = self._free.get_nowait()
        except Empty:
            memory = like.new_empty(0)
        return memory if len(memory) >= size else spp.empty_vectors(1, size, like)[0]

    def give(self, memory: Float[Tensor, " numbers"]) -> None:
        """Give back what nobody reads any more."""
        self._free.put(memory)


class Pooled:
    """Layer pool5: an image's vectors are pooled in the stored dtype, from narrowed maps."""

    def __init__(
        self, network: networks.Network, settings: config.Features, clock: Clock, spare: "Spare"
    ) -> None:
        self._settings, self._clock, self._spare = settings, clock, spare
        self._dtype: torch.dtype = getattr(torch, settings.vector_dtype)
        self._length = network.layer_size("pool5", settings.levels)
        self._pool = pooling(settings)

    def add(self, ready: Ready, maps: Sequence[Tensor]) -> Iterator[Made]:
        """Pool the image's distinct windows."""
        if not maps:
            nothing = torch.empty(0, self._length, dtype=self._dtype)
            yield Part([(ready, 0)], lambda: nothing)
            return
        with self._clock.device("pooling"):
            narrow, fit = features.narrow_maps(maps, self._dtype)
            memory = self._spare.take(ready.distinct.count * self._length, narrow[0])
            out = memory[: ready.distinct.count * self._length].view(-1, self._length)
            self._pool(narrow, ready.distinct.cells, out=out)
        vectors = partial(self._checked, ready, maps, fit, out)
        yield Part([(ready, len(out))], vectors, partial(self._spare.give, memory))

    def _checked(
        self, ready: Ready, maps: Sequence[Tensor], fit: Bool[Tensor, " maps"], out: Tensor
    ) -> Tensor:
        if not fit.all():  # a cell does not; but is it under a window?
            wide = self._pool(maps, ready.distinct.cells)
            features.require_fit(ready.image_id, wide, self._dtype)
        return out

    def rest(self) -> Iterator[Made]:
        """Nothing is held back."""
        yield from ()


class Fc:
    """Layers fc6 and fc7: pooled vectors are gathered over images and go through fc together.

    A batch has exactly `features.fc_rows` rows, the shard's last one what is left: the shard
    alone decides who is together, for sums over batches of another size may round differently.
    """

    def __init__(
        self,
        network: networks.Network,
        settings: config.Features,
        clock: Clock,
        batch: Float[Tensor, "fc_rows dim"],
    ) -> None:
        self._network, self._settings, self._clock = network, settings, clock
        self._dtype: torch.dtype = getattr(torch, settings.vector_dtype)
        self._batch = batch
        self._pool = pooling(settings)
        self._pieces: list[tuple[Ready, int]] = []
        self._filled = 0

    def add(self, ready: Ready, maps: Sequence[Tensor]) -> Iterator[Made]:
        """Pool the image's distinct windows into the batch; yield batches that are full."""
        count, done = ready.distinct.count, 0
        while True:
            rows = min(count - done, len(self._batch) - self._filled)
            with self._clock.device("pooling"):
                out = self._batch[self._filled : self._filled + rows]
                self._pool(maps, ready.distinct.part(done, done + rows), out=out)
            self._pieces.append((ready, rows))
            self._filled, done = self._filled + rows, done + rows
            if done == count:
                return
            yield from self.rest()

    def rest(self) -> Iterator[Made]:
        """Send what is in the batch through the fc layers."""
        if self._pieces:
            with self._clock.device("fc"), torch.inference_mode():
                vectors = self._network.fc(self._batch[: self._filled], self._settings.layer)
            pieces, self._pieces, self._filled = self._pieces, [], 0
            yield Part(pieces, partial(self._checked, pieces, vectors))

    def _checked(self, pieces: list[tuple[Ready, int]], vectors: Tensor) -> Tensor:
        narrow = vectors.to(self._dtype)
        if not torch.isfinite(narrow).all():
            for (ready, rows), start in _starts(pieces):
                features.require_fit(ready.image_id, vectors[start : start + rows], self._dtype)
        return narrow


class Warped:
    """R-CNN's way: each window goes through the conv net by itself."""

    def __init__(self, network: networks.Network, settings: config.Features, clock: Clock) -> None:
        self._network, self._settings, self._clock = network, settings, clock
        self._dtype: torch.dtype = getattr(torch, settings.vector_dtype)
        self._length = network.layer_size(settings.layer, settings.levels)

    def add(self, ready: Ready, maps: Sequence[Tensor]) -> Iterator[Made]:
        """Take an image with its pixels; there are no maps of it."""
        del maps
        if not ready.resized:
            nothing = torch.empty(0, self._length, dtype=self._dtype)
            yield Part([(ready, 0)], lambda: nothing)
            return
        network, levels = self._network, self._settings.levels
        warped = features.warp_windows(ready.resized[0], ready.boxes, network.preprocessing)
        parts: list[Tensor] = []
        for batch in self._clock.each("warp", warped):
            with self._clock.device("network"):
                parts.append(features.pool_warped(batch, network, levels))
        with self._clock.device("fc"), torch.inference_mode():
            vectors = network.fc(torch.cat(parts), self._settings.layer)
        done = ready.without_pixels()
        yield Part([(done, len(vectors))], partial(self._checked, done, vectors))

    def _checked(self, ready: Ready, vectors: Tensor) -> Tensor:
        features.require_fit(ready.image_id, vectors, self._dtype)
        return vectors.to(self._dtype)

    def rest(self) -> Iterator[Made]:
        """Nothing is held back."""
        yield from ()


class Stored:
    """A store of maps: nothing is pooled before somebody reads."""

    def __init__(self, settings: config.Features) -> None:
        self._dtype: torch.dtype = getattr(torch, settings.vector_dtype)

    def add(self, ready: Ready, maps: Sequence[Tensor]) -> Iterator[Made]:
        """Pass the image's maps on."""
        yield Maps(ready, partial(self._checked, ready, maps))

    def _checked(self, ready: Ready, maps: Sequence[Tensor]) -> list[Tensor]:
        # Also where no window covers the number: what is stored answers for any window.
        for feature_map in maps:
            features.require_fit(ready.image_id, feature_map, self._dtype)
        return [feature_map.to(self._dtype) for feature_map in maps]

    def rest(self) -> Iterator[Made]:
        """Nothing is held back."""
        yield from ()


class Taking:
    """Another maker, but for images whose rows are taken over."""

    def __init__(self, maker: Maker, held: Mapping[str, HeldRows]) -> None:
        self._maker, self._held = maker, held

    def add(self, ready: Ready, maps: Sequence[Tensor]) -> Iterator[Made]:
        """Pass it on, or say where its rows are."""
        held = self._held.get(ready.image_id)
        if held is None:
            yield from self._maker.add(ready, maps)
        else:
            yield TakenOver(ready, held)

    def rest(self) -> Iterator[Made]:
        """Yield what the other held back."""
        return self._maker.rest()


def pooling(settings: config.Features) -> Callable[..., Float[Tensor, "rows dim"]]:
    """Return `features.pool_cells` as the recipe wants it: of maps, cells, and `out`."""
    largest = settings.scale_rule == "max"
    return partial(features.pool_cells, levels=settings.levels, largest=largest)


def _starts(pieces: list[tuple[Ready, int]]) -> Iterator[tuple[tuple[Ready, int], int]]:
    start = 0
    for piece in pieces:
        yield piece, start
        start += piece[1]
