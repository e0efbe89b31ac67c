"""Image and windows to vectors: the one function that joins the rooms, and its steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8
from torch import Tensor

from pipeline import images, spp
from pipeline.boxes import flip
from pipeline.config import Features
from pipeline.errors import InputError
from pipeline.networks import Network, Preprocessing

EVERY_SCALE = -1  # in the place of a window's scale, where it is pooled at all of them
WARPED_PX = 227  # SPEC §10
WARPED_TOGETHER = 16  # windows that go through the network at a time


@dataclass(frozen=True)
class Resized:
    """An image at one scale, ready for the network."""

    scale_px: int
    pixels: Float32[Tensor, "3 rows cols"]
    factors: tuple[float, float]
    """New pixels per old one, horizontally and vertically: rounding makes them differ."""


@dataclass(frozen=True)
class Distinct:
    """The different cells that an image's windows cover.

    Windows on the same cells of the same scale have the same vector, which is computed once.
    """

    cells: tuple[Int32[np.ndarray, "_ 4"], ...]
    """Of each scale, in the order of the resized images."""
    rows: Int[np.ndarray, " windows"]
    """Of each window the vector that is its: those of all scales stand one after the other."""
    every_scale: bool = False
    """Whether cells are as many at each scale, and a vector has the largest numbers of all."""

    @property
    def count(self) -> int:
        """How many vectors there are to compute."""
        return int(self.rows.max(initial=-1)) + 1

    def part(self, first: int, last: int) -> tuple[Int32[np.ndarray, "_ 4"], ...]:
        """Return the cells of some of the vectors."""
        if self.every_scale:
            return tuple(each[first:last] for each in self.cells)
        starts = np.cumsum([0, *map(len, self.cells)]).tolist()
        return tuple(
            each[max(0, first - start) : max(0, last - start)]
            for each, start in zip(self.cells, starts, strict=False)
        )


def prepare(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
    settings: Features,
) -> tuple[list[Resized], Int[np.ndarray, " windows"], Distinct]:
    """Return an image at its scales, each window's place among them, and the different cells.

    Where windows are warped one by one, that is the image as it is, and each window its own.

    Raises:
        UndecodableImage: see `resize_to_scales`.
    """
    if settings.mode == "warp":
        pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
        own = np.arange(len(windows))
        seen = [Resized(WARPED_PX, pixels, (1.0, 1.0))] if len(windows) else []
        return seen, np.zeros(len(windows), np.int64), Distinct((), own)
    resized, places = resize_to_scales(image, windows, network, settings)
    return resized, places, distinct_cells(resized, places, windows, network)


def as_seen(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    settings: Features,
) -> tuple[UInt8[np.ndarray, "rows cols 3"], Float[np.ndarray, "windows 4"]]:
    """Return an image and its windows as the network sees them: as they are, or mirrored."""
    if not settings.mirrored:
        return image, windows
    return np.ascontiguousarray(image[:, ::-1]), flip(windows, image.shape[1])


def resize_to_scales(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
    settings: Features,
) -> tuple[list[Resized], Int[np.ndarray, " windows"]]:
    """Return the image at every scale that a window asks for, and each window's place in the list.

    Args:
        image: RGB.
        windows: SPEC §1 boxes in the image's own pixels.
        network: for its preprocessing.
        settings: scales, their rule, and the upper clamp.

    Raises:
        UndecodableImage: the image, a long thin one, would grow beyond `settings.max_pixels`, or
            is clamped to so few pixels that the feature map has no cell.
    """
    size = (image.shape[1], image.shape[0])
    if settings.scale_rule == "max":
        used = np.arange(len(settings.scales) if len(windows) else 0)
        places = np.full(len(windows), EVERY_SCALE)
    else:
        scales = spp.choose_scale(
            windows, size, settings.scales, settings.scale_rule, settings.reference_side_px
        )
        used, places = np.unique(scales, return_inverse=True)
    resized = []
    for index in used:
        scale_px = settings.scales[index]
        width, height = images.resized_size(*size, scale_px, settings.max_side_px)
        if width * height > settings.max_pixels:
            raise images.UndecodableImage(
                f"at scale {scale_px} its {size[0]}×{size[1]} pixels become {width}×{height}, more "
                f"than {settings.max_pixels:,}: set features.max_side_px"
            )
        try:
            network.map_size(width, height)
        except InputError as error:
            raise images.UndecodableImage(f"at scale {scale_px}: {error}") from None
        pixels, factors = images.resize(image, scale_px, settings.max_side_px)
        resized.append(Resized(scale_px, network.preprocessing.apply(pixels), factors))
    return resized, places


def distinct_cells(
    resized: Sequence[Resized],
    places: Int[np.ndarray, " windows"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
) -> Distinct:
    """Project each window to the cells of its scale. Needs no feature map, only its size."""
    rows = np.zeros(len(windows), np.int64)
    if (places == EVERY_SCALE).any():
        cells = np.hstack([_cells(image, windows, network) for image in resized])
        different, rows = np.unique(cells, axis=0, return_inverse=True)
        return Distinct(tuple(np.split(different, len(resized), axis=1)), rows.reshape(-1), True)
    found: list[np.ndarray] = []
    for place, image in enumerate(resized):
        chosen = np.flatnonzero(places == place)
        different, which = spp.distinct(_cells(image, windows[chosen], network))
        rows[chosen] = sum(map(len, found)) + which
        found.append(different)
    return Distinct(tuple(found), rows)


def _cells(
    image: Resized, windows: Float[np.ndarray, "windows 4"], network: Network
) -> Int32[np.ndarray, "windows 4"]:
    height, width = image.pixels.shape[1:]
    map_size = network.map_size(width, height)
    return spp.window_cells(windows, image.factors, network.geometry, map_size)


@torch.inference_mode()
def feature_maps(
    images_of_one_size: Sequence[Resized], network: Network
) -> Float[Tensor, "batch channels map_rows map_cols"]:
    """Run the conv net over images of one size together."""
    device = next(network.parameters()).device
    # As they lie in memory, channels last: any other way to join them would turn each number.
    pixels = [image.pixels.permute(1, 2, 0) for image in images_of_one_size]
    batch = pixels[0][None] if len(pixels) == 1 else torch.stack(pixels)
    return network(batch.permute(0, 3, 1, 2).to(device))


@torch.inference_mode()
def pool_cells(
    maps: Sequence[Float[Tensor, "channels _ _"]],
    cells: Sequence[Int32[np.ndarray, "_ 4"]],
    levels: Sequence[int],
    out: Float[Tensor, "distinct dim"] | None = None,
    largest: bool = False,
) -> Float[Tensor, "distinct dim"]:
    """Return the SPP vectors of cells on the maps of several scales, one scale after the other.

    Args:
        maps: one feature map a scale, of one dtype.
        cells: of each scale.
        levels: the pyramid.
        out: where to put the vectors; of the maps' dtype. Default: a new tensor.
        largest: cells are as many at each scale, and of each number the scales' largest is
            returned.

    Source: He et al., §4.1.
    """
    if out is None:
        dim = maps[0].shape[0] * sum(level * level for level in levels)
        count = len(cells[0]) if largest else sum(map(len, cells))
        out = spp.empty_vectors(count, dim, maps[0])
    if largest and cells:
        spp.pool(maps[0], cells[0], levels, out=out)
        for feature_map, those in zip(maps[1:], cells[1:], strict=True):
            torch.maximum(out, spp.pool(feature_map, those, levels), out=out)
        return out
    start = 0
    for feature_map, those in zip(maps, cells, strict=True):
        spp.pool(feature_map, those, levels, out=out[start : start + len(those)])
        start += len(those)
    return out


@torch.inference_mode()
def pool_warped(
    warped: Float32[Tensor, "batch 3 227 227"], network: Network, levels: Sequence[int]
) -> Float[Tensor, "batch dim"]:
    """Return the SPP vector of each warped window: the pyramid lies over its whole map.

    Args:
        warped: from `warp_windows`.
        network: that they go through.
        levels: the pyramid; (6,) is the plain network's pooling.

    Source: Girshick et al., R-CNN; SPEC §10.
    """
    device = next(network.parameters()).device
    return spp.SpatialPyramidPooling(levels)(network(warped.to(device)))


def warp_windows(
    image: Resized, windows: Float[np.ndarray, "windows 4"], preprocessing: Preprocessing
) -> Iterator[Float32[Tensor, "batch 3 227 227"]]:
    """Yield windows warped to squares, ready for the network, `WARPED_TOGETHER` at a time.

    Args:
        image: as `prepare` gives it: RGB in 0..255.
        windows: in its pixels.
        preprocessing: of the network.
    """
    pixels = image.pixels.permute(1, 2, 0).numpy()
    for start in range(0, len(windows), WARPED_TOGETHER):
        part = windows[start : start + WARPED_TOGETHER]
        warped = [images.warp(pixels, one, WARPED_PX, fill=preprocessing.fill) for one in part]
        # At once: half the time of one after the other.
        tall = preprocessing.apply(np.concatenate(warped)).permute(1, 2, 0)
        yield tall.reshape(len(part), WARPED_PX, WARPED_PX, 3).permute(0, 3, 1, 2)


class Seen:
    """An image that the network has seen once, for vectors of its windows in any layer."""

    @torch.inference_mode()
    def __init__(
        self,
        image: UInt8[np.ndarray, "rows cols 3"],
        windows: Float[np.ndarray, "windows 4"],
        network: Network,
        settings: Features,
        name: str = "given",
    ) -> None:
        """Run the conv net.

        Args:
            image: RGB, as decoded.
            windows: SPEC §1 boxes.
            network: must be able to emit the layers that are asked for.
            settings: the recipe's `[features]`.
            name: of the image, in errors.

        Raises:
            UndecodableImage: see `resize_to_scales`.
        """
        image, windows = as_seen(image, windows, settings)
        resized, places, self._distinct = prepare(image, windows, network, settings)
        self._network, self._settings, self._name = network, settings, name
        self._maps: list[Tensor] = []
        self._pooled: Tensor | None = None
        self.scales: Int[np.ndarray, " windows"] = scale_of(resized, places)
        """Of each window, in pixels."""
        if resized and settings.mode == "warp":
            warped = warp_windows(resized[0], windows, network.preprocessing)
            self._pooled = torch.cat([pool_warped(b, network, settings.levels) for b in warped])
        elif resized:
            self._maps = [feature_maps([one], network)[0] for one in resized]

    @torch.inference_mode()
    def vectors(self, layer: str) -> Float[np.ndarray, "windows dim"]:
        """Return each window's vector of a layer, unnormalised, in `settings.vector_dtype`.

        Raises:
            InputError: a feature does not fit that.
        """
        settings, dtype = self._settings, getattr(torch, self._settings.vector_dtype)
        if not self._maps and self._pooled is None:
            length = self._network.layer_size(layer, settings.levels)
            return np.zeros((0, length), settings.vector_dtype)
        if layer == "pool5" and self._pooled is None:
            narrow, fit = narrow_maps(self._maps, dtype)
            vectors = self._pool(narrow)
            if not fit.all():
                require_fit(self._name, self._pool(self._maps), dtype)
        else:
            wide = self._pool(self._maps) if self._pooled is None else self._pooled
            wide = self._network.fc(wide, layer)
            vectors = wide.to(dtype)
            require_fit(self._name, wide, dtype)
        return vectors.cpu().numpy()[self._distinct.rows]

    def _pool(self, maps: Sequence[Tensor]) -> Tensor:
        settings = self._settings
        largest = settings.scale_rule == "max"
        return pool_cells(maps, self._distinct.cells, settings.levels, largest=largest)


def window_vectors(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
    settings: Features,
    name: str = "given",
) -> tuple[Float[np.ndarray, "windows dim"], Int[np.ndarray, " windows"]]:
    """Return each window's vector of `settings.layer`, unnormalised, and its scale in pixels.

    What an extractor stores, to the bit; but that fc layers in bfloat16, or on a GPU, round in the
    last digit, because an extractor sends windows of several images through them together.

    Args:
        image: RGB, as decoded.
        windows: SPEC §1 boxes.
        network: must be able to emit the layer.
        settings: the recipe's `[features]`.
        name: of the image, in errors.

    Raises:
        UndecodableImage: see `resize_to_scales`.
        InputError: a feature does not fit `settings.vector_dtype`.
    """
    seen = Seen(image, windows, network, settings, name)
    return seen.vectors(settings.layer), seen.scales


def scale_of(
    resized: Sequence[Resized], places: Int[np.ndarray, " windows"]
) -> Int[np.ndarray, " windows"]:
    """Return the scale of each window, int16 pixels; 0 where it is pooled at every scale."""
    known = np.array([image.scale_px for image in resized], dtype=np.int16)
    return np.where(places == EVERY_SCALE, 0, known[places]) if len(known) else known[places]


def narrow_maps(
    maps: Sequence[Float[Tensor, "channels _ _"]], dtype: torch.dtype
) -> tuple[list[Tensor], Bool[Tensor, " maps"]]:
    """Round feature maps to the stored dtype before they are pooled.

    Rounding is monotone, so the largest of rounded numbers is the rounded largest: pooling gives
    the same bits, with half the memory traffic and without narrowing vectors 50 times as large.

    Returns:
        the narrow maps; and of each whether all its numbers fit, on the maps' device, so that
        nobody has to wait for it yet. A number that does not fit concerns only windows over it.
    """
    narrow = [feature_map.to(dtype) for feature_map in maps]
    fit = [torch.isfinite(feature_map).all() for feature_map in narrow]
    return narrow, torch.stack(fit)


def require_fit(name: str, vectors: Float[Tensor, "..."], dtype: torch.dtype) -> None:
    """Check that an image's features fit the stored dtype: an infinity would be no feature.

    Raises:
        InputError: naming the image, the largest feature, and the way out.
    """
    if not torch.isfinite(vectors.to(dtype)).all():
        largest = vectors.abs().max().item()
        word = str(dtype).removeprefix("torch.")
        raise InputError(
            f"image {name}: a feature of {largest:g} does not fit {word}, whose largest is "
            f'{torch.finfo(dtype).max:g}: set features.vector_dtype = "float32", or look '
            "at the weights and their preprocessing"
        )
