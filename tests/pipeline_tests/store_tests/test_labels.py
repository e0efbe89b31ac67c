"""Labels of a few images out of many."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.store import labels
from pipeline.store.labels import read_labels, write_labels

TABLE = pa.table({"image_id": ["c", "a", "d", "a", "b"], "number": [0, 1, 2, 3, 4]})


@pytest.fixture
def path(tmp_path):
    write_labels(tmp_path / "objects.parquet", TABLE)
    return tmp_path / "objects.parquet"


@pytest.mark.parametrize(
    ("image_ids", "numbers"),
    [
        (None, [1, 3, 4, 0, 2]),  # by image, and within it as they were
        (["a", "c"], [1, 3, 0]),  # b lies between them
        ({"d": 7}, [2]),
        (["z"], []),
        ([], []),
    ],
)
def test_labels_of_some_images(path, image_ids, numbers):
    assert read_labels(path, image_ids)["number"].to_pylist() == numbers


def test_a_table_that_is_not_sorted_gives_the_same_rows(tmp_path):
    pq.write_table(TABLE, tmp_path / "objects.parquet")
    assert read_labels(tmp_path / "objects.parquet", ["a", "c"])["number"].to_pylist() == [0, 1, 3]


def test_groups_are_small_and_know_their_images(path, monkeypatch):
    monkeypatch.setattr(labels, "GROUP_ROWS", 2)
    write_labels(path, TABLE)
    metadata = pq.read_metadata(path)
    columns = [metadata.row_group(k).column(0).statistics for k in range(3)]
    assert [(held.min, held.max) for held in columns] == [("a", "a"), ("b", "c"), ("d", "d")]
    assert read_labels(path, ["b"])["number"].to_pylist() == [4]


def test_a_missing_or_damaged_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"images.parquet cannot be read .*done\.json"):
        read_labels(tmp_path / "images.parquet", ["a"])
    (tmp_path / "images.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"images.parquet cannot be read"):
        read_labels(tmp_path / "images.parquet")
