"""liblinear's own rows, built once for all classes: the package's way holds three copies a class.

A row is a list of nodes `(index, value)`, 16 bytes each, that ends with a mark; a class's problem
is a list of pointers to rows. Two compiled passes over the vectors, one to count and check and one
to write: 3 times as fast as with numpy, which needed a float64 copy of every block.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from scipy import sparse

from pipeline.learning.kernels import Rows, as_rows, count_nodes, fill_nodes

BLOCK_ROWS = 1024  # rows that a thread takes at a time, and sparse rows made dense at a time
NODE = np.dtype([("index", np.int32), ("value", np.float64)], align=True)  # its feature_node
DenseOrSparse = Any  # an ndarray or a csr_array; scipy's own annotations leave its shape open


@dataclass(frozen=True)
class Nodes:
    """The nodes of those rows that some class uses, one after another."""

    array: np.ndarray
    starts: Int[np.ndarray, " used_and_one"]
    """Of each used row in `array`; its last node but one is before the next start."""
    places: Int[np.ndarray, " rows"]
    """Of each row among the used ones; -1: nobody uses it."""
    dim: int
    bias: float

    def of(
        self, members: Int[np.ndarray, " members"]
    ) -> tuple[Int[np.ndarray, " members"], Int[np.ndarray, " members"]]:
        """Return where the members' nodes begin, and where the marks behind them are."""
        places = self.places[members]
        return self.starts[places], self.starts[places + 1] - 1


def build_nodes(
    rows: DenseOrSparse,
    used: Bool[np.ndarray, " rows"],
    scale: float,
    bias: float,
    threads: int = 1,
) -> Nodes:
    """Build the nodes of the rows in use.

    Args:
        rows: `[rows dim]`, dense as `kernels.as_rows` gives it, or a `csr_array`.
        used: which of them to build.
        scale: multiplies them.
        bias: appended to each as one more feature, if above zero.
        threads: among which blocks of rows are shared out; any number gives the same nodes.

    Raises:
        ValueError: a number in use is not finite.
    """
    members = np.flatnonzero(used)
    counts = np.empty(len(members), dtype=np.int64)

    def count(part: slice) -> None:
        count_nodes(*_block(rows, members[part]), scale, counts[part])

    def fill(part: slice) -> None:
        fill_nodes(*_block(rows, members[part]), scale, bias, starts[part], index, value)

    _in_blocks(count, len(members), threads)
    if (counts < 0).any():
        raise ValueError("a vector holds a number that is not finite; an SVM cannot learn from it")
    ends = 1 + (bias > 0)  # each row ends with the bias, if any, and a mark
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts + ends)])
    array = np.empty(starts[-1], dtype=NODE)
    index, value = array["index"], array["value"]
    _in_blocks(fill, len(members), threads)
    places = np.full(rows.shape[0], -1)
    places[members] = np.arange(len(members))
    return Nodes(array, starts, places, rows.shape[1], bias)


def _in_blocks(work: Callable[[slice], None], count: int, threads: int) -> None:
    parts = [slice(start, start + BLOCK_ROWS) for start in range(0, count, BLOCK_ROWS)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, parts):
            pass


def _block(rows: DenseOrSparse, members: Int[np.ndarray, " members"]) -> tuple[Rows, np.ndarray]:
    """Return rows that the kernels read, and the members' places in them."""
    if not sparse.issparse(rows):
        return rows, members
    return as_rows(rows[members].toarray()), np.arange(len(members))
