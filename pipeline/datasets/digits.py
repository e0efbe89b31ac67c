"""The embedded data set: real handwritten digits in cluttered scenes, written in VOC layout.

`digits_scans` has the digits, `digits_render` paints, `digits_scenes` composes, `digits_crops`
makes what a network is pre-trained on.
"""

import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from pipeline.datasets.digits_crops import BACKGROUND, pretraining_crops
from pipeline.datasets.digits_scans import DIGIT_CLASSES, Pool, split_digits
from pipeline.datasets.digits_scenes import Scene, scene

__all__ = ["BACKGROUND", "DIGIT_CLASSES", "pretraining_crops", "scene", "split_digits", "write"]

_QUALITY = 95  # JPEG


def write(folder: Path, seed: int = 0, *, n_train: int = 300, n_test: int = 150) -> None:
    """Write the data set in VOC layout: image sets `train` and `test`, scenes as JPEG.

    The same arguments give the same bytes; a larger set begins with the scenes of a smaller one.
    `digits.json`, written last, records the seed, the pools and the digits of every scene.

    Args:
        folder: Made if need be; files of the same names are replaced.
        seed: Of everything.
        n_train: Number of training scenes.
        n_test: Number of test scenes.
    """
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    used: dict[str, tuple[int, ...]] = {}
    counts: dict[Pool, int] = {"train": n_train, "test": n_test}
    for pool, count in counts.items():
        image_ids = [f"{pool}_{number:05d}" for number in range(count)]
        for number, image_id in enumerate(image_ids):
            one = scene(seed, pool, number)
            used[image_id] = one.digits
            _write_scene(folder, image_id, one)
        lines = "".join(f"{image_id}\n" for image_id in image_ids)
        (folder / "ImageSets/Main" / f"{pool}.txt").write_text(lines)
    pools = {name: indices.tolist() for name, indices in split_digits(seed).items()}
    record = {"seed": seed, "pools": pools, "scenes": used}
    (folder / "digits.json").write_text(json.dumps(record) + "\n")


def _write_scene(folder: Path, image_id: str, one: Scene) -> None:
    bgr = np.ascontiguousarray(one.image[:, :, ::-1])
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    (folder / "JPEGImages" / f"{image_id}.jpg").write_bytes(data.tobytes())
    (folder / "Annotations" / f"{image_id}.xml").write_text(_annotation(image_id, one))


def _annotation(image_id: str, one: Scene) -> str:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{image_id}.jpg"
    height, width = one.image.shape[:2]
    _add(root, "size", width=width, height=height, depth=3)
    for thing in one.objects:
        element = _add(
            root, "object", name=thing.class_name, truncated=0, difficult=int(thing.difficult)
        )
        x_min, y_min, x_max, y_max = (int(value) for value in thing.box)
        # VOC counts pixels from 1 and includes the last: the edge of SPEC §1 in this direction.
        _add(element, "bndbox", xmin=x_min + 1, ymin=y_min + 1, xmax=x_max, ymax=y_max)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, tag: str, **values: str | int) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    for name, value in values.items():
        ElementTree.SubElement(element, name).text = str(value)
    return element
