"""Reader of Parquet files that hold images and their classes, as Hugging Face lays them out.

The column `image` holds files' bytes, by themselves or as `{bytes, path}`; a column of class labels
holds names, or numbers whose names are in the schema's metadata. The bytes become files first:
what reads images reads files.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.datasets.image_labels import labelled
from pipeline.datasets.inside import Inside
from pipeline.datasets.records import Split, is_text
from pipeline.datasets.voc_layout import is_plain_name
from pipeline.errors import InputError
from pipeline.store.files import written_aside
from pipeline.store.footers import require_plain

IMAGE = "image"
_ROWS = 64  # images in memory at a time
MOST_TIMES, LEAST_ROOM_BYTES = 20, 1 << 30  # that images may take unpacked
_SIGNS = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"}


def parquet_files(root: Path, split: str, *, follow_links: bool = False) -> list[Path]:
    """Return the files of an image set, in order.

    Raises:
        InputError: There are none, or a link leads out of `root`.
    """
    patterns = (f"{split}-*.parquet", f"{split}.parquet", f"{split}/*.parquet")
    places = (root, root / "data")
    plain = is_plain_name(split) and not set("*?[") & set(split)
    found = [
        path for place in places for pattern in patterns if plain for path in place.glob(pattern)
    ]
    if not found:
        inside = sorted({path.name for place in places for path in place.glob("*.parquet")})
        raise InputError(
            f"{root} has no {patterns[0]}, nor in its folder data: it holds "
            f"{', '.join(inside[:5]) or 'no Parquet file'}"
        )
    return list(map(Inside(root, follow_links), sorted(found)))


def parquet_classes(
    root: Path, split: str, label_column: str | None, *, follow_links: bool = False
) -> tuple[str, ...]:
    """Return the classes of an image set: as the schema names them, else all that occur.

    Raises:
        InputError: No such files, or none of their columns holds labels.
    """
    files = parquet_files(root, split, follow_links=follow_links)
    column, names = _labels_of(files[0], label_column)
    if strange := [name for name in names if not is_text(name)]:
        raise InputError(f"{files[0]} names the class {strange[0]!r:.80}, which is no text")
    if names:
        return names
    found: set[str] = set()
    for file in files:
        with _readable(file):
            found.update(map(str, _flat(_opened(file).read([column])[column].to_pylist())))
    return tuple(sorted(found))


def read_parquet_images(
    root: Path,
    split: str,
    classes: Sequence[str],
    label_column: str | None,
    destination: Path,
    *,
    follow_links: bool = False,
) -> Split:
    """Read one image set, and write its images as files.

    Args:
        root: The folder that holds the files, or whose folder `data` does.
        split: What their names begin with.
        classes: That images are read of. Images that show others only, or whose label is -1 or
            nothing, so that nobody knows, are left out and counted in `skipped`; an empty list of
            labels says that an image shows none.
        label_column: None: the only one that the schema calls class labels, or `label`.
        destination: Folder that the images go to.
        follow_links: Also where links lead out of `root`.

    Raises:
        InputError: No such files, no images in them, or a label without a name.
    """
    files = parquet_files(root, split, follow_links=follow_links)
    column, names = _labels_of(files[0], label_column)
    destination.mkdir(parents=True, exist_ok=True)
    listed, left_out, read = [], Counter[str](), set(classes)
    room = max(LEAST_ROOM_BYTES, MOST_TIMES * sum(file.stat().st_size for file in files))
    for number, (data, label) in enumerate(_rows(files, column)):
        image_id = f"{split}-{number:08d}"
        shown = [_name(each, names, files[0]) for each in _flat([label])]
        known = {name: False for name in shown if name in read}
        if not shown and not isinstance(label, list):
            left_out["without a label"] += 1
            continue
        if shown and not known:
            left_out["of no class that is read"] += 1
            continue
        path = destination / f"{image_id}{_suffix(data)}"
        room -= len(data)
        if room < 0:
            raise InputError(
                f"{files[0]} and its like hold images of more than {MOST_TIMES} times their own "
                "size: images are packed already, and these would fill the disk"
            )
        if not path.is_file():
            with written_aside(path) as aside:
                aside.write_bytes(data)
        listed.append((image_id, path, known))
    if not listed:
        raise InputError(f"{files[0]} and its like hold no image of {', '.join(classes[:5])}")
    told = (f"{split}: {count} images {why}" for why, count in sorted(left_out.items()))
    return Split(labelled(listed), tuple(told))


def _rows(files: Sequence[Path], column: str) -> Iterator[tuple[bytes, Any]]:
    for file in files:
        with _readable(file):
            reader = _opened(file)
            names = reader.schema_arrow.names
            if names.count(IMAGE) != 1 or names.count(column) != 1:
                raise InputError(
                    f"{file} has columns {', '.join(names):.300}: expected one {IMAGE} and one "
                    f"{column}"
                )
            for batch in reader.iter_batches(_ROWS, columns=[IMAGE, column]):
                for row in batch.to_pylist():
                    yield _bytes_of(row[IMAGE], file), row[column]


def _bytes_of(held: Any, file: Path) -> bytes:
    data = held.get("bytes") if isinstance(held, dict) else held
    if not isinstance(data, bytes):
        raise InputError(
            f"{file}: column {IMAGE} holds no bytes but {type(data).__name__}: images must be in "
            "the files, not beside them"
        )
    return data


def _opened(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(file, metadata=require_plain(file))


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Say which file is damaged; its footer may be whole."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, KeyError) as error:
        raise InputError(f"{file} cannot be read ({error}): fetch it again") from None


def _labels_of(file: Path, asked: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the column of labels, and the names of their numbers, if they are numbers."""
    with _readable(file):
        schema = _opened(file).schema_arrow
    named = _named(schema)
    column = asked or (next(iter(named)) if len(named) == 1 else "label")
    if column not in schema.names:
        told = f"columns {', '.join(schema.names)}"
        if len(named) > 1:
            told = f"several columns of class labels: {', '.join(named)}"
        raise InputError(f"{file} has {told}: say which in dataset.label_column")
    return column, named.get(column, ())


