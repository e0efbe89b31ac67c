"""What an extractor needs to know, and what its vectors will look like."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import config, networks
from pipeline.errors import RecipeError
from pipeline.extraction.earlier import Earlier
from pipeline.networks import added_head, front, initial
from pipeline.store.files import written_aside
from pipeline.store.map_spec import MapSpec
from pipeline.store.place import Place
from pipeline.store.plan import projected_bytes
from pipeline.store.schema import VectorSpec


@dataclass(frozen=True)
class NetworkSpec:
    """How to load the same network anywhere."""

    name: str
    weights: Path | None
    seed: int = 0
    preprocessing: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    precision: str = "float32"
    fc6_rank: int | None = None
    fc7_rank: int | None = None
    added: Mapping[str, Any] | None = None
    """Fc layers to add, untrained, where the weights come with none: an architecture's that has
    none of its own (`networks.added_head`). Ranks are then for when they are trained."""
    upto: str | None = None
    """The last layer that is used; None: all that lead to the feature maps."""
    code: str | None = None
    """`networks.code_digest` of the name, where the work was planned."""

    def load(self) -> networks.Network:
        """Return the network, on the CPU.

        Raises:
            InputError: the weights are damaged, do not fit, or have other fc layers than `added`.
            RecipeError: the architecture is a package's, and this machine has another version.
        """
        networks.require_code(self.name, self.code, "the plan of this run")
        ranks = {"fc6_rank": self.fc6_rank, "fc7_rank": self.fc7_rank}
        network = networks.load(
            self.name,
            self.weights,
            seed=self.seed,
            preprocessing=self.preprocessing,
            precision=self.precision,
            **({} if self.added else ranks),
            **self.options,
        )
        if self.added and network.added_head is not None:
            added_head.require_same(network, self.added)
        elif self.added:
            added_head.add(network, self.added)
            assert network.added_head is not None
            initial.fill_linear(network.added_head, self.seed)
            network.eval().requires_grad_(False)
        return network if self.upto is None else front.until(network, self.upto)

    @property
    def begins_untrained(self) -> bool:
        """Whether fc layers are added, and the weights bring none of them."""
        if self.added is None or self.weights is None:
            return self.added is not None
        return networks.outline(self.name, self.weights, **self.options).added_head is None

    def outline(self, preprocessing: networks.Preprocessing) -> networks.Network:
        """Return the network without its weights: for sizes, and for what is done to pixels."""
        options: dict[str, Any] = {"fc6_rank": self.fc6_rank, "fc7_rank": self.fc7_rank}
        options |= self.options | ({added_head.OPTION: self.added} if self.added else {})
        network = networks.outline(self.name, self.weights, **options)
        network.preprocessing = preprocessing
        return network if self.upto is None else front.until(network, self.upto)

    def prepared(self, file: Path) -> "NetworkSpec":
        """Return how to load the same network without decomposing its fc layers again.

        That takes seconds, and need not be done by each worker: the product is saved as `file`,
        once. Without ranks there is nothing to prepare.
        """
        if self.fc6_rank is None and self.fc7_rank is None:
            return self
        if not file.is_file():
            with written_aside(file) as aside:
                networks.save(replace(self, precision="float32").load(), aside)
        return replace(self, weights=file)


@dataclass(frozen=True)
class ExtractionSpec:
    """Everything an extractor needs to know; small enough to send anywhere."""

    root: Place
    """The store."""
    network: NetworkSpec
    features: config.Features
    images: Path
    """Parquet table of `pipeline.index.IMAGES`, best sorted in small row groups: each shard reads
    the rows of its own images."""
    windows: Path
    """Folder of Parquet tables: image_id, window_id, box, source; sorted."""
    split: str
    made_from: str
    network_digest: str | None = None
    """Of the network that `made_from` is about; None: whatever `network` loads."""
    threads: int = 1
    """CPU threads of the network: fixed, for another number may round sums differently."""
    decode_threads: int | None = None
    """Threads that read, decode and resize images: speed only. None: 1, or 4 beside a GPU; 8 that
    wait for others, where those decode."""
    earlier: tuple[Earlier, ...] = ()
    """Stores of the same network and features; those of images made alone only."""
    decode: str = "actor"
    """Who reads, decodes and resizes: the extractor itself, or the `cluster`'s tasks."""


def vector_spec(network: networks.Network, settings: config.Features) -> VectorSpec:
    """Return what the vectors of this network and layer look like.

    Raises:
        RecipeError: the network cannot emit the layer, or reads another pyramid.
    """
    length = network.layer_size(settings.layer, settings.levels)
    if settings.layer != "pool5" and tuple(settings.levels) != tuple(network.levels):
        raise RecipeError(
            f"fc6 of {network.name} reads the pyramid {list(network.levels)}; "
            f"features.levels is {list(settings.levels)}"
        )
    return VectorSpec(length, settings.vector_dtype, settings.vector_layout)


def map_spec(network: networks.Network, settings: config.Features) -> MapSpec | None:
    """Return what the feature maps of a store of maps look like; None for a store of vectors."""
    if settings.store != "maps":
        return None
    geometry = network.geometry
    return MapSpec(
        geometry.stride,
        geometry.centre,
        geometry.shrink,
        network.channels,
        settings.levels,
        settings.vector_dtype,
    )


def map_bytes(network: networks.Network, settings: config.Features, width: int, height: int) -> int:
    """Return the bytes of an image's feature maps in a store of maps, at all scales.

    An upper bound: a scale that no window asks for is not stored.

    >>> zf5 = networks.load("zf5", width=0.0625, fc_units=8)
    >>> map_bytes(zf5, config.Features(scales=(224,)), 224, 224)  # 13·13 cells, 16 channels
    5408
    """
    number_bytes = np.dtype(settings.vector_dtype).itemsize
    kind = (settings.scales, network.map_size, network.channels, 0, number_bytes)
    return projected_bytes([(width, height, 0)], *kind, settings.max_side_px).maps
