"""What a network of any layers does to sizes: known from one run without numbers.

torch's meta device runs a network's operations on shapes alone, in milliseconds, whatever library
wrote it. Each operation is looked at as it happens: those that slide over the image give the
geometry, and all of them the memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Divisible by the strides and patches that networks have: 2^6 times 21, so that 14 and 24 are too.
COLUMNS_PX, ROWS_PX = 1344, 672

# By their names in torch's own list, whichever overload of them was called.
_CONVOLVE = ("aten::conv2d", "aten::convolution")
_POOL = ("aten::max_pool2d", "aten::max_pool2d_with_indices", "aten::avg_pool2d")
_PAD = ("aten::pad", "aten::constant_pad_nd")


@dataclass(frozen=True)
class Step:
    """One operation that changes how many columns there are."""

    columns: int
    """Before it."""
    left: int
    """After it."""
    kernel: int
    stride: int
    padding: int
    """On the left."""

    @property
    def shift(self) -> float:
        """How far the first centre moves, in cells of what goes in (SPEC §2)."""
        return (self.kernel - 1) / 2 - self.padding


@dataclass
class Trace:
    """What a run was seen to do."""

    maps: list[tuple[int, ...]] = field(default_factory=list)
    """Shape of each map that came out: batch, channels, rows, columns."""
    steps: list[Step] = field(default_factory=list)
    """In the order in which they ran."""
    peak: int = 0
    """Numbers that lay in memory at a time, at most: the image among them, weights not."""
    made: list[int] = field(default_factory=list)
    """Numbers that each operation made, the image first."""


def run(
    network: Callable[[Tensor], Sequence[Tensor]],
    weights: Sequence[Tensor],
    width: int = COLUMNS_PX,
    height: int = ROWS_PX,
) -> Trace:
    """Return what a network on the meta device does to an image.

    Args:
        network: from an image to maps.
        weights: its parameters and buffers, which count for nothing.
        width: of the image, in pixels.
        height: likewise.
    """
    image = torch.empty(1, 3, height, width, device="meta")
    # In inference mode operations are seen as the network calls them, attention in one piece: as it
    # runs on a CPU, which never holds the product of all cells with all.
    with torch.inference_mode(), _Watch(image, weights) as watch:
        maps = network(image)
    watch.trace.maps = [tuple(each.shape) for each in maps]
    return watch.trace


def centre(steps: Sequence[Step], columns: int) -> float | None:
    """Return the 0-based pixel under the first cell's centre, of a map of so many columns.

    From an image of ``COLUMNS_PX`` on, the main way through the network is followed: of operations
    that read equally many columns, that which leaves most is on it, for attention over a coarser
    map is a side way; of those that leave equally many, that of the largest kernel, the longest
    way, as in ``geometry.derive``. Where no operation tells how columns became fewer, cells were
    put together in blocks (Swin's merging of patches), and a block's centre is its cells' mean.

    Returns:
        the centre in pixels; None where operations were seen that this does not explain.

    >>> seven_by_seven = Step(1344, 672, kernel=7, stride=2, padding=3)
    >>> centre([seven_by_seven, Step(672, 336, kernel=3, stride=2, padding=1)], 336)
    0.0
    >>> centre([Step(1344, 336, kernel=4, stride=4, padding=0)], 168)  # then 2·2 cells in one
    3.5
    """
    found, apart = 0.0, 1.0  # the first centre, and pixels from one to the next
    now, passed, met = COLUMNS_PX, 0, {COLUMNS_PX}
    while now != columns:
        ways = [n for n in range(passed, len(steps)) if steps[n].columns == now]
        if ways:
            best = max(ways, key=lambda n: (steps[n].left, steps[n].kernel, -n))
            step, passed = steps[best], best + 1
            found, apart, now = found + step.shift * apart, apart * step.stride, step.left
        else:
            later = [each.columns for each in steps[passed:] if each.columns < now]
            block, rest = divmod(now, later[0] if later else columns)
            if rest or block < 2:
                return None
            found, apart, now = found + (block - 1) / 2 * apart, apart * block, now // block
        met.add(now)
        if now < columns:
            return None
    strange = any(each.columns not in met for each in steps[:passed])
    return None if strange or apart * columns != COLUMNS_PX else found


class _Watch(TorchDispatchMode):
    def __init__(self, image: Tensor, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.trace = Trace(peak=image.numel(), made=[image.numel()])
        self._weights = {StorageWeakRef(each.untyped_storage()).cdata for each in weights}
        self._alive = [(StorageWeakRef(image.untyped_storage()), image.numel())]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func._schema.name in _CONVOLVE + _POOL + _PAD and args[0].ndim == 4:
            left = (made[0] if isinstance(made, tuple) else made).shape[3]
            if args[0].shape[3] != left:
                self.trace.steps.append(_step(func._schema, args, kwargs or {}, left))
        self._count(made)
        return made

    def _count(self, made: Any) -> None:
        known = {each.cdata for each, _ in self._alive} | self._weights
        for each in tree_leaves(made):
            if isinstance(each, Tensor):
                reference = StorageWeakRef(each.untyped_storage())
                if reference.cdata not in known:
                    numbers = each.untyped_storage().nbytes() // each.element_size()
                    self._alive.append((reference, numbers))
                    self.trace.made.append(numbers)
        self._alive = [(one, numbers) for one, numbers in self._alive if not one.expired()]
        self.trace.peak = max(self.trace.peak, sum(numbers for _, numbers in self._alive))


def _step(schema: Any, args: tuple[Any, ...], kwargs: dict[str, Any], left: int) -> Step:
    """Return what an operation does along a row."""
    named = {each.name: each.default_value for each in schema.arguments if each.has_default_value()}
    named |= {
        each.name: value for each, value in zip(schema.arguments, args, strict=False)
    } | kwargs
    columns = named["self" if "self" in named else "input"].shape[3]
    if schema.name in _PAD:
        return Step(columns, left, kernel=1, stride=1, padding=named["pad"][0])
    if schema.name in _CONVOLVE:
        kernel = (named["weight"].shape[3] - 1) * _last(named["dilation"]) + 1
    else:
        kernel = _last(named["kernel_size"])
    # A pool of no stride goes on by its own size; padding in words is "valid", as "same" is for
    # layers of stride 1, which leave all columns.
    stride = _last(named["stride"]) if named["stride"] else kernel
    padding = 0 if isinstance(named["padding"], str) else _last(named["padding"])
    return Step(columns, left, kernel, stride, padding)


def _last(sides: Any) -> int:
    return int(sides[-1]) if isinstance(sides, list | tuple) else int(sides)
