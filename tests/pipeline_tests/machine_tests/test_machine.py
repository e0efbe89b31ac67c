"""What this machine has: a container's limit counts where it is below the machine's memory."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import machine


def test_a_containers_limit_counts_where_it_is_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = machine.memory_bytes()
    files = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    monkeypatch.setattr(machine, "_LIMITS", files)
    physical = machine.memory_bytes()
    assert 10**8 < whole <= physical
    for text, expected in (("max\n", physical), ("70000\n", 70_000), (f"{10**18}\n", physical)):
        files[0].write_text(text)
        assert machine.memory_bytes() == expected
    files[1].write_text("60000\n")
    assert machine.memory_bytes() == 60_000


def test_holes_are_handed_back_however_often() -> None:
    pieces = [np.ones(1000) for _ in range(1000)]
    del pieces[::2]
    machine.hand_back()
    machine.hand_back()
    assert all(piece.sum() == 1000 for piece in pieces)


def test_there_is_a_cpu() -> None:
    assert machine.cpus() >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak has another source")
def test_the_peak_stays_when_memory_is_given_back() -> None:
    before = machine.peak_bytes()
    held = np.ones(before // 8 + 10_000_000)  # more than ever was there, and 80 MB
    assert machine.peak_bytes() > before + 70_000_000
    del held
    assert machine.peak_bytes() > before + 70_000_000  # the system counts in steps
