"""Which objects or images two runs found differently well: pictures that explain their scores."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.report.page import thumbnails
from pipeline.report.page.content import Box, Change
from pipeline.report.page.galleries import around
from pipeline.report.page.thumbnails import SPARE, Chosen, Corners, Shown

LEAST = 0.05  # by which a value differs, to count
MOST = 6  # pictures of a class, each way
MOST_CLASSES = 20  # that have pictures: those whose scores differ most
BETTER, WORSE = "Better", "Worse"


@dataclass(frozen=True)
class _Pair:
    """One object, as two runs found it."""

    image_id: str
    box: Sequence[float] | None
    by: float
    """How much better the other found it."""
    found: tuple[Sequence[float] | None, Sequence[float] | None]
    told: str


def between(
    first: pa.Table,
    other: pa.Table,
    classes: Sequence[str],
    load: thumbnails.Load,
    number: int,
) -> list[Change]:
    """Return what a run found better and worse than the first one, class by class.

    Args:
        first: rows of `per_object`, of the run that is compared with.
        other: likewise, of the other.
        classes: in their order.
        load: gives an image by its id, RGB.
        number: of the other on the page, for its colour.
    """
    pairs = _pairs(first, other)
    apart = {name: abs(sum(each.by for each in pairs[name])) / len(pairs[name]) for name in pairs}
    drawn = set(sorted(apart, key=lambda name: -apart[name])[:MOST_CLASSES])
    better, worse = {}, {}
    for name in classes:
        held = sorted(pairs.get(name, ()), key=lambda each: -each.by)
        better[name] = [each for each in held if each.by >= LEAST]
        worse[name] = [each for each in held[::-1] if each.by <= -LEAST]
    chosen = {
        name: [
            Chosen(title, [_shown(each, number) for each in held[: SPARE * MOST]], MOST, len(held))
            for title, held in ((BETTER, better[name]), (WORSE, worse[name]))
            if held
        ]
        for name in classes
        if name in drawn
    }
    strips, _ = thumbnails.cut(chosen, load)
    return [
        Change(
            name,
            len(better[name]),
            len(worse[name]),
            len(pairs.get(name, ())),
            tuple(strips.get(name, ())),
        )
        for name in classes
    ]


def _pairs(first: pa.Table, other: pa.Table) -> dict[str, list[_Pair]]:
    """Return by class the objects that both runs were to find."""
    known: dict[tuple, list[Mapping]] = defaultdict(list)
    for row in first.to_pylist():
        known[_key(row)].append(row)
    pairs: dict[str, list[_Pair]] = defaultdict(list)
    for row in other.to_pylist():
        if held := known[_key(row)]:
            before = held.pop(0)  # of equal ones each once
            pairs[row["class"]].append(
                _Pair(
                    row["image_id"],
                    row["box"],
                    row["value"] - before["value"],
                    (before["found"], row["found"]),
                    f"{before['told']} → {row['told']}",
                )
            )
    return pairs


def _key(row: Mapping) -> tuple:
    return row["image_id"], row["class"], tuple(row["box"] or ())


def _shown(pair: _Pair, number: int) -> Shown:
    if pair.box is None:
        return Shown(pair.image_id, None, (), pair.told)
    kinds = ("run0", f"run{number}")
    found = [
        Box(_corners(box), kind)
        for box, kind in zip(pair.found, kinds, strict=True)
        if box is not None
    ]
    mine = Box(_corners(pair.box), "object")
    return Shown(pair.image_id, around(mine.corners), (mine, *found), pair.told)


def _corners(box: Sequence[float]) -> Corners:
    x_min, y_min, x_max, y_max = box
    return x_min, y_min, x_max, y_max
