"""Ready-made windows from the `.mat` files of R-CNN and Fast R-CNN.

Like the dataset readers, this is an edge: their box conventions end here.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import scipy.io
from jaxtyping import Float32

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
    content = _load_mat(path)
    boxes = content.get("boxes")
    if not isinstance(boxes, np.ndarray):
        held = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise InputError(f"{path} has no variable 'boxes'; it holds {held}")
    if boxes.dtype != object:
        return _convert_all({path.stem.removesuffix("_boxes"): boxes}, layout)
    names = np.asarray(content.get("images", ()), dtype=object).ravel()
    image_ids = [str(np.squeeze(name)) for name in names]
    if len(image_ids) != boxes.size:
        raise InputError(f"{path} has 'boxes' of {boxes.size} images, but {len(image_ids)} names")
    return _convert_all(dict(zip(image_ids, boxes.ravel(), strict=True)), layout)


def _load_mat(path: Path) -> dict[str, object]:
    if not path.is_file():
        raise InputError(f"no windows file {path}: give an existing one or make the windows")
    try:
        return scipy.io.loadmat(path, variable_names=["boxes", "images"])
    except NotImplementedError as error:
        raise InputError(f"{path} is a MATLAB 7.3 file: save it with -v7") from error
    except (ValueError, TypeError, OSError, IndexError, KeyError) as error:
        raise InputError(f"{path} is not a MATLAB file: {error}") from error


def _convert_all(
    boxes_by_image: Mapping[str, np.ndarray], layout: MatLayout
) -> dict[str, Float32[np.ndarray, "windows 4"]]:
    columns, steps = _MAT_LAYOUTS[layout]
    windows: dict[str, np.ndarray] = {}
    for image_id, boxes in boxes_by_image.items():
        if boxes.size == 0:
            boxes = np.zeros((0, 4))
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InputError(f"image {image_id}: 'boxes' is {boxes.shape}, not [windows 4]")
        # uint16 in the files: 0 - 1 would be 65535
        windows[image_id] = (boxes[:, columns].astype(np.float64) + steps).astype(np.float32)
        check_windows(windows[image_id], image_id)
    return windows
