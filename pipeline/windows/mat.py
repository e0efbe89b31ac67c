"""Ready-made windows from the `.mat` files of R-CNN and Fast R-CNN.

Like the dataset readers, this is an edge: their box conventions end here.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from pipeline.apart import read_apart
from pipeline.errors import InputError
from pipeline.windows.imported import check_windows

MatLayout = Literal["rcnn", "fast_rcnn"]

# Columns that are x_min, y_min, x_max, y_max, and what makes them 0-based half-open. R-CNN's
# selective_search_data are MATLAB's 1-based inclusive y1 x1 y2 x2; the boxes in Fast R-CNN's demo
# are 0-based inclusive x1 y1 x2 y2.
_MAT_LAYOUTS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {"rcnn": ((1, 0, 3, 2), (-1, -1, 0, 0)), "fast_rcnn": ((0, 1, 2, 3), (0, 0, 1, 1))}
)


def read_mat(path: Path, layout: MatLayout) -> dict[str, Float32[np.ndarray, "windows 4"]]:
    """Read windows from a MATLAB file (up to version 7.2) of the R-CNN family.

    Args:
        path: With a matrix `boxes` of one image, whose id is then the file's name without
            `.mat` and `_boxes`; or with a cell array `boxes` of one matrix per image and a cell
            array `images` of their ids.
        layout: `rcnn` for 1-based inclusive (y1, x1, y2, x2), as in R-CNN's selective_search_data;
            `fast_rcnn` for 0-based inclusive (x1, y1, x2, y2), as in Fast R-CNN's demo.

    Returns:
        SPEC §1 boxes by image id, in the file's order.

    Raises:
        InputError: No such file, not a MATLAB file, without `boxes`, or an invalid box.
    """
    if not path.is_file():
        raise InputError(f"no windows file {path}: give an existing one or make the windows")
    state = path.stat()
    return dict(_read(path, layout, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=1)  # a run asks for a few images at a time
def _read(
    path: Path, layout: MatLayout, _size_bytes: int, _modified_ns: int
) -> dict[str, Float32[np.ndarray, "windows 4"]]:
    try:
        table = pa.ipc.open_stream(read_apart("matlab", str(path))).read_all()
    except InputError as error:
        raise InputError(f"{path} cannot be read as a MATLAB file: {error}") from None
    boxes = {}
    for row in table.to_batches(max_chunksize=1):
        name, rows, columns = (row[k][0].as_py() for k in range(3))
        numbers = row["numbers"][0].values.to_numpy()
        image_id = name or path.stem.removesuffix("_boxes")
        if image_id in boxes:
            raise InputError(f"{path} has boxes of image {image_id!r:.80} twice: remove one")
        boxes[image_id] = numbers.reshape(rows, columns)
    return _convert_all(boxes, layout)


def _convert_all(
    boxes_by_image: Mapping[str, np.ndarray], layout: MatLayout
) -> dict[str, Float32[np.ndarray, "windows 4"]]:
    columns, steps = _MAT_LAYOUTS[layout]
    windows: dict[str, np.ndarray] = {}
    for image_id, boxes in boxes_by_image.items():
        if boxes.size == 0:
            boxes = np.zeros((0, 4))
        if boxes.shape[1] != 4:
            raise InputError(f"image {image_id}: 'boxes' is {boxes.shape}, not [windows 4]")
        windows[image_id] = (boxes[:, columns] + steps).astype(np.float32)
        check_windows(windows[image_id], image_id)
    return windows
