"""Benchmarks run and are right at tiny sizes; how fast they are is asked by no test."""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measure
from benchmarks.measure import Row

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if "\ndef run(" in path.read_text("utf-8")
)


@pytest.fixture
def own_ray(ray_environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Variables under which a benchmark's Ray keeps apart from any other on this machine."""
    # Short: a socket's path may have 107 characters, and Ray needs 60.
    folder = tempfile.mkdtemp(prefix="spp")
    try:
        yield dict(os.environ) | {"RAY_TMPDIR": folder, "TMPDIR": folder}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def of_time(name: str) -> Any:
    """A benchmark, or the reason for leaving it to `make bench`."""
    code = (BENCHMARKS / f"{name}.py").read_text("utf-8")
    is_long = "own_ray()" in code and not os.environ.get("BENCHMARKS")
    long = pytest.mark.skipif(is_long, reason="starts clusters: BENCHMARKS=all, or make bench")
    return pytest.param(name, marks=long)


@pytest.mark.timeout(240)  # one that starts clusters takes a minute alone
@pytest.mark.parametrize("name", [of_time(name) for name in NAMES])
def test_each_benchmark_is_right(name: str, tmp_path: Path, own_ray: dict[str, str]) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--quick", "--json", file]
    done = subprocess.run(
        command, cwd=BENCHMARKS.parent, env=own_ray, capture_output=True, text=True, timeout=230
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(file.read_text())
    assert figures["title"]
    assert figures["rows"], "a benchmark without figures"
    for row in figures["rows"]:
        assert (math.isfinite(row["ratio"]), row["ratio"] > 0) == (True, True), row
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == figures["rows"]


def test_a_row_is_a_ratio_against_its_peer():
    copy = Row("pool", 0.5, "a copy of the output", 0.25, 1 / 3)
    assert (copy.ratio, copy.met) == (0.5, True)
    assert measure.texts(copy)[1:] == (
        *("500 ms", "a copy of the output", "250 ms"),
        *("0.50 x as fast", ">= 0.33 x", "yes"),
    )
    assert Row("pool", 4.0, "a copy", 1.0, 1 / 3).met is False
    assert Row("pool", 4.0, "a copy", 1.0, None).met is None
    maps = Row("maps", 1.2e6, "windows", 51e6, 20, unit="B")
    assert measure.texts(maps)[1:] == (
        *("1.2 MB", "windows", "51 MB", "42 x as small", ">= 20 x", "yes"),
    )


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0000234, "s", "23.4 µs"),
        (0.0234, "s", "23.4 ms"),
        (23.4, "s", "23.4 s"),
        (4321.0, "s", "4321 s"),
        (987.0, "B", "987 B"),
        (3.1e9, "B", "3.1 GB"),
        (0.25, "mAP", "0.25 mAP"),
    ],
)
def test_quantities_read_well(value, unit, text):
    assert measure.quantity(value, unit) == text


def test_the_first_call_does_not_count(monkeypatch):
    now = iter([0, 5, 10, 11, 20, 22])  # three timed calls of 5, 1 and 2 seconds
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(now))
    calls = []
    assert measure.median_s(lambda: calls.append(1), runs=3) == 2
    assert len(calls) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak cannot be forgotten")
def test_the_peak_of_a_call_is_what_it_took():
    # A larger one before does not hide the next. In an interpreter of its own: what the tests so
    # far gave back, this one's allocator may have kept.
    taken = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import numpy as np, measure\n"
            "measure.peak_of(lambda: np.ones(10_000_000))\n"
            "print(measure.peak_of(lambda: np.ones(5_000_000)))",
        ],
        **{"cwd": BENCHMARKS, "capture_output": True, "text": True, "check": True},
    ).stdout
    assert int(taken) == pytest.approx(40e6, rel=0.1)  # of 8 bytes each


def test_the_machine_is_described_without_naming_it():
    machine = measure.describe_machine()
    assert {"processor", "cores", "memory", "python", "torch", "ray"} <= set(machine)
    said = " ".join(machine.values())
    assert os.uname().nodename not in said
    assert str(Path.home()) not in said


RIGHT = '''"""A sum that is right.

What it sums.
"""
from measure import Row, main

def run(quick):
    return [Row("a sum", 1.0, "an abacus", 3.0 if quick else 8.0, 2, "by | hand")]

if __name__ == "__main__":
    main(run)
'''
WRONG = RIGHT.replace("    return", "    assert 1 + 1 == 3\n    return")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of benchmarks: one that is right, one that is not."""
    made = tmp_path / "benchmarks"
    made.mkdir()
    for name in ("measure.py", "__main__.py"):
        shutil.copy(BENCHMARKS / name, made)
    (made / "right.py").write_text(RIGHT)
    (made / "wrong.py").write_text(WRONG)
    return made


def bench(folder: Path, *arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, folder, *arguments], capture_output=True, text=True, timeout=90
    )
    return done.returncode, done.stdout + done.stderr


def test_a_failing_benchmark_is_named_and_the_others_go_on(folder: Path) -> None:
    (folder / "tables").mkdir()
    (folder / "tables" / "small.md").write_text("## Small\n\n| a | b |\n")
    code, said = bench(folder)
    assert (code, said.splitlines()[-1]) == (1, "failed: wrong")
    assert list(json.loads((folder / "results.json").read_text())) == ["right"]
    page = (folder / "RESULTS.md").read_text()
    row = "| a sum | 1 s | an abacus | 8 s | 8.0 x as fast | >= 2.0 x | yes |"
    for text in ("## right: A sum that is right", "What it sums.", row, "- by | hand"):
        assert text in page.splitlines()
    assert page.endswith("## Small\n\n| a | b |\n\n`spp table small`\n")


def test_a_quick_run_writes_nothing(folder: Path) -> None:
    assert bench(folder, "--quick", "right")[0] == 0
    assert not (folder / "RESULTS.md").exists()


def test_named_benchmarks_leave_the_others_figures(folder: Path, tmp_path: Path) -> None:
    # figures of another machine join by --add, and stay when "right" is measured again
    assert bench(folder, "right")[0] == 0
    figures = json.loads((folder / "results.json").read_text())["right"]
    other = figures | {"command": "python benchmarks/other.py", "machine": {"processor": "6502"}}
    card = figures | {"machine": {"processor": "6502", "graphics card": "Voodoo 2"}}
    for name, added in (("other", other), ("card", card)):
        (tmp_path / f"{name}.json").write_text(json.dumps(added))
    assert bench(folder, "--add", tmp_path / "other.json", tmp_path / "card.json")[0] == 0
    assert bench(folder, "right")[0] == 0
    kept = ["other", "right", "right on Voodoo 2"]
    assert list(json.loads((folder / "results.json").read_text())) == kept
    page = (folder / "RESULTS.md").read_text()
    assert "**Machine 1**: processor 6502" in page
    assert "machine 3" in page
    assert [line.split(":")[0][3:] for line in page.splitlines() if line[:3] == "## "] == kept


def test_an_unknown_benchmark_is_refused(folder: Path) -> None:
    code, said = bench(folder, "rihgt")
    assert code == 2
    assert "no benchmark rihgt; there are right, wrong" in said
