"""Detection in files that no dataset lists: a folder, a pattern, a prefix on S3; no store is made.

What is found goes into Parquet, into COCO's JSON, or into VOC's text files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from pipeline import images
from pipeline.errors import InputError, SppError
from pipeline.evaluation.devkit import write_devkit
from pipeline.model import loaded
from pipeline.report.pictures import draw_detections
from pipeline.store.files import read_json, write_json, written_aside
from pipeline.store.schema import DETECTIONS, box_array

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"}


@dataclass(frozen=True)
class ChunkStats:
    """What `detect_chunk` did."""

    images: int
    detections: int
    quarantined: dict[str, str]
    """Reason by image."""


def list_images(given: Sequence[str]) -> dict[str, str]:
    """Return the images that some words name, by a name that no two have.

    An image is called by its path in the folder, or in the part of the pattern before the first
    `*`, that found it, without the suffix where no other image is then called the same.

    Args:
        given: files, folders (with all below them), patterns with `*`, each a path or a URI such
            as `s3://bucket/photos/`.

    Returns:
        Where each lies, in the order of their names.

    Raises:
        InputError: a word names no image.
    """
    found: dict[str, str] = {}
    for word in given:
        for name, place in _named_by(word):
            if found.setdefault(name, place) != place:
                raise InputError(
                    f"{found[name]} and {place} would both be called {name}: give the folder "
                    "that holds both"
                )
    short: dict[str, list[str]] = {}
    for name in found:
        short.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)
    named = {
        (plain if len(names) == 1 else name): found[name]
        for plain, names in short.items()
        for name in names
    }
    return dict(sorted(named.items()))


def _named_by(word: str) -> Iterator[tuple[str, str]]:
    """Yield name and place of each image that a word names."""
    try:
        files, path = fsspec.core.url_to_fs(word)
        if "*" in path:
            top = path.partition("*")[0].rpartition("/")[0]
            paths = [each for each in files.glob(path) if files.isfile(each)]
        elif files.isdir(path):
            top, paths = path, [each for each in files.find(path) if _is_image(each)]
        else:
            top, paths = path.rpartition("/")[0], [path] if files.exists(path) else []
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{word} cannot be listed: {error}") from None
    if not paths:
        raise InputError(
            f"{word} names no image: give a file, a folder with {', '.join(sorted(SUFFIXES))}, or "
            "a pattern in quotes"
        )
    for each in paths:
        place = files.unstrip_protocol(each) if "://" in word else each
        yield each.removeprefix(top.rstrip("/") + "/"), place


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def detect_chunk(
    folder: Path,
    destination: Path,
    chunk: Sequence[tuple[str, str]],
) -> ChunkStats:
    """Detect in some images, with a model that each process reads once.

    Args:
        folder: of the model.
        destination: the Parquet file of detections; beside it, `.json`, the images' sizes.
        chunk: name and place of each image.
    """
    model, tables = loaded(folder), [DETECTIONS.empty_table()]
    sizes: dict[str, tuple[int, int]] = {}
    quarantined: dict[str, str] = {}
    for image_id, place in chunk:
        try:
            table, sizes[image_id] = model.detect(read(place), image_id)
            tables.append(table)
        except (images.UndecodableImage, FileNotFoundError) as error:
            quarantined[image_id] = str(error)
    table = pa.concat_tables(tables)
    write_json(destination.with_suffix(".json"), {"sizes": sizes})
    with written_aside(destination) as aside:
        pq.write_table(table, aside)
    return ChunkStats(len(sizes), len(table), quarantined)


def state(place: str) -> list[str]:
    """Return where a file lies, its size, and what tells that it was written anew."""
    files, path = fsspec.core.url_to_fs(place)
    told = files.info(path)
    changed = next((told[key] for key in ("ETag", "mtime", "LastModified") if key in told), "")
    return [place, str(told.get("size")), str(changed)]


def read(place: str) -> bytes:
    """Return a file's bytes, wherever it lies."""
    files, path = fsspec.core.url_to_fs(place)
    return files.cat_file(path)


def read_chunks(paths: Sequence[Path]) -> tuple[pa.Table, dict[str, tuple[int, int]]]:
    """Return the detections that chunks left, and the images' sizes.

    Raises:
        SppError: one is not there any more.
    """
    sizes: dict[str, tuple[int, int]] = {}
    for path in paths:
        held = read_json(path.with_suffix(".json"))
        if held is None or not path.is_file():
            raise SppError(f"{path} is gone: run the same command again")
        sizes |= {name: (size[0], size[1]) for name, size in held["sizes"].items()}
    tables = [pq.read_table(path, schema=DETECTIONS) for path in paths]
    return pa.concat_tables([DETECTIONS.empty_table(), *tables]), sizes


def write(
    out: Path,
    detections: pa.Table,
    sizes: Mapping[str, tuple[int, int]],
    classes: Sequence[str],
    places: Mapping[str, str],
) -> None:
    """Write detections in the form that the file's name asks for.

    Args:
        out: `.parquet`; `.json` for COCO's; anything else is a folder for VOC's text files.
        detections: of all images.
        sizes: of each image, (width, height).
        classes: of the model; COCO's categories, from 1, and VOC's files.
        places: of each image.
    """
    if out.suffix == ".parquet":
        with written_aside(out) as aside:
            pq.write_table(detections, aside)
    elif out.suffix == ".json":
        write_json(out, coco(detections, sizes, classes, places))
    else:
        write_devkit(detections, out, classes=classes)


def coco(
    detections: pa.Table,
    sizes: Mapping[str, tuple[int, int]],
    classes: Sequence[str],
    places: Mapping[str, str],
) -> dict[str, list[dict]]:
    """Return images, categories, and annotations with scores, as COCO writes them."""
    image_numbers = {name: number for number, name in enumerate(sizes, start=1)}
    class_numbers = {name: number for number, name in enumerate(classes, start=1)}
    boxes = box_array(detections).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(
        detections["image_id"].to_pylist(),
        detections["class"].to_pylist(),
        detections["score"].to_pylist(),
        boxes.tolist(),
        strict=True,
    )
    return {
        "images": [
            {"id": number, "file_name": places[name], "width": sizes[name][0]}
            | {"height": sizes[name][1]}
            for name, number in image_numbers.items()
        ],
        "categories": [{"id": number, "name": name} for name, number in class_numbers.items()],
        "annotations": [
            {
                "id": number,
                "image_id": image_numbers[image],
                "category_id": class_numbers[class_],
                "score": score,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (image, class_, score, box) in enumerate(rows, start=1)
        ],
    }


def draw(
    folder: Path, detections: pa.Table, places: Mapping[str, str], min_score: float | int
) -> None:
    """Draw each image with its detections above a score, as a picture of its own.

    Args:
        folder: created if absent.
        detections: of these and other images.
        places: of the images, by name.
        min_score: detections drawn are above it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    above = detections.filter(pc.field("score") > min_score)
    for name, place in places.items():
        found = above.filter(pc.field("image_id") == name)
        drawn = draw_detections(images.decode(read(place)), found, ["true"] * len(found))
        # Quoted: an image in a folder below stays one file in this one.
        Image.fromarray(drawn).save(folder / f"{quote(name, safe=' ')}.png")


def describe(detections: pa.Table, shown: int) -> list[dict]:
    """Return the best detections, best first."""
    order = np.argsort(-detections["score"].to_numpy(), kind="stable")[:shown]
    return detections.take(pa.array(order)).to_pylist()
