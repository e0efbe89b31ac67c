"""Labels of a few images out of many."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.store import labels
from pipeline.store.labels import read_labels, write_labels
from pipeline.store.place import open_parquet

TABLE = pa.table({"image_id": ["c", "a", "d", "a", "b"], "number": [0, 1, 2, 3, 4]})
NAME = "objects.parquet"


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
def test_labels_of_some_images(root, image_ids, numbers):
    write_labels(root, NAME, TABLE)
    assert read_labels(root, NAME, image_ids)["number"].to_pylist() == numbers
    assert list(root.listing("")) == [NAME]


def test_a_table_that_is_not_sorted_gives_the_same_rows(root):
    with root.spool(NAME) as aside:
        pq.write_table(TABLE, aside)
        root.bring(aside, NAME)
    assert read_labels(root, NAME, ["a", "c"])["number"].to_pylist() == [0, 1, 3]


def test_groups_are_small_and_know_their_images(root, monkeypatch):
    monkeypatch.setattr(labels, "GROUP_ROWS", 2)
    write_labels(root, NAME, TABLE)
    with open_parquet(root, NAME) as file:
        columns = [file.metadata.row_group(k).column(0).statistics for k in range(3)]
    assert [(held.min, held.max) for held in columns] == [("a", "a"), ("b", "c"), ("d", "d")]
    assert read_labels(root, NAME, ["b"])["number"].to_pylist() == [4]


def test_a_missing_or_damaged_table_is_named(root):
    with pytest.raises(InputError, match=r"images.parquet cannot be read .*run the recipe again"):
        read_labels(root, "images.parquet", ["a"])
    root.replace("images.parquet", b"PAR1 no more")
    with pytest.raises(InputError, match=r"images.parquet cannot be read"):
        read_labels(root, "images.parquet")
    with (
        pytest.raises(InputError, match=r"images.parquet cannot be read .*spp verify"),
        open_parquet(root, "images.parquet"),
    ):
        pass
    with (
        pytest.raises(InputError, match=r"none.parquet is missing: see spp verify"),
        open_parquet(root, "none.parquet"),
    ):
        pass
