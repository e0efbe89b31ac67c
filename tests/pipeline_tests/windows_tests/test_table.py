"""The windows of a dataset as files: made or imported, with the objects among them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from PIL import Image

from pipeline import config, index, windows
from pipeline.datasets.records import ImageRecord, Object
from pipeline.errors import InputError
from pipeline.windows.table import WINDOWS, ChunkSpec, WindowTables, write_chunk

CAT = Object("cat", (10.0, 20.0, 60.0, 80.0))
HARD = Object("cat", (1.0, 2.0, 31.0, 33.0), difficult=True)


@pytest.fixture
def records(tmp_path):
    """Images b and a, in this order; b has a cat and a difficult one."""
    random = np.random.default_rng(0)
    made = []
    for image_id, objects in (("b", (CAT, HARD)), ("a", ())):
        path = tmp_path / f"{image_id}.png"
        Image.fromarray(random.integers(0, 255, (90, 120, 3), np.uint8)).save(path)
        made.append(ImageRecord(image_id, path, 120, 90, objects))
    return tuple(made)


def given_windows(path, **images):
    rows = [
        {
            "image_id": name,
            **dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, box), strict=True)),
        }
        for name, boxes in images.items()
        for box in boxes
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return config.Windows(method="file", path=path)


def write(records, settings, folder, seed=0):
    return write_chunk(ChunkSpec("00", records), settings, seed, folder)


def test_images_are_sorted_and_objects_come_last(records, tmp_path):
    settings = given_windows(tmp_path / "w.parquet", b=[[10, 20, 60, 75]], a=[[0, 0, 50, 50]])
    stats = write(records, settings, tmp_path / "out")
    table = pq.read_table(tmp_path / "out/00.parquet")
    assert table.schema == WINDOWS
    assert table["image_id"].to_pylist() == ["a", "b", "b", "b"]
    assert table["window_id"].to_pylist() == [0, 0, 1, 2]
    assert table["source"].to_pylist() == ["file", "file", "ground_truth", "ground_truth"]
    assert table["x_max"].to_pylist() == [50, 60, 60, 31]
    assert stats.windows == {"a": 1, "b": 3}
    assert stats.objects == 1
    assert stats.covered == [1, 1]  # 55/60 of the cat
    assert stats.unreadable == {}


def test_windows_are_read_by_image(records, tmp_path):
    settings = given_windows(tmp_path / "w.parquet", b=[[10, 20, 60, 75]], a=[[0, 0, 50, 50]])
    for number, record in enumerate(records):
        write_chunk(ChunkSpec(str(number), (record,)), settings, 0, tmp_path / "out")
    found = WindowTables(tmp_path / "out").read(["b", "x", "a"])
    assert {image_id: table["window_id"].to_pylist() for image_id, table in found.items()} == {
        "a": [0],
        "b": [0, 1, 2],
    }
    assert list(WindowTables(tmp_path / "out").read(["b"])) == ["b"]
    assert found["b"].schema == WINDOWS


def test_only_files_that_may_hold_the_images_are_opened(tmp_path, monkeypatch):
    settings = config.Windows(method="grid", max_windows=3)
    names = [["a", "b"], ["c", "e"], ["f"], []]
    for number, ids in enumerate(names):
        records = tuple(ImageRecord(name, tmp_path / name, 90, 90, ()) for name in ids)
        write_chunk(ChunkSpec(str(number), records), settings, 0, tmp_path / "out")
    tables, opened = WindowTables(tmp_path / "out"), []
    read = pq.read_table

    def watched(file, **options):
        opened.append(file.stem)
        return read(file, **options)

    monkeypatch.setattr(pq, "read_table", watched)
    for asked, files in ((["e", "b"], ["0", "1"]), (["d"], ["1"]), (["f"], ["2"]), (["g"], [])):
        assert sorted(tables.read(asked)) == sorted({*asked} - {"d", "g"})
        assert opened == files
        opened.clear()


def test_a_table_that_does_not_tell_its_images_is_read(tmp_path):
    settings = config.Windows(method="grid", max_windows=3)
    write_chunk(
        ChunkSpec("0", (ImageRecord("a", tmp_path / "a", 90, 90, ()),)), settings, 0, tmp_path
    )
    pq.write_table(
        pq.read_table(tmp_path / "0.parquet"), tmp_path / "0.parquet", write_statistics=False
    )
    assert list(WindowTables(tmp_path).read(["a"])) == ["a"]


def test_what_a_killed_writer_left_is_no_windows(records, tmp_path):
    settings = given_windows(tmp_path / "w.parquet", b=[[10, 20, 60, 75]], a=[])
    write(records, settings, tmp_path / "out")
    whole = (tmp_path / "out/00.parquet").read_bytes()
    (tmp_path / "out/00.parquet.tmp.12ab").write_bytes(whole)
    (tmp_path / "out/01.parquet.tmp.34cd").write_bytes(whole[:100])
    assert len(WindowTables(tmp_path / "out").read(["b"])["b"]) == 3


def test_imported_windows_are_cut_by_side_and_number(records, tmp_path):
    boxes = [[0, 0, 19, 90], [0, 0, 20, 90], [3, 3, 53, 53], [5, 0, 95, 90]]
    given = given_windows(tmp_path / "w.parquet", b=boxes, a=[])
    stats = write(records, given, tmp_path / "one")
    assert stats.windows == {"b": 3 + 2}  # the objects' sides are not asked


def test_too_many_imported_windows_are_ranked_and_keep_their_order(records, tmp_path):
    boxes = [[k, 0, k + 20 + 5 * (k % 4), 30] for k in range(30)]
    given = given_windows(tmp_path / "w.parquet", b=boxes, a=[])
    few = given.model_copy(update={"max_windows": 11})
    assert write(records, few, tmp_path / "two").windows == {"b": 11 + 2}
    table = WindowTables(tmp_path / "two").read(["b"])["b"]
    kept = table["x_min"].to_pylist()[:11]
    assert kept == sorted(kept)
    assert kept != list(range(11))
    write(records, few, tmp_path / "again")
    assert (tmp_path / "two/00.parquet").read_bytes() == (
        tmp_path / "again/00.parquet"
    ).read_bytes()


def test_imported_windows_must_lie_in_their_image(records, tmp_path):
    settings = given_windows(tmp_path / "w.parquet", b=[[0, 0, 121, 90]], a=[])
    with pytest.raises(InputError, match=r"image b, window 0: .* the image is 120x90"):
        write(records, settings, tmp_path / "out")
    assert not (tmp_path / "out/00.parquet").exists()


def test_mat_files(records, tmp_path):
    path = tmp_path / "b.mat"
    scipy.io.savemat(path, {"boxes": np.array([[21, 11, 80, 60]], np.uint16)})
    settings = config.Windows(method="file", path=path)
    assert write(records[:1], settings, tmp_path / "out").covered == [1, 1]


def test_grids(records, tmp_path):
    settings = config.Windows(method="grid", min_side_px=30)
    stats = write(records, settings, tmp_path / "out")
    expected = len(windows.grid(120, 90, min_side_px=30))
    assert stats.windows == {"a": expected, "b": expected + 2}
    few = config.Windows(method="grid", max_windows=7)
    assert write(records, few, tmp_path / "few").windows == {"a": 7, "b": 9}


def test_selective_search_leaves_unreadable_images_to_the_extraction(records, tmp_path):
    records[1].path.write_bytes(b"torn")
    missing = ImageRecord("c", tmp_path / "nowhere.jpg", 10, 10, ())
    stats = write((*records, missing), config.Windows(min_side_px=10), tmp_path / "out")
    assert sorted(stats.unreadable) == ["a", "c"]
    assert "not an image" in stats.unreadable["a"]
    assert list(stats.windows) == ["b"]
    table = WindowTables(tmp_path / "out").read(["a", "b"])["b"]
    assert set(table["source"].to_pylist()) == {"selective_search", "ground_truth"}


def test_windows_stay_in_the_size_that_the_annotation_says(records, tmp_path):
    smaller = ImageRecord("b", records[0].path, 100, 70, ())
    write((smaller,), config.Windows(min_side_px=5), tmp_path / "out")
    table = WindowTables(tmp_path / "out").read(["b"]).get("b", WINDOWS.empty_table())
    assert all(x <= 100 for x in table["x_max"].to_pylist())
    assert all(y <= 70 for y in table["y_max"].to_pylist())


def test_no_windows_at_all(records, tmp_path):
    settings = given_windows(tmp_path / "w.parquet", b=[[0, 0, 3, 3]], a=[[0, 0, 3, 3]])
    stats = write(records[1:], settings, tmp_path / "out")
    assert stats.windows == {}
    assert (stats.objects, stats.covered) == (0, [0, 0])
    assert WindowTables(tmp_path / "out").read(["a"]) == {}


def test_how_well_windows_cover_each_object(records, tmp_path):
    """Objects themselves are among the tables' rows, and do not count."""
    settings = given_windows(
        tmp_path / "w.parquet", b=[[10, 20, 60, 75], [10, 20, 60, 60]], a=[[0, 0, 50, 50]]
    )
    write(records, settings, tmp_path / "out")
    unseen = ImageRecord("c", tmp_path / "c.png", 120, 90, (CAT,))
    objects = index.objects_table([unseen, *records], "test")
    assert objects["image_id"].to_pylist() == ["c", "b", "b"]
    best = windows.window_ious(tmp_path / "out", objects)
    # The difficult one, of 30 × 31 px, shares 21 × 13 with the lower window of 50 × 40.
    shared = 21 * 13
    assert best.tolist() == [0, 55 / 60, shared / (30 * 31 + 50 * 40 - shared)]
