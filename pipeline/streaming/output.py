"""What was found, as Parquet, as COCO's JSON, as VOC's text files, and as pictures."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from pyarrow import csv

from pipeline import images
from pipeline.errors import InputError
from pipeline.evaluation.devkit import write_devkit
from pipeline.report.pictures import draw_detections
from pipeline.store.files import write_json, written_aside
from pipeline.store.schema import DETECTIONS, box_array, image_slices
from pipeline.streaming.chunks import Found
from pipeline.streaming.listing import Listed, read


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


def require_form(out: Path, forms: Sequence[str]) -> None:
    """Check that a file of a known form may be written there, before anything is done for it.

    Raises:
        InputError: another form, a folder, or a place where nothing may be written.
    """
    if out.suffix not in forms:
        named = " or ".join(f"FILE{form}" for form in forms)
        raise InputError(f"{out}: answers are written to {named}")
    require_folder(out.parent)
    if out.is_dir():
        raise InputError(f"{out} is a folder: give the name of a file")


def write_classes(out: Path, found: Found) -> None:
    """Write what images show, a line for each image and class, as Parquet or CSV."""
    with written_aside(out) as aside:
        if out.suffix == ".csv":
            csv.write_csv(found.answers, aside)
        else:
            pq.write_table(found.answers, aside)


def require_writable(out: Path, images: Sequence[Listed]) -> None:
    """Check that detections may be written there, before anything is detected.

    Raises:
        InputError: no such form, a file where a folder goes, a place where nothing may be written,
            or names that VOC's files cannot have.
    """
    if out.suffix in (".parquet", ".json"):
        require_form(out, (".parquet", ".json"))
        return
    require_folder(out.parent if out.suffix else out)
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
            pq.write_table(found.answers, aside)
    elif out.suffix == ".json":
        write_json(out, coco(found, classes, places))
    else:
        write_devkit(found.answers, out, classes=classes)


def coco(found: Found, classes: Sequence[str], places: Mapping[str, str]) -> dict[str, list[dict]]:
    """Return images, categories, and annotations with scores, as COCO writes them."""
    detections, sizes = found.answers, found.sizes
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
    classes: Sequence[str] = (),
) -> None:
    """Draw each image with its detections above a score, as a picture of its own.

    The colour tells the class, as in the paper's Figure 6.

    Args:
        folder: created if absent.
        detections: of these images, one after the other.
        places: of the images, by name.
        min_score: detections drawn are above it.
        max_pixels: of an image.
        classes: of the model, so that one has the same colour in every picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        name: detections.slice(part.start, part.stop - part.start)
        for name, part in image_slices(detections)
    }
    for name, place in places.items():
        found = parts.get(name, DETECTIONS.empty_table()).filter(pc.field("score") > min_score)
        image = images.decode(read(place), max_pixels=max_pixels)
        drawn = draw_detections(image, found, ["found"] * len(found), classes=classes)
        # Quoted: an image in a folder below stays one file in this one.
        path = folder / f"{quote(name, safe=' ')}.png"
        Image.fromarray(drawn).save(path, format="PNG")  # of "..", too


def best(detections: pa.Table, count: int) -> list[dict]:
    """Return the best detections, best first."""
    order = np.argsort(-detections["score"].to_numpy(), kind="stable")[:count]
    return detections.take(pa.array(order)).to_pylist()
