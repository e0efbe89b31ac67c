"""Whatever boxes an annotation holds, both readers account for each, and agree about the scene."""

import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets import Object, Split, read_voc
from pipeline.datasets.coco import category_names, read_coco
from pipeline.errors import InputError

SIDES = st.integers(1, 600)
# Letters of all languages, and marks that XML and JSON write in other words.
NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=12)
NUMBERS = st.one_of(
    st.floats(width=32),
    st.floats(-2, 700),
    st.integers(-3, 700),
    st.sampled_from([math.nan, 1e39]),
)


@contextmanager
def folder() -> Iterator[Path]:
    """A new one for each example: a test's own is made once."""
    with tempfile.TemporaryDirectory(prefix="spp-test-") as made:
        for name in ("ImageSets/Main", "Annotations", "JPEGImages", "annotations", "train"):
            (Path(made) / name).mkdir(parents=True)
        yield Path(made)


def lay_voc(root: Path, size: tuple[int, int], objects: list[tuple[str, Any, bool]]) -> None:
    """Write one image's annotation; corners as they are given."""
    told = "".join(
        f"<object><name>{escape(name)}</name><difficult>{int(hard)}</difficult><bndbox>"
        + "".join(f"<{k}>{v!r}</{k}>" for k, v in zip(CORNERS, box, strict=True))
        + "</bndbox></object>"
        for name, box, hard in objects
    )
    width, height = size
    size_told = f"<size><width>{width}</width><height>{height}</height></size>"
    xml = f"<annotation>{size_told}{told}</annotation>"
    (root / "Annotations/a.xml").write_text(xml, encoding="utf-8")
    (root / "JPEGImages/a.jpg").touch()
    (root / "ImageSets/Main/train.txt").write_text("a\n")


CORNERS = ("xmin", "ymin", "xmax", "ymax")


def lay_coco(root: Path, size: tuple[int, int], objects: list[tuple[str, Any, bool]]) -> None:
    """Write the same scene as COCO's JSON; boxes as they are given."""
    classes = sorted({name for name, _, _ in objects})
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes)],
        "annotations": [
            {
                "id": k,
                "image_id": 1,
                "category_id": classes.index(name),
                "bbox": list(box),
                "iscrowd": int(hard),
            }
            for k, (name, box, hard) in enumerate(objects)
        ],
    }
    (root / "annotations/instances_train.json").write_text(json.dumps(content))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[tuple[int, int], list[tuple[str, tuple[int, ...], bool]]]:
    """Draw an image's size, and objects inside: a name, VOC's corners, and whether it is hard."""
    width, height = draw(SIDES), draw(SIDES)
    objects = []
    for _ in range(draw(st.integers(1, 6))):
        x = sorted((draw(st.integers(1, width)), draw(st.integers(1, width))))
        y = sorted((draw(st.integers(1, height)), draw(st.integers(1, height))))
        objects.append((draw(NAMES), (x[0], y[0], x[1], y[1]), draw(st.booleans())))
    return (width, height), objects


@given(scenes())
def test_a_scene_is_the_same_in_both_layouts(scene: Any) -> None:
    size, objects = scene
    wanted = tuple(
        Object(name, (x0 - 1.0, y0 - 1.0, float(x1), float(y1)), hard)
        for name, (x0, y0, x1, y1), hard in objects
    )
    cornered = [
        (name, (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1), hard)
        for name, (x0, y0, x1, y1), hard in objects
    ]
    classes = sorted({name for name, _, _ in objects})
    with folder() as root:
        lay_voc(root, size, objects)
        lay_coco(root, size, cornered)
        assert list(category_names(root, "train")) == classes
        for found in (read_voc(root, "train", classes), read_coco(root, "train", classes)):
            (record,) = found.records
            assert (record.width, record.height, record.objects) == (*size, wanted)
            assert found.skipped == ()


EDGE, SMALL = st.floats(-0.9, 0.9), st.floats(1, 9)
BOXES = st.lists(
    st.one_of(
        st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
        st.tuples(EDGE, EDGE, SMALL, SMALL),  # COCO's boxes may leave the image by a fraction
    ),
    min_size=1,
    max_size=6,
)


@given(SIDES, SIDES, BOXES)
def test_each_object_is_kept_or_told_of(width: int, height: int, boxes: Any) -> None:
    objects = [("cat", box, False) for box in boxes]
    with folder() as root:
        lay_voc(root, (width, height), objects)
        lay_coco(root, (width, height), objects)
        for read in (read_voc, read_coco):
            found = read(root, "train", ["cat"], skip_invalid=True)
            require_accounted(found, width, height, len(objects))
            try:
                strict = read(root, "train", ["cat"])
            except InputError:
                assert found.skipped
            else:
                assert strict == found
                assert not found.skipped


def require_accounted(found: Split, width: int, height: int, count: int) -> None:
    """Check that kept and skipped are all there were, and that what is kept is a box."""
    (record,) = found.records
    assert len(record.objects) + len(found.skipped) == count
    corners = record.boxes
    assert np.isfinite(corners).all()
    assert (corners[:, :2] >= 0).all()
    assert (corners[:, :2] < corners[:, 2:]).all()
    assert (corners[:, 2:] <= [width, height]).all()
