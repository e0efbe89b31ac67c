"""Image and windows to vectors: the one function that joins the rooms, and its steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8
from torch import Tensor

from pipeline import images, spp
from pipeline.boxes import flip
from pipeline.config import Features
from pipeline.errors import InputError
from pipeline.networks import Network


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
    """Of each window: the place of its cells when all scales' cells stand one after the other."""

    @property
    def count(self) -> int:
        """How many vectors there are to compute."""
        return sum(map(len, self.cells))


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
    found: list[np.ndarray] = []
    for place, image in enumerate(resized):
        chosen = np.flatnonzero(places == place)
        height, width = image.pixels.shape[1:]
        map_size = network.map_size(width, height)
        cells = spp.window_cells(windows[chosen], image.factors, network.geometry, map_size)
        different, which = spp.distinct(cells)
        rows[chosen] = sum(map(len, found)) + which
        found.append(different)
    return Distinct(tuple(found), rows)


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
) -> Float[Tensor, "distinct dim"]:
    """Return the SPP vectors of cells on the maps of several scales, one scale after the other.

    Args:
        maps: one feature map a scale, of one dtype.
        cells: of each scale.
        levels: the pyramid.
        out: where to put the vectors; of the maps' dtype. Default: a new tensor.

    Source: He et al., §4.1.
    """
    if out is None:
        dim = maps[0].shape[0] * sum(level * level for level in levels)
        out = spp.empty_vectors(sum(map(len, cells)), dim, maps[0])
    start = 0
    for feature_map, those in zip(maps, cells, strict=True):
        spp.pool(feature_map, those, levels, out=out[start : start + len(those)])
        start += len(those)
    return out


@torch.inference_mode()
def window_vectors(
    image: UInt8[np.ndarray, "rows cols 3"],
    windows: Float[np.ndarray, "windows 4"],
    network: Network,
    settings: Features,
    name: str = "given",
) -> tuple[Float[np.ndarray, "windows dim"], Int[np.ndarray, " windows"]]:
    """Return each window's vector of `settings.layer`, unnormalised, and its scale in pixels.

    What an extractor stores: `pool5` to the bit; `fc6` and `fc7` but for the last digit, because
    an extractor sends windows of several images through them together.

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
    image, windows = as_seen(image, windows, settings)
    resized, places = resize_to_scales(image, windows, network, settings)
    distinct = distinct_cells(resized, places, windows, network)
    dtype: torch.dtype = getattr(torch, settings.vector_dtype)
    if not resized:
        length = network.layer_size(settings.layer, settings.levels)
        return np.zeros((0, length), settings.vector_dtype), scale_of(resized, places)
    maps = [feature_maps([one], network)[0] for one in resized]
    if settings.layer == "pool5":
        narrow, fit = narrow_maps(maps, dtype)
        vectors = pool_cells(narrow, distinct.cells, settings.levels)
        if not fit.all():
            require_fit(name, pool_cells(maps, distinct.cells, settings.levels), dtype)
    else:
        wide = network.fc(pool_cells(maps, distinct.cells, settings.levels), settings.layer)
        vectors = wide.to(dtype)
        require_fit(name, wide, dtype)
    return vectors.cpu().numpy()[distinct.rows], scale_of(resized, places)


def scale_of(
    resized: Sequence[Resized], places: Int[np.ndarray, " windows"]
) -> Int[np.ndarray, " windows"]:
    """Return the scale of each window, int16 pixels."""
    return np.array([image.scale_px for image in resized], dtype=np.int16)[places]


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
