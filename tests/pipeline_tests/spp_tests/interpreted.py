"""Run the CUDA kernel without a GPU, in an interpreter of its own: called by `test_cuda`.

`values` runs it through Triton's interpreter and compares with the CPU's kernel, bit by bit;
`compile` makes machine code of it for two generations of cards.
"""

import os
import sys

import numpy as np

MAPS = [  # channels, rows, cols, levels
    (3, 7, 9, (3, 1)),
    (66, 5, 13, (4, 2, 1)),
    (1, 1, 1, (5,)),
    (2, 18, 3, (1, 2)),
]


def cells_of(rows: int, cols: int) -> np.ndarray:
    """The whole map, its last cell, its first column, and two at random."""
    rng = np.random.default_rng(rows)
    x0, y0 = rng.integers(0, cols, 2), rng.integers(0, rows, 2)
    x1, y1 = rng.integers(x0 + 1, cols + 1), rng.integers(y0 + 1, rows + 1)
    whole, last = [0, 0, cols, rows], [cols - 1, rows - 1, cols, rows]
    some = np.stack([x0, y0, x1, y1], axis=1)
    return np.vstack([[whole, last, [0, 0, 1, rows]], some]).astype(np.int64)


def values() -> None:
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    import torch

    from pipeline.spp import cuda, pool
    from pipeline.spp.pooling import BITS

    for dtype, (kind, _) in BITS.items():
        # the interpreter takes a while for each program: the larger maps for one dtype
        for channels, rows, cols, levels in MAPS if dtype == torch.float16 else MAPS[:1]:
            feature_map = torch.randn(channels, rows, cols).to(dtype)
            feature_map[0, 0, 0] = -torch.nan
            feature_map[:, -1, -1] = -0.0
            feature_map[:, -1, 0] = torch.inf
            cells = cells_of(rows, cols)
            expected = pool(feature_map, cells, levels)
            found = torch.zeros_like(expected)
            cuda.pool_cells(feature_map, cells, levels, found)
            assert torch.equal(found.view(kind), expected.view(kind)), (dtype, channels, levels)


def machine_code() -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.spp import cuda

    constants = {"BINS": 16, "CHANNELS": 64, "CELLS": 16}
    for width, number in ((16, "i32"), (32, "i32"), (64, "i64")):
        pointers = dict.fromkeys(("source", "table", "tables", "out"), f"*i{width}")
        pointers |= {"cells": "*i32", "places": "*i32", "infinity": number}
        for kernel in (cuda._square, cuda._pool):
            given = {name: constants[name] for name in kernel.arg_names if name in constants}
            signature = {
                name: "constexpr" if name in given else pointers.get(name, "i32")
                for name in kernel.arg_names
            }
            for capability in (80, 90):
                source = ASTSource(kernel, signature, given)
                made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
                assert len(made.asm["cubin"]) > 1000


if __name__ == "__main__":
    {"values": values, "compile": machine_code}[sys.argv[1]]()
