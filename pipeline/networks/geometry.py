"""Where on the image a cell of the feature map looks: derived from the layers, never typed in."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from pipeline.errors import InputError


@dataclass(frozen=True)
class Geometry:
    """How the cells of a feature map lie on the image (SPEC §2, §3).

    Attributes:
        stride: pixels from one cell's centre to the next.
        centre: 0-based pixel under the centre of the first cell's receptive field; halves occur.
        shrink: pixels by which a window is narrowed at either end before it is projected.
    """

    stride: int | float
    centre: int | float
    shrink: int | float = 0.0


@dataclass(frozen=True)
class Sliding:
    """One sliding layer along one axis: all that geometry depends on."""

    kernel: int
    stride: int
    padding: int
    ceil: bool


def derive(layers: Iterable[nn.Module], shrink: float = 0.0) -> Geometry:
    """Total stride and first receptive-field centre of ``layers`` applied in order (SPEC §2).

    A block of our own says by ``path()`` which of its layers lie on its longest way through.

    Raises:
        TypeError: a layer whose effect on geometry is not known.

    >>> derive([nn.Conv2d(3, 8, 7, stride=2, padding=1), nn.MaxPool2d(3, 2)])
    Geometry(stride=4, centre=4.0, shrink=0.0)
    """
    centre, stride = 0.0, 1
    for each in _steps(layers):
        centre += ((each.kernel - 1) / 2 - each.padding) * stride
        stride *= each.stride
    return Geometry(stride, centre, shrink)


def map_size(layers: Iterable[nn.Module], width: int, height: int) -> tuple[int, int]:
    """Columns and rows of the feature map that an image of ``width`` x ``height`` px gives.

    Raises:
        InputError: the image is smaller than the layers need for a single cell.

    >>> map_size([nn.MaxPool2d(3, 2, ceil_mode=True)], width=110, height=7)
    (55, 3)
    """
    columns, rows = width, height
    for each in _steps(layers):
        columns, rows = _cells(columns, each), _cells(rows, each)
        if columns < 1 or rows < 1:
            raise InputError(
                f"an image of {width}x{height} px leaves no cell in the feature map: "
                "resize it to a larger shorter side"
            )
    return columns, rows


def receptive_field_px(layers: Iterable[nn.Module]) -> int:
    """Side in pixels of what reaches a cell, where the image's border does not cut it.

    Blocks count by their longest way through, and normalisation by the neighbourhood that it
    reads: of ZF-5's 159 px those that reach a cell through its convolutions and pools are 139.

    Raises:
        TypeError: a layer whose effect on geometry is not known.

    >>> receptive_field_px([nn.Conv2d(3, 8, 7, stride=2, padding=1), nn.MaxPool2d(3, 2)])
    11
    """
    side, stride = 1, 1
    for each in _steps(layers):
        side += (each.kernel - 1) * stride
        stride *= each.stride
    return side


def receptive_field(
    layers: Iterable[nn.Module], cell: tuple[int, int], width: int, height: int
) -> tuple[int, int, int, int]:
    """The pixels of an image that reach one cell of its feature map, as a SPEC §1 box.

    It is found backwards, layer by layer, and cut at each map's border on the way: what lies in
    the padding is nobody's, and the last pixels of an image may reach no cell.

    Args:
        layers: as they are applied.
        cell: column and row.
        width: of the image that the network sees, in pixels.
        height: likewise.

    Raises:
        InputError: the image leaves no cell, or there is no such cell.

    >>> layers = [nn.Conv2d(3, 8, 7, stride=2, padding=1), nn.MaxPool2d(3, 2)]
    >>> receptive_field(layers, (0, 2), 32, 32)  # -1 to 9, and 7 to 17
    (0, 7, 10, 18)
    """
    steps = list(_steps(layers))
    columns, rows = map_size(layers, width, height)
    if not (0 <= cell[0] < columns and 0 <= cell[1] < rows):
        raise InputError(
            f"an image of {width}x{height} px has {columns}x{rows} cells, and none is {cell}"
        )
    (x_min, x_max), (y_min, y_max) = (
        _pixels(steps, at, length) for at, length in zip(cell, (width, height), strict=True)
    )
    return x_min, y_min, x_max, y_max


def _pixels(steps: Sequence[Sliding], cell: int, length: int) -> tuple[int, int]:
    """The pixels of one axis that reach a cell, half-open."""
    lengths = [length]
    for step in steps:
        lengths.append(_cells(lengths[-1], step))
    first, last = cell, cell
    for step, before in zip(reversed(steps), reversed(lengths[:-1]), strict=True):
        first = max(first * step.stride - step.padding, 0)
        last = min(last * step.stride - step.padding + step.kernel - 1, before - 1)
    return first, last + 1


def out_channels(layers: Iterable[nn.Module]) -> int:
    """Channels of the feature maps that ``layers`` end in."""
    for layer in reversed(list(layers)):
        if isinstance(layer, nn.Sequential):
            return out_channels(layer)
        if hasattr(layer, "out_channels"):
            return int(layer.out_channels)  # pyright: ignore[reportArgumentType]
    raise TypeError("no layer states its out_channels")


# These leave every cell where it was.
_POINTWISE = (nn.ReLU, nn.Dropout, nn.BatchNorm2d, nn.Identity)


def _steps(layers: Iterable[nn.Module]) -> Iterator[Sliding]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _steps(layer)
        elif isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            yield sliding(layer)
        elif hasattr(layer, "path"):
            yield from _steps(layer.path())  # pyright: ignore[reportCallIssue]
        elif not isinstance(layer, _POINTWISE):
            raise TypeError(
                f"the geometry of {type(layer).__name__} is not known: give it a path() method "
                "that returns the convolutions and pools along its main path"
            )


def sliding(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> Sliding:
    """How the layer slides.

    Raises:
        TypeError: it is dilated, not square, or its padding is not a number.
    """
    if _square(getattr(layer, "dilation", 1)) != 1:
        raise TypeError(f"dilated layers have no geometry here: {layer}")
    return Sliding(
        kernel=_square(layer.kernel_size),
        stride=_square(layer.stride),
        padding=_square(layer.padding),
        ceil=getattr(layer, "ceil_mode", False),
    )


def _square(value: object) -> int:
    sides = set(value) if isinstance(value, tuple) else {value}
    side = sides.pop()
    if sides or not isinstance(side, int):
        raise TypeError(f"only square layers with numeric padding have a geometry here: {value}")
    return side


def _cells(length: int, step: Sliding) -> int:
    slack = (length + 2 * step.padding - step.kernel) / step.stride
    cells = (math.ceil(slack) if step.ceil else math.floor(slack)) + 1
    # torch's rule: a last window that would start in the padding behind the image is dropped.
    if step.ceil and (cells - 1) * step.stride >= length + step.padding:
        cells -= 1
    return cells
