"""Two processes on loopback come to what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from pipeline.networks import added_head
from pipeline.pretraining import train_part
from pipeline.pretraining.ranks import Ranks

PROJECT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("in_two.py")
SMALL = {
    **{"sides_px": (48, 40), "resized_px": 56, "epochs": 2, "batch_size": 7},
    **{"learning_rate": 0.03, "held_out": 0.2, "scaffold": False, "decode_threads": 1},
}
HELPED = {"sides_px": (64,), "resized_px": 64, "epochs": 1, "batch_size": 16, "dropout": 0.5}
OPTIONS = {"width": 0.07, "fc_units": 16, "levels": (2, 1), "classes": 3}
LAYERS = added_head.description(8, (2, 1), 3)
TRAININGS = {
    "plain": ({"name": "zf5", "weights": None, "seed": 3, "options": OPTIONS}, SMALL),
    "helped": ({"name": "squeezenet1_1", "weights": None, "added": LAYERS}, HELPED),
}


@pytest.fixture(scope="module")
def table(few, tmp_path_factory):
    """Forty pictures, three of which are not there."""
    listed = pq.read_table(few)
    files = listed["file"].to_pylist()
    files[2:5] = ["gone2.jpg", "gone3.jpg", "gone4.jpg"]
    path = tmp_path_factory.mktemp("table") / "images.parquet"
    pq.write_table(listed.set_column(0, "file", [files]), path)
    return path


@pytest.fixture(scope="module")
def two(table):
    """The folder of the states, and what each of two processes told of each training."""
    folder = table.parent
    started = [
        subprocess.Popen(
            [
                *(sys.executable, "-W", "error::FutureWarning", PROGRAM, str(rank), "2"),
                *(folder / "sync", table, folder, json.dumps(TRAININGS)),
            ],
            env=os.environ | {"PYTHONPATH": str(PROJECT), "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [each.communicate(timeout=100) for each in started]
    finally:
        for each in started:
            each.kill()
    assert [each.returncode for each in started] == [0, 0], said
    return folder, [json.loads(out.splitlines()[-1]) for out, _ in said]


def test_two_processes_equal_one(make_spec, table, two, tmp_path):
    """Batches of seven: four images and three; and some of them cannot be read."""
    folder, told = two
    spec = make_spec(table, **SMALL)
    alone = [train_part(spec, tmp_path, part) for part in (0, 1)]
    first, second = (each["plain"] for each in told)
    for one, other, expected in zip(first, second, alone, strict=True):
        for name in ("step", "images", "unreadable", "rate", "side_px", "ended", "reasons"):
            assert one[name] == getattr(expected, name)
        for name in ("loss", "accuracy", "held_loss", "held_accuracy"):
            assert one[name] == pytest.approx(getattr(expected, name), abs=1e-4)
        assert one["unreadable"] == 3
        reasons = {"seconds": 0, "reasons": {}}
        assert one | reasons == other | reasons
    for name in ("000000", "000001"):
        here = load_file(tmp_path / f"{name}.safetensors")
        there = load_file(folder / "plain" / f"{name}.safetensors")
        assert here.keys() == there.keys()
        assert torch.equal(here["random"], there["random"])
        for key in here.keys() - {"random"}:
            torch.testing.assert_close(there[key], here[key], rtol=1e-3, atol=1e-5)
    start = load_file(tmp_path / "000000.safetensors")["network.fc6.weight"]
    assert (start - here["network.fc6.weight"]).abs().max() > 1e-3  # it did go on


def test_batch_norm_and_idle_layers_in_two_processes(two):
    folder, told = two
    first, second = (each["helped"][0] | {"seconds": 0, "reasons": {}} for each in told)
    assert first == second
    state = load_file(folder / "helped/000000.safetensors")
    assert "momentum.network.added_head.fc6.weight" in state
    assert "momentum.norms.0.weight" in state
    assert "momentum.network.classifier.1.weight" not in state  # no score depends on it


def test_shares_of_a_batch():
    batch = np.arange(7)
    shares = [Ranks(rank, 3).share(batch).tolist() for rank in range(3)]
    assert shares == [[0, 1, 2], [3, 4], [5, 6]]
    assert Ranks().share(batch).tolist() == batch.tolist()
    assert Ranks.here() == Ranks(0, 1)
