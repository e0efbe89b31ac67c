"""Annotations, lists and tables of images, as others write them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import index
from pipeline.datasets import read_voc
from pipeline.datasets.coco import category_names, read_coco
from pipeline.datasets.parquet import parquet_classes, read_parquet_images
from pipeline.datasets.records import Split
from pipeline.datasets.voc_layout import read_labelled, read_list
from pipeline.errors import InputError
from tests.fuzz_tests.target import Target

CLASSES = ("cat", "dog")
XML = """<?xml version="1.0" encoding="utf-8"?>
<annotation><folder>VOC2007</folder><filename>a.jpg</filename>
<size><width>9</width><height>7</height><depth>3</depth></size>
<object><name>cat</name><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>2</xmin><ymin>1</ymin><xmax>9</xmax><ymax>6.5</ymax></bndbox></object>
<object><name>dog</name><bndbox><ymax>7</ymax><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax></bndbox>
<part><name>head</name></part></object></annotation>"""
HOSTILE_XML = """<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c SYSTEM "file:///etc/passwd">]><annotation><size><width>&b;</width></size>
<filename>&c;</filename></annotation>"""


def xml_seeds() -> Iterator[bytes]:
    """Yield an annotation in several encodings, and hostile ones."""
    for encoding in ("utf-8", "utf-16", "latin-1"):
        yield XML.replace("utf-8", encoding).encode(encoding)
    yield XML.replace("\n", "\r\n").encode("utf-8-sig")
    yield HOSTILE_XML.encode()
    yield b"<annotation>" * 3000
    # What is no list of attributes of one object: 2^16 of them.
    yield b"<annotation " + b" ".join(b'a%d="1"' % k for k in range(1 << 12)) + b"/>"


def read_xml(data: bytes, folder: Path) -> None:
    """Objects that are taken lie in their image; what is skipped is told."""
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\n")
    if not (folder / "JPEGImages/a.jpg").exists():
        Image.new("RGB", (9, 7)).save(folder / "JPEGImages/a.jpg")
    (folder / "Annotations/a.xml").write_bytes(data)
    found = read_voc(folder, "train", CLASSES, skip_invalid=True)
    _require_sound(found)
    try:
        strict = read_voc(folder, "train", CLASSES)
    except InputError:
        assert found.skipped
    else:
        assert strict == found


def list_seeds() -> Iterator[bytes]:
    """Yield lists of images, with and without labels."""
    yield b"000005\n000007\n"
    yield b"\xef\xbb\xbf000005  1\r\n000007 -1\r\n2008_000001  0\r\n"
    yield b"../../etc/passwd\n"


def read_lists(data: bytes, folder: Path) -> None:
    """Ids stay in their folder, and are there once."""
    path = folder / "ImageSets/Main/train.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    found = read_list(folder, "train")
    assert len(set(found)) == len(found) > 0
    assert all((folder / name).parent == folder and "\0" not in name for name in found)
    assert set(read_labelled(path).values()) <= {-1, 0, 1}


COCO: dict[str, Any] = {
    "info": {"year": 2017},
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 9, "height": 7},
        {"id": 3, "file_name": "below/b.jpg", "width": 50, "height": 40, "license": 1},
    ],
    "categories": [
        {"id": 18, "name": "dog", "supercategory": "animal"},
        {"id": 2, "name": "cat"},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1.5, 2, 3, 4], "iscrowd": 0},
        {
            "id": 2,
            "image_id": 3,
            "category_id": 2,
            "bbox": [0, 0, 50, 40],
            "iscrowd": 1,
            "segmentation": {"counts": [3, 4, 5], "size": [40, 50]},
        },
    ],
}


def coco_seeds() -> Iterator[bytes]:
    """Yield COCO's JSON as it is, with names for numbers, and with numbers that JSON has not."""
    yield json.dumps(COCO).encode()
    text = json.dumps(COCO)
    yield text.replace('"id": 7', '"id": "7"').replace('"image_id": 7', '"image_id": "7"').encode()
    yield text.replace("1.5", "NaN").replace("50, 40", "Infinity, 1e999").encode()
    yield text.replace("a.jpg", "../../../a.jpg").encode()
    yield b"[" * 100_000
    yield b'{"images": ' + b"9" * 5000 + b"}"


def read_coco_json(data: bytes, folder: Path) -> None:
    """As VOC's; and files stay in the folder."""
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "train").mkdir(exist_ok=True)
    (folder / "annotations/instances_train.json").write_bytes(data)
    classes = category_names(folder, "train")
    found = read_coco(folder, "train", classes, skip_invalid=True)
    _require_sound(found)
    assert all(each.path.resolve().is_relative_to(folder.resolve()) for each in found.records)


def table_seeds() -> Iterator[bytes]:
    """Yield Hugging Face's layout, with numbers and with words as labels."""
    picture = io.BytesIO()
    Image.new("RGB", (9, 7)).save(picture, "PNG")
    held = [{"bytes": picture.getvalue(), "path": "a.png"}] * 3
    feature = {"label": {"_type": "ClassLabel", "names": list(CLASSES)}}
    told = json.dumps({"info": {"features": {"image": {"_type": "Image"}, **feature}}})
    for labels in ([0, 1, -1], ["cat", "dog", None], [[0], [0, 1], []]):
        table = pa.table({"image": held, "label": labels})
        named = isinstance(labels[0], int)
        file = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({"huggingface": told} if named else None), file
        )
        yield file.getvalue()


def read_tables(data: bytes, folder: Path) -> None:
    """Images become files of the destination, and nothing else does."""
    (folder / "train.parquet").write_bytes(data)
    classes = parquet_classes(folder, "train", None)
    out = folder / "out"
    found = read_parquet_images(folder, "train", classes, None, out)
    _require_sound(found)
    assert all(each.path.parent == out for each in found.records)


def _require_sound(found: Split) -> None:
    for record in found.records:
        for one in record.objects:
            x_min, y_min, x_max, y_max = one.box
            inside = 0 <= x_min < x_max <= record.width and 0 <= y_min < y_max <= record.height
            assert inside or not record.width, (one, record)
    index.images_table(found.records, "train")  # they go into columns of their types
    index.objects_table(found.records, "train")


TARGETS = (
    Target("voc-xml", xml_seeds, read_xml, (b"<!DOCTYPE", b"<!ENTITY", b"nan", b"1e999", b"&#0;")),
    Target("voc-list", list_seeds, read_lists, (b"..", b"/", b"\\", b" -1", b"\0")),
    Target("coco-json", coco_seeds, read_coco_json, (b"NaN", b"Infinity", b"1e999", b"null")),
    Target("image-table", table_seeds, read_tables, (b"PAR1", b"huggingface", b"ClassLabel")),
)
