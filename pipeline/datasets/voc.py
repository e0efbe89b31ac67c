"""Reader of the PASCAL VOC layout: ImageSets/Main/<set>.txt, Annotations, JPEGImages.

VOC counts pixels from 1 and includes the last one. The step to SPEC §1 boxes, `xmin - 1` and
`ymin - 1`, is made in `_half_open` and nowhere else.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline import images
from pipeline.datasets.inside import Inside
from pipeline.datasets.records import MOST_SIDE_PX, ImageRecord, Object, Split, rounded
from pipeline.datasets.voc_layout import SUFFIXES, image_files, read_list
from pipeline.errors import InputError
from pipeline.plain_files import NoPlainFileError, read_plain

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
MOST_XML_BYTES = 1 << 22  # 10,000 objects; as a tree it takes a hundred times as much memory
_SIDES = ("xmin", "ymin", "xmax", "ymax")
# Hoiem et al., "Diagnosing Error in Object Detectors" (2012): what is easily taken for another.
VOC_LOOK_ALIKES = (
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)


def read_voc(
    root: Path,
    image_set: str,
    classes: Sequence[str],
    *,
    skip_invalid: bool = False,
    follow_links: bool = False,
) -> Split:
    """Read one image set of a folder in VOC layout.

    Args:
        root: The folder that holds ImageSets, Annotations and JPEGImages.
        image_set: Name of a list in ImageSets/Main, without `.txt`; a second column is ignored.
        classes: The classes that annotations may name.
        skip_invalid: Leave out objects whose box is not finite, empty, reversed or outside the
            image, and list them in `skipped`, instead of raising. Fractions of a pixel are kept.
        follow_links: Also where links lead out of `root`.

    Returns:
        The records, with SPEC §1 boxes, and what was skipped.

    Raises:
        InputError: A missing folder, list, image or annotation, a class not in `classes`, an
            invalid box, a link that leads out of `root`, or an annotation that is not VOC XML. The
            message names the image.
    """
    inside = Inside(root, follow_links)
    image_ids = read_list(root, image_set, follow_links=follow_links)
    files = image_files(root / "JPEGImages")
    skipped: list[str] = []
    records: list[ImageRecord] = []
    for image_id in image_ids:
        if image_id not in files:
            raise InputError(
                f"image set {image_set!r} lists {image_id}, but {root / 'JPEGImages'} has no "
                f"{image_id}{{{','.join(SUFFIXES)}}}: add the image or remove the line"
            )
        annotation = inside(root / "Annotations" / f"{image_id}.xml")
        record, invalid = _read_record(image_id, annotation, inside(files[image_id]), classes)
        if invalid and not skip_invalid:
            raise InputError(f"{invalid[0]}: mend it, or set dataset.skip_invalid = true")
        skipped += invalid
        records.append(record)
    return Split(tuple(records), tuple(skipped))


def _read_record(
    image_id: str, annotated: Path, image_file: Path, classes: Sequence[str]
) -> tuple[ImageRecord, list[str]]:
    annotation = _parse(annotated, image_id)
    width, height = _image_size(annotation, image_id, image_file)
    objects: list[Object] = []
    invalid: list[str] = []
    for number, element in enumerate(annotation.findall("object"), start=1):
        where = f"image {image_id}, object {number}"
        one = _read_object(element, where, classes)
        problem = _box_problem(one.box, width, height)
        if problem:
            invalid.append(
                f"{where} ({one.class_name}): box {_text(one.box)} {problem} "
                f"(0-based half-open; the image is {width}x{height})"
            )
        else:
            objects.append(one)
    return ImageRecord(image_id, image_file, width, height, tuple(objects)), invalid


def _parse(path: Path, image_id: str) -> Element:
    try:
        root = fromstring(read_plain(path, MOST_XML_BYTES), forbid_dtd=True)
    except FileNotFoundError as error:
        raise InputError(
            f"image {image_id} has no annotation {path}: add it (without objects if there are "
            "none) or remove the image from the list"
        ) from error
    except DefusedXmlException as error:
        raise InputError(f"{path} has a DTD or entities, which are never read: {error}") from error
    except (NoPlainFileError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except (ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path} is not well-formed XML: {error}") from error
    if root.tag != "annotation":
        raise InputError(f"{path} is not a VOC annotation: its root must be <annotation>")
    return root


def _image_size(annotation: Element, image_id: str, image_file: Path) -> tuple[int, int]:
    texts = [(annotation.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    # Some annotation tools write no size, or 0: the file's header knows.
    if all(text in ("", "0") for text in texts):
        try:
            return images.read_size(image_file)
        except InputError as error:
            raise InputError(f"image {image_id} has no <size> and {image_file}: {error}") from error
    if not all(map(_is_side, texts)):
        told = "x".join(repr(text[:20]) for text in texts)
        raise InputError(
            f"image {image_id}: <size> says {told} pixels, and whole numbers from 1 to "
            f"{MOST_SIDE_PX:,} are sides of images"
        )
    return int(texts[0]), int(texts[1])


def _is_side(text: str) -> bool:
    digits = text.isascii() and text.isdigit() and len(text) < 20
    return digits and 0 < int(text) <= MOST_SIDE_PX


def _read_object(element: Element, where: str, classes: Sequence[str]) -> Object:
    class_name = (element.findtext("name") or "").strip()
    if class_name not in classes:
        raise InputError(
            f"{where} is a {class_name!r:.80}, which is not among the recipe's {len(classes)} "
            "classes: add it to the classes or remove the object from the annotation"
        )
    corners = [_number(element, f"bndbox/{side}", where) for side in _SIDES]
    return Object(
        class_name,
        _half_open(*corners),
        difficult=_flag(element, "difficult", where),
        truncated=_flag(element, "truncated", where),
    )


def _half_open(
    xmin: float, ymin: float, xmax: float, ymax: float
) -> tuple[float, float, float, float]:
    return rounded((xmin - 1, ymin - 1, xmax, ymax))


def _number(element: Element, name: str, where: str) -> float:
    text = element.findtext(name)
    try:
        return float(text or "")
    except ValueError as error:
        raise InputError(f"{where}: <{name}> is {text!r:.40}, not a number") from error


def _flag(element: Element, name: str, where: str) -> bool:
    text = (element.findtext(name) or "0").strip()
    if text not in ("0", "1"):
        raise InputError(f"{where}: <{name}> is {text!r:.40}, neither 0 nor 1")
    return text == "1"


def _box_problem(box: tuple[float, float, float, float], width: int, height: int) -> str:
    x_min, y_min, x_max, y_max = box
    if not all(math.isfinite(value) for value in box):
        return "is not finite"
    if x_min >= x_max or y_min >= y_max:
        return "is empty or reversed"
    if x_min < 0 or y_min < 0 or x_max > width or y_max > height:
        return "leaves the image"
    return ""


def _text(box: tuple[float, float, float, float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
