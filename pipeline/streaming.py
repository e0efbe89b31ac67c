"""Detection in files that no dataset lists: a folder, a pattern, a prefix on S3; no store is made.

What is found goes into Parquet, into COCO's JSON, or into VOC's text files.
"""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from pipeline import images
from pipeline.config import digest
from pipeline.errors import InputError, UnreachableError
from pipeline.evaluation.devkit import write_devkit
from pipeline.model import loaded
from pipeline.report.pictures import draw_detections
from pipeline.store.files import read_json, write_json, written_aside
from pipeline.store.schema import DETECTIONS, box_array, image_slices

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"}


@dataclass(frozen=True)
class Listed:
    """An image that was named."""

    image_id: str
    place: str
    """A path, or a URI."""
    state: str
    """Its size, and what tells that it was written anew; empty where nothing is to be read."""


@dataclass(frozen=True)
class ChunkSpec:
    """What a task needs to detect in some images."""

    folder: Path
    """Of the model."""
    digest: str
    """Of the model."""
    destination: Path
    """The Parquet file of detections; beside it, `.json`, sizes and reasons."""
    images: tuple[Listed, ...]


@dataclass(frozen=True)
class ChunkStats:
    """What `detect_chunk` did."""

    images: int
    detections: int


def list_images(given: Sequence[str]) -> list[Listed]:
    """Return the images that some words name, each by a name that no other has, in order.

    An image is called by its path in the folder, or in the part of the pattern before the first
    `*`, that found it; without the suffixes, where names then still differ.

    Args:
        given: files, folders (with all below them), patterns with `*`, each a path or a URI such
            as `s3://bucket/photos/`.

    Raises:
        InputError: a word names no image, or two images have one name.
    """
    found: dict[str, Listed] = {}
    for word in given:
        for each in _named_by(word):
            held = found.setdefault(each.image_id, each)
            if held.place != each.place:
                raise InputError(
                    f"{held.place} and {each.place} would both be called {each.image_id}: give "
                    "the folder that holds both"
                )
    short = {name: str(PurePosixPath(name).with_suffix("")) for name in found}
    if len(set(short.values())) < len(short) or set(short.values()) & found.keys():
        short = {name: name for name in found}
    named = [replace(each, image_id=short[name]) for name, each in found.items()]
    return sorted(named, key=lambda each: each.image_id)


def _named_by(word: str) -> Iterator[Listed]:
    try:
        files, path = fsspec.core.url_to_fs(word)
        if "*" in path:
            top = path.partition("*")[0].rpartition("/")[0]
            told = files.glob(path, detail=True)
        elif files.isdir(path):
            top, told = path, files.find(path, detail=True)
            told = {name: info for name, info in told.items() if _is_image(name)}
        else:
            top = path.rpartition("/")[0]
            told = {path: files.info(path)} if files.exists(path) else {}
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{word} cannot be listed: {error}") from None
    told = {name: info for name, info in told.items() if info.get("type") != "directory"}
    if not told:
        raise InputError(
            f"{word} names no image: give a file, a folder with {', '.join(sorted(SUFFIXES))}, or "
            "a pattern in quotes"
        )
    for name, info in told.items():
        place = files.unstrip_protocol(name) if "://" in word else name
        broken = bool(info.get("islink")) and not files.exists(name)
        changed = next((info[key] for key in ("ETag", "mtime", "LastModified") if key in info), "")
        state = "" if broken else f"{info.get('size')} {changed}"
        yield Listed(name.removeprefix(top.rstrip("/") + "/"), place, state)


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def chunk_name(model: str, images: Sequence[Listed]) -> str:
    """Return what names the work of a chunk: the model's digest, and the images as they are."""
    return digest(model, [[each.image_id, each.place, each.state] for each in images])[:32]


def detect_chunk(spec: ChunkSpec) -> ChunkStats:
    """Detect in some images, with a model that each process reads once.

    What is no image is noted with its reason. A file that is gone, or not seen by this machine,
    is no such thing: it may be there for others.

    Raises:
        UnreachableError: an image cannot be read.
        InputError: the model is not what it was.
    """
    model, tables = loaded(spec.folder, spec.digest), [DETECTIONS.empty_table()]
    sizes: dict[str, tuple[int, int]] = {}
    reasons: dict[str, str] = {}
    for each in spec.images:
        if not each.state:
            reasons[each.image_id] = f"{each.place} leads nowhere"
            continue
        try:
            table, sizes[each.image_id] = model.detect(_reach(each), each.image_id)
            tables.append(table)
        except images.UndecodableImage as error:
            reasons[each.image_id] = str(error)
    found = pa.concat_tables(tables)
    write_json(spec.destination.with_suffix(".json"), {"sizes": sizes, "reasons": reasons})
    with written_aside(spec.destination) as aside:
        pq.write_table(found, aside)
    return ChunkStats(len(sizes), len(found))


