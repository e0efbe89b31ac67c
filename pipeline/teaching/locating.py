"""From marks to vectors: the stored window that a box is, or the vector of the box itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.boxes import iou
from pipeline.errors import InputError
from pipeline.learning.labelling import is_ground_truth
from pipeline.networks import Network
from pipeline.search.regions import region_vectors
from pipeline.store.reader import Store
from pipeline.store.scan import scan_shard
from pipeline.store.schema import BOX_COLUMNS, box_array, image_slices
from pipeline.teaching.marks import Mark, plain

NEAR_ENOUGH = 0.5  # IoU: what detections are judged by
Vector = Float[np.ndarray, " dim"]
Held = Mapping[Mark, tuple[Vector, int]]
"""Vectors and scales that were made, or read, for boxes before, by `plain` mark."""


@dataclass(frozen=True)
class Located:
    """A mark, and where its vector is: in a row of the store, or here."""

    mark: Mark
    shard_id: str = ""
    """Of its image; none where that is an image of another store."""
    row: int = -1
    """Place in the shard."""
    vector: Vector | None = None
    scale_px: int = 0
    iou: float = 1.0
    """Of the box with the nearest window: that is taken for it where there is no vector."""
    near: Int[np.ndarray, " rows"] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Rows of the shard that are no negatives if this is a yes."""


def locate(
    store: Store,
    marks: Sequence[Mark],
    network: Callable[[], Network | None] = lambda: None,
    held: Held | None = None,
    negative_iou: float = 0.3,
) -> list[Located]:
    """Return where the vector of each mark is.

    A box that is a stored window is that one. Another one is pooled from maps, or the network runs
    on it; where neither is possible the window that is nearest is taken for it.

    Args:
        store: has the images.
        marks: on some of them.
        network: gives that which made the store, if it is known; asked for where it is needed.
        held: for boxes that are no stored windows, what is known of them.
        negative_iou: windows that overlap a mark by as much are near it.

    Raises:
        InputError: no such image, a box outside of it, or no window is near it.
    """
    by_shard: dict[int, dict[str, list[int]]] = {}
    for number, mark in enumerate(marks):
        shard = store.shard_of(mark.image_id)
        if shard is None:
            raise InputError(f"{store.root} has no windows of an image {mark.image_id}")
        by_shard.setdefault(shard, {}).setdefault(mark.image_id, []).append(number)
    found: dict[int, Located] = {}
    for shard, images in sorted(by_shard.items()):
        shard_id = store.shards[shard].shard_id
        for numbers in images.values():  # an image may have no window at all
            found |= {number: Located(marks[number], shard_id, iou=0.0) for number in numbers}
        for number, located in _in_shard(store, shard_id, images, marks, negative_iou):
            found[number] = located
    known, loaded = held or {}, cache(network)
    return [_settled(store, found[number], loaded, known) for number in range(len(marks))]


def require_teachable(
    store: Store, marks: Sequence[Mark], network: Callable[[], Network | None]
) -> None:
    """Check that each mark has a vector or a window near it, before it is kept.

    Args:
        store: has the images.
        marks: inside of their images.
        network: gives that of the store, if it is known; asked for where it is needed.

    Raises:
        InputError: names the first box that has neither.
    """
    for each in marks:
        if store.shard_of(each.image_id) is None:
            raise InputError(f"{store.root} has no windows of an image {each.image_id}")
    try:
        locate(store, marks)
    except InputError:
        if network() is None:
            raise
        locate(store, marks, network)  # the file may be gone, or be no image any more


def _in_shard(
    store: Store,
    shard_id: str,
    images: Mapping[str, Sequence[int]],
    marks: Sequence[Mark],
    negative_iou: float,
) -> Iterable[tuple[int, Located]]:
    """Yield the nearest window of each of some marks, by the mark's number."""
    first = 0
    for table in scan_shard(store, shard_id, ["image_id", *BOX_COLUMNS, "source"]):
        boxes, truth = box_array(table), is_ground_truth(table)
        for image_id, part in image_slices(table):
            for number in images.get(image_id, ()):
                row, overlaps = _nearest(boxes[part], truth[part], marks[number].box)
                near = first + part.start + np.flatnonzero(overlaps >= negative_iou)
                place, overlap = first + part.start + row, float(overlaps[row])
                yield number, Located(marks[number], shard_id, place, iou=overlap, near=near)
        first += len(table)


def _nearest(
    boxes: Float[np.ndarray, "windows 4"],
    truth: Bool[np.ndarray, " windows"],
    box: Sequence[float],
) -> tuple[int, Float[np.ndarray, " windows"]]:
    """Return the window nearest to a box, and the IoU of each.

    Of equals a labelled object is taken, as by a training on labels.
    """
    # Boxes are stored as float32: one that was typed as it is printed is meant.
    given = np.asarray(box, np.float32).astype(np.float64)
    overlaps = iou(boxes, given[None])[:, 0]
    overlaps[(boxes == given).all(axis=1)] = 1.0  # whatever the quotient rounded to
    return int(np.lexsort((~truth, -overlaps))[0]), overlaps


def _settled(
    store: Store,
    near: Located,
    network: Callable[[], Network | None],
    held: Held,
) -> Located:
    """Return a mark with its own vector, if its box is no stored window and that can be had."""
    if near.iou == 1.0:
        return near
    mark = near.mark
    known = held.get(plain(mark))
    if known is None:
        loaded = network()
        if loaded is not None or store.kind == "maps":
            known = _made(store, mark, loaded)
    if known is not None:
        return replace(near, vector=known[0], scale_px=known[1])
    if near.iou < NEAR_ENOUGH:
        raise InputError(
            f"the box {list(mark.box)} on image {mark.image_id} is no window of {store.root}, and "
            f"the nearest one overlaps it by {near.iou:.2f}, less than {NEAR_ENOUGH}: mark a "
            "window, or name the store by its recipe, so that its network is known"
        )
    return near


def _made(store: Store, mark: Mark, network: Network | None) -> tuple[Vector, int] | None:
    """Return a box's own vector and scale; None where there is no map, and no network either."""
    try:
        made = region_vectors(store, mark.image_id, [mark.box], lambda: network)
    except InputError:
        if network is not None:
            raise
        return None
    return made.vectors[0], int(made.scale_px[0])
