"""Feature maps of an image, and the vectors that are pooled from them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from pipeline import spp
from pipeline.errors import InputError
from pipeline.features.resizing import Resized
from pipeline.networks import Network


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
