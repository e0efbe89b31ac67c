"""Which objects or images two runs found differently well: pictures that explain their scores."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from pipeline.report.page import thumbnails
from pipeline.report.page.content import Box, Change, Changes
from pipeline.report.page.galleries import around
from pipeline.report.page.thumbnails import Chosen, Corners, Shown

LEAST = 0.05 - 1e-9  # by which a value differs, to count
MOST = 6  # pictures of a class, each way
MOST_CLASSES = 20  # that have pictures: those whose objects differ most
BETTER, WORSE = "Better", "Worse"


@dataclass(frozen=True)
class Found:
    """How two runs differ, before there are pictures of it."""

    counted: list[Change]
    """By class, those first whose objects differ most."""
    chosen: dict[str, list[Chosen]]
    """By class, what is to be shown."""
    unpaired: int

    @property
    def image_ids(self) -> set[str]:
        """The images that pictures are cut from."""
        held = (kind.shown for kinds in self.chosen.values() for kind in kinds)
        return {str(one.image_id) for shown in held for one in shown}

    def drawn(self, load: thumbnails.Load, looked: Callable[[], None]) -> Changes:
        """Return it with pictures.

        Args:
            load: gives an image by its id, RGB.
            looked: called after each image.
        """
        strips, unopened = thumbnails.cut(self.chosen, load, looked)
        classes = [replace(each, strips=tuple(strips.get(each.name, ()))) for each in self.counted]
        return Changes(tuple(classes), self.unpaired, unopened)


def between(first: pa.Table, other: pa.Table, classes: Sequence[str], number: int) -> Found:
    """Return what a run found better and worse than the first one, class by class.

    Args:
        first: rows of `per_object`, of the run that is compared with.
        other: likewise, of the other.
        classes: in their order.
        number: of the other on the page, for its colour.
    """
    left, right = _paired(first, other)
    by = other["value"].to_numpy()[right] - first["value"].to_numpy()[left]
    names = other["class"].to_numpy()[right]
    counted: list[Change] = []
    ranked: dict[str, list[Int[np.ndarray, " rows"]]] = {}
    moved: dict[str, float] = {}
    for name in classes:
        mine = np.flatnonzero(names == name)
        order = mine[np.argsort(-by[mine], kind="stable")]
        ranked[name] = [order[by[order] >= LEAST], order[::-1][by[order[::-1]] <= -LEAST]]
        better, worse = ranked[name]
        points = 100 * float(by[mine].mean()) if len(mine) else 0.0
        counted.append(Change(name, len(better), len(worse), len(mine), points))
        moved[name] = float(np.abs(by[mine]).mean()) if len(mine) else 0.0
    counted.sort(key=lambda change: -moved[change.name])
    drawn = [change.name for change in counted[:MOST_CLASSES]]
    chosen = {
        name: [
            Chosen(
                title,
                _shown(first, other, left[rows[:MOST]], right[rows[:MOST]], number),
                MOST,
                len(rows),
            )
            for title, rows in zip((BETTER, WORSE), ranked[name], strict=True)
            if len(rows)
        ]
        for name in drawn
    }
    unpaired = len(first) + len(other) - 2 * len(left)
    return Found(counted, chosen, unpaired)


def _paired(
    first: pa.Table, other: pa.Table
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Return the rows of the objects that both runs were to find, each once."""
    keys = ["image_id", "class", "box"]
    if first.select(keys).equals(other.select(keys)):  # as with the same images and labels
        return np.arange(len(first)), np.arange(len(first))
    known: dict[tuple, list[int]] = defaultdict(list)
    for row, key in enumerate(_keys(first)):
        known[key].append(row)
    pairs = [(known[key].pop(0), row) for row, key in enumerate(_keys(other)) if known.get(key)]
    held = np.array(pairs, np.int64).reshape(-1, 2)
    return held[:, 0], held[:, 1]


def _keys(table: pa.Table) -> list[tuple]:
    boxes = (tuple(box or ()) for box in table["box"].to_pylist())
    return list(zip(table["image_id"].to_pylist(), table["class"].to_pylist(), boxes, strict=True))


def _shown(
    first: pa.Table,
    other: pa.Table,
    left: Int[np.ndarray, " some"],
    right: Int[np.ndarray, " some"],
    number: int,
) -> list[Shown]:
    """Return what is shown of some pairs: the object, and the detections that found it."""
    shown = []
    for before, now in zip(
        first.take(pa.array(left)).to_pylist(), other.take(pa.array(right)).to_pylist(), strict=True
    ):
        told = f"{before['told']} → {now['told']}"
        if now["box"] is None:
            shown.append(Shown(now["image_id"], None, (), told))
            continue
        found = zip((before["found"], now["found"]), ("run0", f"run{number}"), strict=True)
        drawn = [Box(_corners(box), kind) for box, kind in found if box is not None]
        mine = Box(_corners(now["box"]), "object")
        shown.append(Shown(now["image_id"], around(mine.corners), (mine, *drawn), told))
    return shown


def _corners(box: Sequence[float]) -> Corners:
    x_min, y_min, x_max, y_max = box
    return x_min, y_min, x_max, y_max