def _named(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the names of each column that the schema calls class labels."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told.get("info", {}).get("features", {})
        return {
            column: _apart(tuple(map(str, names)))
            for column, feature in features.items()
            if (names := _label_names(feature))
        }
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}  # somebody else's metadata: columns are then what they are


def _apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names, of which each that is there before has its number behind it: ImageNet's cranes.

    >>> _apart(("crane", "dog", "crane"))
    ('crane', 'dog', 'crane (2)')
    """
    return tuple(
        f"{name} ({number})" if name in names[:number] else name
        for number, name in enumerate(names)
    )


def _label_names(feature: Any) -> Sequence[str]:
    """Return the names in a feature of class labels, or of a list of them."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if not isinstance(feature, Mapping):
        return ()
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        return _label_names(feature.get("feature"))
    return feature.get("names", ()) if feature.get("_type") == "ClassLabel" else ()


def _name(label: Any, names: Sequence[str], file: Path) -> str:
    if not names:
        return str(label)
    if not isinstance(label, int) or not 0 <= label < len(names):
        raise InputError(f"{file} and its like have the label {label!r} and {len(names)} names")
    return names[label]


def _flat(labels: Sequence[Any]) -> list[Any]:
    """Return labels, or those in lists of labels; -1 and nothing say that it is not known."""
    flat: list[Any] = []
    for label in labels:
        flat += label if isinstance(label, list) else [label]
    return [label for label in flat if label is not None and label != -1]


def _suffix(data: bytes) -> str:
    return next((suffix for sign, suffix in _SIGNS.items() if data.startswith(sign)), "")
