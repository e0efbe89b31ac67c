"""Labels of a few images out of many."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.store import labels
from pipeline.store.labels import read_labels, write_labels
from pipeline.store.place import open_parquet, place

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


@pytest.mark.parametrize("group_rows", [1, 3, 4, 100])
def test_a_page_is_read_wherever_it_begins(tmp_path, monkeypatch, group_rows):
    monkeypatch.setattr(labels, "GROUP_ROWS", group_rows)
    ids = [f"image{number:02d}" for number in range(10)]
    table = pa.table({"image_id": ids, "width": range(10)})
    labels.write_labels(place(tmp_path), "images.parquet", table)
    pages = labels.LabelPages(place(tmp_path), "images.parquet")
    assert len(pages) == 10
    for start in range(11):
        for count in (1, 4, 20):
            found = pages.rows(start, count)["image_id"].to_pylist()
            assert found == ids[start : start + count]
    asked = ["image00", "image04", "image04x", "a", "image09", "z"]
    assert [pages.place_of(each) for each in asked] == [0, 4, 5, 0, 9, 9]


def test_an_empty_table_has_an_empty_page(tmp_path):
    table = pa.table({"image_id": pa.array([], pa.string())})
    labels.write_labels(place(tmp_path), "images.parquet", table)
    pages = labels.LabelPages(place(tmp_path), "images.parquet")
    assert (len(pages), len(pages.rows(0, 5)), pages.place_of("a")) == (0, 0, 0)
