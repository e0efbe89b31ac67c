"""What became of each object or image of a run: what another run is laid beside.

One row for each object, or for each image and class that it shows: `value`, in 0..1, is what it
adds to its class's score, which is their mean: AP by `area`, or accuracy. (Of random splits about:
they ask for some images more often than for others.)
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int8

from pipeline.errors import InputError
from pipeline.evaluation import Matches, reached
from pipeline.evaluation.answers import Answers
from pipeline.evaluation.precision import envelope
from pipeline.evaluation.ranking import best_first
from pipeline.evaluation.tables import SIDES
from pipeline.store.files import written_aside

FILE = "per_object.parquet"
BOX = pa.list_(pa.float64())
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("class", pa.string()),
        ("box", BOX),  # of the object; none of a whole image
        ("value", pa.float64()),
        ("found", BOX),  # the detection that found it
        ("told", pa.string()),  # the value in words
    ]
)


def of_detections(detections: pa.Table, objects: pa.Table, matches: Matches) -> pa.Table:
    """Return a row for each object that is to be found: not for those that are difficult.

    Args:
        detections: all.
        objects: that there are.
        matches: of these two.
    """
    each = reached(detections, objects, matches)
    rows = np.flatnonzero(~np.isnan(each.precision))
    by, values = each.detections[rows].tolist(), each.precision[rows].tolist()
    places = _boxes(detections)
    columns = {
        "image_id": objects["image_id"].take(pa.array(rows)),
        "class": objects["class"].take(pa.array(rows)),
        "box": _boxes(objects)[rows].tolist(),
        "value": values,
        "found": [places[row].tolist() if row >= 0 else None for row in by],
        "told": [
            _whole(each) if row >= 0 else "missed" for each, row in zip(values, by, strict=True)
        ],
    }
    return pa.table(columns, schema=SCHEMA)


def of_answers(splits: Iterable[Answers], classes: Sequence[str], single: bool) -> pa.Table:
    """Return a row for each image and class that it shows.

    Args:
        splits: one after the other: none of them is kept.
        classes: in their order.
        single: whether each image shows one class: then a value is the share of splits in which
            it is taken for that, and else the precision at which it is ranked.
    """
    asked: dict[tuple[str, int], list[float]] = defaultdict(list)
    others: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for answers in splits:
        for row, k in np.argwhere(answers.labels > 0).tolist() if single else ():
            key, taken = (answers.image_ids[row], k), int(answers.taken_for[row])
            asked[key].append(float(taken == k))
            others[key].update([] if taken == k else [classes[taken]])
        for k in () if single else range(len(classes)):
            for row, height in _ranked_at(answers.labels[:, k], answers.scores[:, k]):
                asked[answers.image_ids[row], k].append(height)

    def told(key: tuple[str, int], value: float) -> str:
        if not single:
            return _whole(value)
        if value == 1:
            return "right"
        ((other, _),) = others[key].most_common(1)
        return other if value == 0 else f"{_whole(value)} % right, {other}"

    keys = sorted(asked)
    values = [float(np.mean(asked[key])) for key in keys]
    columns = {
        "image_id": [name for name, _ in keys],
        "class": [classes[k] for _, k in keys],
        "box": [None] * len(keys),
        "value": values,
        "found": [None] * len(keys),
        "told": [told(key, value) for key, value in zip(keys, values, strict=True)],
    }
    return pa.table(columns, schema=SCHEMA)


def keep(table: pa.Table, folder: Path) -> None:
    """Write it into a folder, whole or not at all."""
    with written_aside(folder / FILE) as aside:
        pq.write_table(table, aside)


def read(folder: Path) -> pa.Table:
    """Return what `keep` wrote.

    Raises:
        InputError: it is not there, or damaged.
    """
    file = folder / FILE
    try:
        return pq.ParquetFile(file).read().cast(SCHEMA)
    except (OSError, ValueError, pa.ArrowException) as error:
        first = str(error).partition("\n")[0]
        raise InputError(
            f"{file} cannot be read ({first}): remove its folder, and run the recipe again"
        ) from None


def _ranked_at(
    labels: Int8[np.ndarray, " images"], scores: Float[np.ndarray, " images"]
) -> Iterator[tuple[int, float]]:
    """Yield the images that show a class, and the precision at which each is ranked."""
    order = best_first(scores)
    counted = order[labels[order] != 0]
    true = labels[counted] > 0
    heights = envelope(np.cumsum(true) / np.arange(1, len(true) + 1))
    yield from zip(counted[true].tolist(), heights[true].tolist(), strict=True)


def _boxes(table: pa.Table) -> Float[np.ndarray, "rows 4"]:
    columns = [table[side].to_numpy().astype(np.float64) for side in SIDES]
    return np.stack(columns, axis=1)


def _whole(share: float) -> str:
    return f"{100 * share:.0f}"
