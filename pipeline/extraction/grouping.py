"""Which images run through the network together: of equal size, up to a number."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch

from pipeline.extraction.decoding import Ready

T = TypeVar("T")


def of_one_size(images: Iterable[Ready], most: int) -> Iterator[list[Ready]]:
    """Yield groups of up to `most` consecutive images that have the same sizes at all scales."""
    group: list[Ready] = []
    for ready in images:
        if group and (len(group) == most or ready.sizes != group[0].sizes):
            yield group
            group = []
        group.append(ready)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group


def of_equal_sizes(images: Iterable[Ready], most: int) -> Iterator[list[Ready]]:
    """Yield groups of up to `most` images that have the same sizes, wherever they stand."""
    by_size: dict[Any, list[Ready]] = {}
    for ready in images:
        by_size.setdefault(ready.sizes, []).append(ready)
    for alike in by_size.values():
        yield from map(list, batched(alike, most))


def in_order(
    images: Iterable[Ready], made: Iterable[tuple[Ready, list[torch.Tensor]]]
) -> Iterator[tuple[Ready, list[torch.Tensor]]]:
    """Yield what was made of images, in their order."""
    of = {ready.image_id: (ready, maps) for ready, maps in made}
    yield from (of.pop(ready.image_id) for ready in images)


def batched(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Yield lists of up to `most` items, one after the other."""
    left = iter(items)
    while part := list(islice(left, most)):
        yield part
