import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io

from pipeline import windows
from pipeline.datasets import VOC_CLASSES, read_voc
from pipeline.errors import InputError

SUBSET = "windows/voc2007_subset_selective_search_fast.parquet"


def table(**columns):
    default = {
        "image_id": ["b", "a", "b"],
        "window_id": [1, 0, 0],
        "x_min": [1.0, 2.0, 3.0],
        "y_min": [0.0, 0.0, 0.0],
        "x_max": [11.0, 12.0, 13.0],
        "y_max": [5.0, 5.0, 5.0],
    }
    return pa.table({k: v for k, v in (default | columns).items() if v is not None})


def parquet(path, **columns):
    pq.write_table(table(**columns), path)
    return path


def test_parquet_is_grouped_by_image_and_ordered_by_window_id(tmp_path):
    found = windows.read_parquet(parquet(tmp_path / "w.parquet"))
    assert {name: boxes.tolist() for name, boxes in found.items()} == {
        "a": [[2, 0, 12, 5]],
        "b": [[3, 0, 13, 5], [1, 0, 11, 5]],
    }
    assert found["b"].dtype == np.float32


def test_without_window_ids_the_file_gives_the_order(tmp_path):
    found = windows.read_parquet(parquet(tmp_path / "w.parquet", window_id=None))
    assert found["b"][:, 0].tolist() == [1, 3]


def test_only_the_images_asked_for(tmp_path):
    found = windows.read_parquet(parquet(tmp_path / "w.parquet"), ["c", "a"])
    assert {name: len(boxes) for name, boxes in found.items()} == {"c": 0, "a": 1}
    assert found["c"].shape == (0, 4)


