"""A reader of `.mat` files: `python -m pipeline.apart.matlab FILE` writes its boxes as Arrow.

SciPy's reader ends the process on some damaged files, and unpacks whatever is packed.
"""

import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.io

from pipeline.apart import refuse

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("rows", pa.int64()),
        ("columns", pa.int64()),
        ("numbers", pa.large_list(pa.float64())),
    ]
)
"""A matrix of each image, row by row; `image_id` is null where the file is of one image."""


LEAST_BYTES = 1 << 30  # of memory that any file may take
MOST_UNPACKED = 20  # times its size, where that is more: boxes are packed to a sixth


def main() -> None:
    """Read the file that is named."""
    most = max(LEAST_BYTES, MOST_UNPACKED * os.path.getsize(sys.argv[1]))
    _limit_memory(most)
    try:
        _write(_matrices(sys.argv[1]))
    except MemoryError:
        refuse(f"unpacked it takes more than {most / 1e9:.1f} GB: give its boxes as Parquet")
    except NotImplementedError:
        refuse("a MATLAB 7.3 file: save it with -v7")
    except Exception as error:  # noqa: BLE001 - SciPy believes all that it reads
        refuse(str(error) or type(error).__name__)


def _limit_memory(most: int) -> None:
    """Let the system refuse this process more bytes than so many."""
    # What is this process's own to write to, which libraries have taken some of by now: a stack
    # for each thread. Address space would count maps of files, too.
    told = Path("/proc/self/status")
    status = told.read_text() if told.exists() else ""
    taken = re.search(r"^VmData:\s*(\d+) kB", status, re.MULTILINE)
    limit = most + (1024 * int(taken[1]) if taken else 0)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _write(matrices: list[tuple[str | None, np.ndarray]]) -> None:
    with pa.ipc.new_stream(sys.stdout.buffer, SCHEMA) as stream:
        for name, held in matrices:
            row = [[name], [held.shape[0]], [held.shape[1]], [held.ravel()]]
            stream.write_batch(pa.record_batch(row, SCHEMA))


def _matrices(path: str) -> list[tuple[str | None, np.ndarray]]:
    content = scipy.io.loadmat(path, variable_names=["boxes", "images"])
    boxes = content.get("boxes")
    if not isinstance(boxes, np.ndarray):
        held = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise ValueError(f"no variable 'boxes'; it holds {held}")
    if boxes.dtype != object:
        return [(None, _numbers(boxes, "'boxes'"))]
    names = np.asarray(content.get("images", ()), dtype=object).ravel()
    if len(names) != boxes.size:
        raise ValueError(f"'boxes' of {boxes.size} images, but {len(names)} names")
    found = zip((str(np.squeeze(name)) for name in names), boxes.ravel(), strict=True)
    return [(name, _numbers(each, f"image {name}: 'boxes'")) for name, each in found]


def _numbers(held: Any, what: str) -> np.ndarray:
    array = np.asarray(held)
    if array.dtype.kind not in "iuf" or array.ndim != 2:
        raise ValueError(f"{what} is {array.dtype} {array.shape}, not numbers of [windows 4]")
    return array.astype(np.float64, copy=False)


if __name__ == "__main__":
    main()
