"""The kernel of the CPU: any memory order, any number of channels and threads, past the caches."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.spp import cpu, lanes, pool, pooling
from pipeline.spp.pooling import BITS

COUNTED = torch.arange(1.0, 17).reshape(1, 4, 4)
WHOLE = [[0, 0, 4, 4]]


def test_maps_in_any_memory_order(by_torch):
    cells = np.array([[1, 0, 4, 3]])
    turned = COUNTED.transpose(1, 2)
    assert torch.equal(pool(turned, cells, (2,)), pool(turned.contiguous(), cells, (2,)))
    images = torch.randn(1, 7, 5, 6).to(memory_format=torch.channels_last)
    assert torch.equal(pool(images[0], cells, (3, 1)), by_torch(images[0], cells, (3, 1)))


def test_a_channels_last_map_is_not_copied(monkeypatch):
    given = []
    monkeypatch.setattr(cpu, "pool_cells", lambda bits, *_: given.append(bits.ctypes.data))
    images = torch.randn(2, 7, 5, 6).to(memory_format=torch.channels_last)
    pool(images[1], WHOLE, (1,))
    pool(images[1].contiguous(), WHOLE, (1,))
    assert (given[0] == images[1].data_ptr(), len(given)) == (True, 2)


# of 64-byte vectors: part of one, one, several, blocks with a part of one, blocks of 512 bytes
@pytest.mark.parametrize("channels", [1, 5, 16, 31, 32, 200, 256, 384])
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("many", [False, True])
def test_channels_of_any_number(channels, dtype, many, monkeypatch, by_torch):
    monkeypatch.setattr(pooling, "STREAM_FROM_BYTES", 0)
    generator = torch.Generator().manual_seed(channels)
    feature_map = torch.randn(channels, 9, 17, generator=generator).to(dtype)
    cells = [[2, 1, 17, 8], [2, 2, 3, 3], [5, 1, 9, 9]] * (20 if many else 1)
    expected = by_torch(feature_map.double(), cells[:3], (6, 3, 1)).to(dtype)
    expected = expected.repeat(len(cells) // 3, 1)
    assert torch.equal(pool(feature_map, cells, (6, 3, 1)), expected)
    # past the caches where the channels allow it; then beginning where they never do
    for offset in (0, 64 // feature_map.element_size() + 1):
        memory = torch.full((expected.numel() + 99,), 7, dtype=dtype)
        out = memory[offset : offset + expected.numel()].view(expected.shape)
        assert pool(feature_map, cells, (6, 3, 1), out=out) is out
        assert torch.equal(out, expected)
        assert memory[:offset].eq(7).all()
        assert memory[offset + expected.numel() :].eq(7).all()


def test_what_is_written_past_the_caches():
    large, small = torch.empty(2048, 256), torch.empty(2047, 256)
    assert large.data_ptr() % 64 == 0
    assert pooling._streams(large, 256)
    assert not pooling._streams(small, 256)
    assert not pooling._streams(large, 8)  # 32 bytes: every other bin begins in between
    assert not pooling._streams(torch.empty(2048 * 256 + 1)[1:].view(2048, 256), 256)


@pytest.mark.parametrize("pyramid", [(6, 3, 2, 1), (1, 4, 6), (5,)])
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_any_number_of_threads(threads, pyramid, monkeypatch):
    monkeypatch.setattr(pooling, "BYTES_PER_THREAD", 1)
    feature_map = torch.randn(64, 23, 29, generator=torch.Generator().manual_seed(3))
    cells = [[x, y, x + 7, y + 5] for x in range(0, 22) for y in range(0, 18, 3)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = pool(feature_map, cells, pyramid)
        torch.set_num_threads(threads)
        assert torch.equal(pool(feature_map, cells, pyramid), alone)
        assert torch.equal(pool(feature_map, cells[:2], pyramid), alone[:2])
        with ThreadPoolExecutor(3) as callers:  # several that call at once
            found = callers.map(lambda _: pool(feature_map, cells, pyramid), range(6))
            assert all(torch.equal(each, alone) for each in found)
    finally:
        torch.set_num_threads(before)


def test_one_thread_starts_no_other(monkeypatch):
    monkeypatch.setattr(pooling, "BYTES_PER_THREAD", 1)
    monkeypatch.setattr(pooling, "ThreadPoolExecutor", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert pool(COUNTED, WHOLE * 3, (1,)).tolist() == [[16]] * 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(TypeError):
        pool(COUNTED, WHOLE * 3, (1,))


def test_the_kernel_is_compiled_anew_when_what_it_is_made_of_changes():
    source = Path(lanes.__file__).read_bytes()
    assert hashlib.sha256(source).hexdigest() == cpu.LANES_SHA256, "put it into cpu.py"
