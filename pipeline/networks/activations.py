"""How much memory the way from an image to its feature maps takes, known from layers and sizes."""

from collections.abc import Iterable, Iterator

from torch import nn

from pipeline.networks.backbone import Backbone
from pipeline.networks.geometry import map_size, out_channels
from pipeline.networks.network import Network
from pipeline.networks.strips import STRIP_BYTES

NUMBER_BYTES = 4  # float32
STRIPS = 3  # of a convolution's input, of its output, and of what is made of that


def activation_bytes(network: Network, width: int, height: int) -> int:
    """Return the most that one image's activations take at a time on a CPU, in float32.

    A layer holds what it reads and what it makes; ReLU works in place. A block holds all that its
    convolutions make, and its result twice: before and after its two ways are joined. Of the runs
    of layers that go strip by strip only the first input and the last output are whole.

    Args:
        network: `outline`'s is enough.
        width: of the resized image, pixels.
        height: likewise.

    Raises:
        InputError: the image is too small for a single cell.

    >>> from pipeline.networks import outline
    >>> zf5 = outline("zf5", width=0.0625)  # of 224 px conv1 makes 110x110x6, pooled to 55x55x6
    >>> activation_bytes(zf5, 224, 224) == (224 * 224 * 3 + 55 * 55 * 6) * 4 + 12_000_000
    True
    """
    if isinstance(network, Backbone):
        return network.seen(width, height).peak * NUMBER_BYTES
    layers = list(_flat(network.path()))
    most, read = 0, 3 * width * height
    for start, stop in _runs(layers, network.strip_ends):
        made = _numbers(layers[:stop], width, height)
        inside = _inside(layers[:start], layers[start], width, height) if stop - start == 1 else 0
        most, read = max(most, read + made + inside), made
    strips = STRIPS * STRIP_BYTES if network.strip_ends else 0
    return most * NUMBER_BYTES + strips


def made_bytes(network: Network, width: int, height: int, most: int) -> int:
    """Return what all layers together make of one image, in float32, in pieces of up to `most`.

    An allocator that keeps small pieces may hold that much, when the next image has another size.

    Args:
        network: `outline`'s is enough.
        width: of the resized image, pixels.
        height: likewise.
        most: bytes of the largest piece that counts.

    Raises:
        InputError: the image is too small for a single cell.

    >>> from pipeline.networks import outline
    >>> zf5 = outline("zf5", width=0.0625)  # 55x55x6, 13x13x16, twice 13x13x24, 13x13x16
    >>> made_bytes(zf5, 224, 224, most=70_000) == (13 * 13 * (16 + 24 + 24 + 16)) * 4
    True
    """
    if isinstance(network, Backbone):
        sizes = (NUMBER_BYTES * each for each in network.seen(width, height).made)
        return sum(each for each in sizes if each <= most)
    layers, pieces = list(_flat(network.path())), list[int]()
    for start, stop in _runs(layers, network.strip_ends):
        before, block = layers[:start], layers[stop - 1]
        made = _numbers(layers[:stop], width, height)
        pieces += [made]
        if stop - start == 1 and hasattr(block, "path"):
            inner = list(block.path())  # pyright: ignore[reportCallIssue]
            ends = [n for n, layer in enumerate(inner, start=1) if not isinstance(layer, nn.ReLU)]
            pieces += [made, *(_numbers([*before, *inner[:end]], width, height) for end in ends)]
    return sum(NUMBER_BYTES * each for each in pieces if NUMBER_BYTES * each <= most)


def _flat(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer)
        else:
            yield layer


def _runs(layers: list[nn.Module], strip_ends: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield runs of layers with a whole map behind each: the strips, then layer by layer."""
    start = 0
    for stop in (*strip_ends, *range(max(strip_ends, default=0) + 1, len(layers) + 1)):
        if not isinstance(layers[stop - 1], nn.ReLU) or stop in strip_ends:
            yield start, stop
        start = stop


def _inside(before: list[nn.Module], block: nn.Module, width: int, height: int) -> int:
    """Numbers that a block of several layers makes beside its result."""
    if not hasattr(block, "path"):
        return 0
    inner = list(block.path())  # pyright: ignore[reportCallIssue]
    ends = [n for n, layer in enumerate(inner, start=1) if isinstance(layer, nn.Conv2d)]
    made = [_numbers([*before, *inner[:end]], width, height) for end in ends]
    return sum(made) + _numbers([*before, block], width, height)


def _numbers(layers: list[nn.Module], width: int, height: int) -> int:
    cols, rows = map_size(layers, width, height)
    return out_channels(layers) * cols * rows
