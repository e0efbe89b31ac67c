"""The reader of Parquet files that hold images."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.datasets.parquet import parquet_classes, read_parquet_images
from pipeline.errors import InputError

NAMES = {"_type": "ClassLabel", "names": ["cat", "dog"]}


def jpeg(width: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 6)).save(file, "JPEG")
    return file.getvalue()


def write(path: Path, labels: Sequence[Any], feature: Any = NAMES, column: str = "label") -> None:
    held = [{"bytes": jpeg(8 + number), "path": None} for number in range(len(labels))]
    table = pa.table({"image": held, column: labels})
    told = {"info": {"features": {"image": {"_type": "Image"}, column: feature}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(told)}), path)


def read(root: Path, **changes: Any) -> Any:
    given: dict[str, Any] = {"classes": ("cat", "dog"), "label_column": None} | changes
    return read_parquet_images(root, "train", **given, destination=root / "out").records


def test_images_become_files_and_numbers_names(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-00000-of-00002.parquet", [1, 0])
    write(tmp_path / "data" / "train-00001-of-00002.parquet", [1])
    assert parquet_classes(tmp_path, "train", None) == ("cat", "dog")
    records = read(tmp_path)
    assert [record.image_id for record in records] == [
        "train-00000000",
        "train-00000001",
        "train-00000002",
    ]
    assert [record.objects[0].class_name for record in records] == ["dog", "cat", "dog"]
    assert [record.width for record in records] == [8, 9, 8]
    assert records[1].path.read_bytes() == jpeg(9)
    assert records[1].path.suffix == ".jpg"


def test_lists_of_labels_and_none(tmp_path: Path) -> None:
    feature = {"_type": "Sequence", "feature": NAMES}
    write(tmp_path / "train.parquet", [[0, 1], [], [1]], feature, "tags")
    shown = [[one.class_name for one in record.objects] for record in read(tmp_path)]
    assert shown == [["cat", "dog"], [], ["dog"]]


def test_words_are_their_own_names(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", ["zebra", "ant"], {"_type": "Value"})
    assert parquet_classes(tmp_path, "train", None) == ("ant", "zebra")
    assert len(read(tmp_path, classes=("ant",))) == 1


def test_several_columns_of_labels_need_a_word(tmp_path: Path) -> None:
    told = {"info": {"features": {"fine": NAMES, "coarse": NAMES}}}
    table = pa.table({"image": [{"bytes": jpeg()}], "fine": [0], "coarse": [1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"fine, coarse: say which in dataset\.label_column"):
        read(tmp_path)
    assert read(tmp_path, label_column="coarse")[0].objects[0].class_name == "dog"


def test_what_nobody_knows_is_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [1, -1, None, 0])
    given = (tmp_path, "train", ("dog",), None, tmp_path / "out")
    read = read_parquet_images(*given)
    assert [record.image_id for record in read.records] == ["train-00000000"]
    assert read.skipped == (
        "train: 1 images of no class that is read",
        "train: 2 images without a label",
    )


@pytest.mark.parametrize("label", [2, -2, "x"])
def test_a_number_without_a_name(tmp_path: Path, label: Any) -> None:
    write(tmp_path / "train.parquet", [label])
    with pytest.raises(InputError, match=rf"label {label!r} and 2 names"):
        read(tmp_path)


def test_images_that_are_beside_the_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["cat.jpg"], "label": ["cat"]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="holds no bytes but str"):
        read(tmp_path)


def test_no_such_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no train-\*\.parquet"):
        read(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(InputError, match="is not Parquet that can be read"):
        read(tmp_path)


def test_metadata_of_others_is_no_metadata(tmp_path: Path) -> None:
    for number, told in enumerate((b"\xff", b"[]", b'{"info": 3}', b'{"info": {"features": []}}')):
        table = pa.table({"image": [{"bytes": jpeg()}], "label": ["cat"]})
        folder = tmp_path / str(number)
        folder.mkdir()
        pq.write_table(
            table.replace_schema_metadata({"huggingface": told}), folder / "train.parquet"
        )
        assert parquet_classes(folder, "train", None) == ("cat",)
