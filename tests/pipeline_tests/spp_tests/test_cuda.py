"""The CUDA kernel: through Triton's interpreter here, and on a card where there is one."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.spp import pool
from pipeline.spp.pooling import BITS

PROJECT = Path(__file__).parents[3]
without_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def fresh(*arguments: str | Path, **environment: str) -> None:
    """Run Python in an interpreter that has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=dict(os.environ) | {"PYTHONPATH": str(PROJECT)} | environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@without_triton
@pytest.mark.parametrize("what", ["values", "compile"])
def test_the_kernel_without_a_card(what: str, tmp_path: Path) -> None:
    fresh(Path(__file__).with_name("interpreted.py"), what, TRITON_CACHE_DIR=str(tmp_path))


POOL_ON_THE_CPU = """
import sys, torch
from pipeline import spp
sys.modules["triton"] = None  # as if it were not there
assert spp.pool(torch.ones(1, 2, 2), [[0, 0, 2, 2]], (1,)).tolist() == [[1.0]]
assert "pipeline.spp.cuda" not in sys.modules
"""


def test_a_cpu_needs_no_triton():
    fresh("-c", POOL_ON_THE_CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("levels", [(6, 3, 2, 1), (9, 4)])
@pytest.mark.parametrize("channels", [67, 256])
def test_the_gpu_gives_the_same_bits(dtype, levels, channels):
    feature_map = torch.randn(channels, 33, 41).to(dtype)
    feature_map[0, 30, 3] = torch.nan
    feature_map[:, 0, :9] = -0.0
    cells = np.array([[0, 0, 41, 33], [3, 5, 4, 6], [8, 8, 40, 16], [0, 0, 3, 1]])
    expected = pool(feature_map, cells, levels)
    found = pool(feature_map.cuda(), cells, levels)
    assert (found.device.type, found.dtype) == ("cuda", dtype)
    kind, _ = BITS[dtype]
    assert torch.equal(found.cpu().view(kind), expected.view(kind))
    # without the kernel, and from channels-last memory
    leaf = feature_map.cuda().requires_grad_()
    assert torch.equal(pool(leaf, cells, levels).cpu().nan_to_num(7), expected.nan_to_num(7))
    last = feature_map[None].cuda().to(memory_format=torch.channels_last)[0]
    assert torch.equal(
        pool(last, torch.from_numpy(cells).cuda(), levels).view(kind), found.view(kind)
    )
