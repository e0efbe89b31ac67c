"""The windows of a dataset as Parquet files, a chunk of images each, sorted by image and window.

Objects are windows too, marked `ground_truth`: their vectors are the positives of the classes.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, UInt8

from pipeline import config, images
from pipeline.datasets.records import ImageRecord
from pipeline.errors import InputError
from pipeline.store.files import written_aside
from pipeline.store.schema import BOX_COLUMNS, GROUND_TRUTH, box_array, image_slices
from pipeline.windows.grid import grid
from pipeline.windows.imported import check_windows, read_parquet
from pipeline.windows.mat import read_mat
from pipeline.windows.recall import recall
from pipeline.windows.selective_search import rank, selective_search

WINDOWS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("window_id", pa.int32(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in BOX_COLUMNS),
        pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
)
THRESHOLDS = (0.5, 0.7)


@dataclass(frozen=True)
class ChunkSpec:
    """Some images of a dataset."""

    name: str
    records: tuple[ImageRecord, ...]
    earlier: Mapping[str, Path] = field(default_factory=dict)
    """Tables that have the windows of some of its images, made by the same settings."""


@dataclass(frozen=True)
class ChunkStats:
    """What `write_chunk` wrote."""

    windows: dict[str, int]
    """Rows of each image, ground truth included."""
    objects: int
    """Not difficult."""
    covered: list[int]
    """How many of them some window overlaps by each of `THRESHOLDS`."""
    unreadable: dict[str, str]


def write_chunk(
    chunk: ChunkSpec,
    settings: config.Windows,
    seed: int,
    folder: Path,
    max_pixels: int = images.MAX_PIXELS,
) -> ChunkStats:
    """Make or import the windows of some images and write them as a table of `WINDOWS`."""
    records = chunk.records
    unreadable: dict[str, str] = {}
    found = _found_before(chunk.earlier)
    left = [record for record in records if record.image_id not in found]
    found |= _find(left, settings, seed, max_pixels, unreadable)
    measured = recall(found, records, THRESHOLDS)
    tables = [WINDOWS.empty_table()]
    for record in sorted(records, key=lambda record: record.image_id):
        proposed = found.get(record.image_id, np.zeros((0, 4), np.float32))
        # What an image shows as a whole is no further window of it.
        objects = record.boxes[:0] if settings.method == "image" else record.boxes
        tables.append(_rows(record.image_id, proposed, objects, settings.method))
    with written_aside(folder / f"{chunk.name}.parquet") as aside:
        pq.write_table(pa.concat_tables(tables).unify_dictionaries(), aside)
    return ChunkStats(
        windows={table["image_id"][0].as_py(): len(table) for table in tables if len(table)},
        objects=measured.objects,
        covered=[
            round(np.nan_to_num(measured.by_threshold[t]) * measured.objects) for t in THRESHOLDS
        ],
        unreadable=unreadable,
    )


def _found_before(earlier: Mapping[str, Path]) -> dict[str, Float32[np.ndarray, "windows 4"]]:
    """Return the windows that tables have of some images; of what cannot be read, none."""
    found: dict[str, Float32[np.ndarray, "windows 4"]] = {}
    for file in sorted(set(earlier.values())):
        asked = [image_id for image_id, held in earlier.items() if held == file]
        with suppress(OSError, pa.ArrowException):
            table = pq.read_table(file, schema=WINDOWS, filters=[("image_id", "in", asked)])
            # Objects are of labels, which may be others now.
            proposed = table.filter(pc.field("source") != GROUND_TRUTH)
            boxes = box_array(proposed).astype(np.float32)  # as they are stored
            found |= {image_id: boxes[part] for image_id, part in image_slices(proposed)}
    return found


def _find(
    records: Sequence[ImageRecord],
    settings: config.Windows,
    seed: int,
    max_pixels: int,
    unreadable: dict[str, str],
) -> dict[str, Float32[np.ndarray, "windows 4"]]:
    if settings.method == "file":
        return _import(records, settings, seed)
    found = {}
    for record in records:
        if settings.method == "image":
            found[record.image_id] = whole_image(record.width, record.height)
            continue
        if settings.method == "grid":
            found[record.image_id] = _grid(record.width, record.height, settings)
            continue
        try:
            image = images.load(record.path, max_pixels=max_pixels)
        except (OSError, images.UndecodableImage) as error:
            unreadable[record.image_id] = str(error)  # the extraction quarantines it
            continue
        windows = propose(image, settings, seed)
        inside = (windows[:, 2] <= record.width) & (windows[:, 3] <= record.height)
        found[record.image_id] = windows[inside]
    return found


def whole_image(width: int, height: int) -> Float32[np.ndarray, "_ 4"]:
    """Return the one window that is the image; none where its size could not be read."""
    box = np.array([[0, 0, width, height]], np.float32)
    return box[: 1 if width and height else 0]


def propose(
    image: UInt8[np.ndarray, "rows cols 3"], settings: config.Windows, seed: int
) -> Float32[np.ndarray, "windows 4"]:
    """Return the candidate windows of an image, as a run makes them.

    Args:
        image: RGB.
        settings: of a method that makes windows from the image.
        seed: the recipe's.

    Raises:
        InputError: windows come from a file, which has none of other images.
    """
    if settings.method == "file":
        raise InputError(
            f"windows come from the file {settings.path}, which has those of its own images only: "
            'set windows.method = "selective_search"'
        )
    if settings.method == "image":
        return whole_image(image.shape[1], image.shape[0])
    if settings.method == "grid":
        return _grid(image.shape[1], image.shape[0], settings)
    if min(image.shape[:2]) < settings.min_side_px:  # none would be left, after hours
        return np.zeros((0, 4), np.float32)
    return selective_search(
        image,
        seed=seed,
        min_side_px=settings.min_side_px,
        max_windows=settings.max_windows,
        working_side_px=settings.working_side_px,
        base_k=settings.base_k,
    )


def _grid(width: int, height: int, settings: config.Windows) -> Float32[np.ndarray, "windows 4"]:
    return grid(width, height, min_side_px=settings.min_side_px)[: settings.max_windows]


def _import(
    records: Sequence[ImageRecord], settings: config.Windows, seed: int
) -> dict[str, Float32[np.ndarray, "windows 4"]]:
    """Ready-made windows: small ones dropped, and ranked where there are too many."""
    assert settings.path is not None  # the recipe's own check
    if settings.path.suffix == ".mat":
        given = read_mat(settings.path, settings.mat_layout)
        if not any(record.image_id in given for record in records):
            raise InputError(
                f"{settings.path} has windows for none of the {len(records)} images asked for (the "
                f"first is {records[0].image_id}): join the files of all image sets into one"
            )
    else:
        given = read_parquet(settings.path, [record.image_id for record in records])
    found = {}
    for record in records:
        windows = given.get(record.image_id, np.zeros((0, 4), np.float32))
        check_windows(windows, record.image_id, record.width, record.height)
        sides = (windows[:, 2:] - windows[:, :2]).min(axis=1, initial=np.inf)
        windows = windows[sides >= settings.min_side_px]
        if len(windows) > settings.max_windows:
            windows = windows[np.sort(rank(windows, seed)[: settings.max_windows])]
        found[record.image_id] = windows
    return found


def _rows(
    image_id: str,
    proposed: Float32[np.ndarray, "windows 4"],
    objects: Float32[np.ndarray, "objects 4"],
    source: str,
) -> pa.Table:
    boxes = np.concatenate([proposed, objects])
    sources = np.repeat(np.array([0, 1], np.int32), [len(proposed), len(objects)])
    columns = [
        pa.array([image_id] * len(boxes), pa.string()),
        pa.array(np.arange(len(boxes), dtype=np.int32)),
        *(pa.array(np.ascontiguousarray(corner)) for corner in boxes.T),
        pa.DictionaryArray.from_arrays(sources, [source, GROUND_TRUTH]),
    ]
    return pa.table(columns, schema=WINDOWS)


class WindowTables:
    """The window tables of a folder, and which images each spans.

    Every file's footer is read once, here; after that a shard opens only the files that may hold
    its images. Opening all of them for every shard would cost files × shards.
    """

    def __init__(self, folder: Path) -> None:
        # File by file: what a killed writer left aside in the folder is no table.
        self._spans = [(file, _span(file)) for file in sorted(folder.glob("*.parquet"))]

    def read(self, image_ids: Sequence[str]) -> dict[str, pa.Table]:
        """Return the windows of some images; an image without windows is absent."""
        asked = sorted(image_ids)
        files = [file for file, span in self._spans if span is None or _meets(asked, *span)]
        chosen = [("image_id", "in", asked)]
        found = [pq.read_table(file, schema=WINDOWS, filters=chosen) for file in files]
        table = pa.concat_tables([WINDOWS.empty_table(), *found]).unify_dictionaries()
        table = table.sort_by([("image_id", "ascending"), ("window_id", "ascending")])
        return {
            image_id: table.slice(part.start, part.stop - part.start)
            for image_id, part in image_slices(table)
        }


def _span(file: Path) -> tuple[str, str] | None:
    """The first and the last image id of a table; None where its footer does not tell."""
    footer = pq.read_metadata(file)
    column = WINDOWS.get_field_index("image_id")
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    spans = [group.column(column).statistics for group in groups if group.num_rows]
    if any(span is None or not span.has_min_max for span in spans):
        return None
    # Of a table without rows: no id is as small as an empty one.
    return min((span.min for span in spans), default=""), max(
        (span.max for span in spans), default=""
    )


def _meets(asked: Sequence[str], first: str, last: str) -> bool:
    place = bisect_left(asked, first)
    return place < len(asked) and asked[place] <= last