def _reach(image: Listed) -> bytes:
    try:
        return read(image.place)
    except OSError as error:
        raise UnreachableError(
            f"image {image.image_id}: {image.place} cannot be read on {socket.gethostname()} "
            f"({error}): bring it back, or mount its folder there, and run the same command again"
        ) from error


def read(place: str) -> bytes:
    """Return a file's bytes, wherever it lies."""
    files, path = fsspec.core.url_to_fs(place)
    return files.cat_file(path)


def is_done(destination: Path) -> bool:
    """Return whether a chunk was detected in."""
    return destination.is_file() and destination.with_suffix(".json").is_file()


@dataclass(frozen=True)
class Found:
    """What all chunks came to."""

    detections: pa.Table
    """Image after image, in order."""
    sizes: dict[str, tuple[int, int]]
    """Width and height of each image that could be read."""
    reasons: dict[str, str]
    """Why the others could not."""


def read_chunks(destinations: Sequence[Path]) -> Found:
    """Return what chunks left."""
    sizes: dict[str, tuple[int, int]] = {}
    reasons: dict[str, str] = {}
    for path in destinations:
        held = read_json(path.with_suffix(".json")) or {"sizes": {}, "reasons": {}}
        sizes |= {name: (size[0], size[1]) for name, size in held["sizes"].items()}
        reasons |= held["reasons"]
    tables = [pq.read_table(path, schema=DETECTIONS) for path in destinations]
    return Found(pa.concat_tables([DETECTIONS.empty_table(), *tables]), sizes, reasons)


def require_folder(folder: Path) -> None:
    """Make a folder, where there is none.

    Raises:
        InputError: it cannot be made, or may not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} is no folder and cannot be made one ({error.strerror})"
        ) from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder} may not be written to")


def require_writable(out: Path, images: Sequence[Listed]) -> None:
    """Check that detections may be written there, before anything is detected.

    Raises:
        InputError: no such form, a file where a folder goes, a place where nothing may be written,
            or names that VOC's files cannot have.
    """
    require_folder(out.parent if out.suffix else out)
    if out.suffix in (".parquet", ".json"):
        if out.is_dir():
            raise InputError(f"{out} is a folder: give the name of a file")
        return
    if out.suffix:
        raise InputError(
            f"{out}: detections are written to FILE.parquet, FILE.json (COCO), or a FOLDER (VOC)"
        )
    for each in images:
        if each.image_id.split() != [each.image_id]:
            raise InputError(
                f"image {each.image_id!r}: VOC's files cannot carry white space in a name; write "
                "FILE.parquet or FILE.json"
            )


def write(out: Path, found: Found, classes: Sequence[str], places: Mapping[str, str]) -> None:
    """Write detections in the form that the file's name asks for.

    Args:
        out: `.parquet`; `.json` for COCO's; anything else is a folder for VOC's text files.
        found: in all images.
        classes: of the model; COCO's categories, from 1, and VOC's files.
        places: of each image.
    """
    if out.suffix == ".parquet":
        with written_aside(out) as aside:
            pq.write_table(found.detections, aside)
    elif out.suffix == ".json":
        write_json(out, coco(found, classes, places))
    else:
        write_devkit(found.detections, out, classes=classes)


def coco(found: Found, classes: Sequence[str], places: Mapping[str, str]) -> dict[str, list[dict]]:
    """Return images, categories, and annotations with scores, as COCO writes them."""
    detections, sizes = found.detections, found.sizes
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
    folder: Path,
    detections: pa.Table,
    places: Mapping[str, str],
    min_score: float | int,
    max_pixels: int,
) -> None:
    """Draw each image with its detections above a score, as a picture of its own.

    Args:
        folder: created if absent.
        detections: of these images, one after the other.
        places: of the images, by name.
        min_score: detections drawn are above it.
        max_pixels: of an image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        name: detections.slice(part.start, part.stop - part.start)
        for name, part in image_slices(detections)
    }
    for name, place in places.items():
        found = parts.get(name, DETECTIONS.empty_table()).filter(pc.field("score") > min_score)
        image = images.decode(read(place), max_pixels=max_pixels)
        drawn = draw_detections(image, found, ["found"] * len(found))
        # Quoted: an image in a folder below stays one file in this one.
        Image.fromarray(drawn).save(folder / f"{quote(name, safe=' ')}.png")


def best(detections: pa.Table, count: int) -> list[dict]:
    """Return the best detections, best first."""
    order = np.argsort(-detections["score"].to_numpy(), kind="stable")[:count]
    return detections.take(pa.array(order)).to_pylist()