def test_a_folder_of_files_and_other_text_types(tmp_path):
    parquet(tmp_path / "1.parquet", image_id=pa.array(["b", "a", "b"], pa.large_string()))
    assert len(windows.read_parquet(tmp_path)["b"]) == 2
    ids = pa.array(["b", "a", "b"]).dictionary_encode()
    assert len(windows.read_parquet(parquet(tmp_path / "2.parquet", image_id=ids))["b"]) == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x_max": None}, r"no column 'x_max'; it has image_id, window_id, x_min"),
        ({"x_max": [0.5, 12.0, 13.0]}, r"image b, window 1: box \[1.0, 0.0, 0.5, 5.0\] is empty"),
        ({"x_min": [1.0, float("nan"), 3.0]}, r"image a, window 0: .* is not finite"),
        ({"x_min": [1.0, None, 3.0]}, r"image a, window 0: .* is not finite"),
        ({"x_min": [1.0, -2.0, 3.0]}, r"image a, window 0: .* leaves the image"),
        ({"x_min": ["p", "q", "r"]}, r"not a Parquet file of windows"),
        ({"image_id": [5, 6, 7]}, r"'image_id' holds int64 with 0 nulls"),
        ({"image_id": ["a", None, "b"]}, r"'image_id' holds string with 1 nulls"),
    ],
)
def test_bad_tables_are_named(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        windows.read_parquet(parquet(tmp_path / "w.parquet", **columns))


def test_files_that_are_absent_or_of_another_dataset(tmp_path):
    with pytest.raises(InputError, match="no windows file"):
        windows.read_parquet(tmp_path / "w.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(InputError, match="is not Parquet"):
        windows.read_parquet(tmp_path / "text.parquet")
    with pytest.raises(InputError, match=r"none of the 2 images asked for .the first is x"):
        windows.read_parquet(parquet(tmp_path / "w.parquet"), ["x", "y"])


def test_check_windows_knows_the_image():
    windows.check_windows([[0, 0, 10, 5]], "a", 10, 5)
    windows.check_windows([], "a", 10, 5)
    with pytest.raises(InputError, match=r"image a, window 1: .* leaves .* the image is 10x5"):
        windows.check_windows([[0, 0, 10, 5], [0, 0, 10, 6]], "a", 10, 5)


def cells(*values):
    array = np.empty((1, len(values)), dtype=object)
    array[0, :] = values
    return array


def test_mat_of_one_image_in_both_layouts(tmp_path):
    path = tmp_path / "000004_boxes.mat"
    # one window 5 wide and 3 high whose first pixel is column 7, row 2, counted from 0
    scipy.io.savemat(path, {"boxes": np.array([[3, 8, 5, 12]], np.uint16)})
    assert windows.read_mat(path, "rcnn")["000004"].tolist() == [[7, 2, 12, 5]]
    scipy.io.savemat(path, {"boxes": np.array([[7, 2, 11, 4]], np.uint16)})
    assert windows.read_mat(path, "fast_rcnn")["000004"].tolist() == [[7, 2, 12, 5]]
    scipy.io.savemat(path, {"boxes": np.array([[0, 0, 0, 0]], np.uint16)})
    assert windows.read_mat(path, "fast_rcnn")["000004"].tolist() == [[0, 0, 1, 1]]
    with pytest.raises(InputError, match=r"image 000004, window 0: .*-1.0.* in this layout"):
        windows.read_mat(path, "rcnn")


@pytest.mark.parametrize("column", [False, True])
def test_mat_of_many_images(tmp_path, column):
    path = tmp_path / "voc.mat"
    boxes = cells(np.array([[1, 1, 3, 2]]), np.zeros((0, 4)), np.array([[5, 6, 7, 8]] * 2))
    images = cells("000005", "000007", "b")
    if column:
        boxes, images = boxes.T, images.T
    scipy.io.savemat(path, {"boxes": boxes, "images": images})
    found = windows.read_mat(path, "rcnn")
    assert {name: one.tolist() for name, one in found.items()} == {
        "000005": [[0, 0, 2, 3]],
        "000007": [],
        "b": [[5, 4, 8, 7]] * 2,
    }


def test_bad_mat_files_are_named(tmp_path):
    path = tmp_path / "w.mat"
    with pytest.raises(InputError, match="no windows file"):
        windows.read_mat(path, "rcnn")
    path.write_text("no MATLAB file, though long enough for a header of one hundred bytes" * 9)
    with pytest.raises(InputError, match="cannot be read as a MATLAB file: "):
        windows.read_mat(path, "rcnn")
    scipy.io.savemat(path, {"images": cells("a")})
    with pytest.raises(InputError, match="MATLAB file: no variable 'boxes'; it holds images"):
        windows.read_mat(path, "rcnn")
    scipy.io.savemat(path, {"boxes": np.ones((3, 5))})
    with pytest.raises(InputError, match=r"image w: 'boxes' is \(3, 5\)"):
        windows.read_mat(path, "rcnn")
    scipy.io.savemat(path, {"boxes": cells(np.ones((1, 4)))})
    with pytest.raises(InputError, match="'boxes' of 1 images, but 0 names"):
        windows.read_mat(path, "rcnn")


# The first fills the memory as numbers, the second once more when they are handed over.
@pytest.mark.parametrize("count", [35_000_000, 20_000_000])
def test_a_small_mat_file_that_would_fill_the_memory(tmp_path, count):
    path = tmp_path / "w.mat"
    scipy.io.savemat(path, {"boxes": np.zeros((count, 4), np.uint8)}, do_compression=True)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InputError, match=r"w\.mat .*: unpacked it takes more than 1\.1 GB"):
        windows.read_mat(path, "rcnn")


def test_the_706243_real_windows(shared_data):
    start = time.perf_counter()
    found = windows.read_parquet(shared_data / SUBSET)
    assert time.perf_counter() - start < 4  # 0.6 s on an idle core
    assert len(found) == 640
    assert sum(len(boxes) for boxes in found.values()) == 706_243
    records = read_voc(
        shared_data / "detection/voc2007_subset/VOC2007", "test", VOC_CLASSES
    ).records
    for record in records:
        windows.check_windows(found[record.image_id], record.image_id, record.width, record.height)
    everything = windows.recall(found, records, include_difficult=True)
    assert everything.objects == 640
    assert everything.by_threshold[0.5] == pytest.approx(0.905, abs=5e-4)
    easy = windows.recall(found, records)
    assert easy.objects == 530
    assert easy.by_threshold[0.5] == 504 / 530


def test_real_mat_files(shared_data):
    records = read_voc(
        shared_data / "detection/voc2007_subset/VOC2007", "test", VOC_CLASSES
    ).records
    for image_id, count in (("000004", 2888), ("001551", 2057)):
        found = windows.read_mat(shared_data / f"windows/{image_id}_boxes.mat", "fast_rcnn")
        record = next(one for one in records if one.image_id == image_id)
        assert len(found[image_id]) == count
        windows.check_windows(found[image_id], image_id, record.width, record.height)
        # NOTE.md: the best IoU of every object of these images is at least 0.52
        assert windows.recall(found, [record], (0.52,)).by_threshold == {0.52: 1.0}
