"""Runs that fail in ways drawn from a seed, again and again: in the end nothing shows it.

`CHAOS_SEEDS=200 pytest tests/chaos_tests`, or `make chaos`, tries many; `CHAOS_FIRST` is the first.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jobs import options
from pipeline import store
from pipeline.store.place import place
from tests.chaos import RAY_FOLDER
from tests.faults import VARIABLE

pytestmark = pytest.mark.slow

PROJECT = Path(options.__file__).parents[1]
FIRST, COUNT = int(os.environ.get("CHAOS_FIRST", "0")), int(os.environ.get("CHAOS_SEEDS", "4"))
SHARDS = 6  # of the training images; 4 of the test images
WAIT_S = 100  # for a run that takes ten seconds when nothing is in its way

# What may go wrong at each step. A kill goes before or after it.
WAYS = {
    "claim": ["kill", "eio", "enospc"],
    "write_labels": ["kill", "eio", "fail_rename"],
    "write_rows": ["kill", "enospc"],
    "check": ["kill", "short_write", "eio"],
    "bring_rows": ["kill", "fail_rename", "enospc"],
    "create_record": ["kill", "short_write", "fail_rename", "enospc"],
    "write_manifest": ["kill", "short_write", "enospc"],
}


@dataclass(frozen=True)
class Disturbed:
    """One run, and what happens to it."""

    on_ray: bool
    script: tuple[Mapping[str, Any], ...] = ()
    killed_after: int | None = None
    """Commit records that there are when the driver is killed."""


def scene(seed: int) -> list[Disturbed]:
    """One to three disturbed runs. Equal seeds give equal scenes."""
    random = Random(seed)
    return [_draw(random) for _ in range(random.randint(1, 3))]


def _draw(random: Random) -> Disturbed:
    on_ray = random.random() < 0.4
    if random.random() < 0.25:
        return Disturbed(on_ray, killed_after=random.randrange(SHARDS))
    script = []
    for _ in range(random.randint(1, 2)):
        step = random.choice(sorted(WAYS))
        when = random.choice(["before", "after"])
        nth = 1 if step in ("claim", "write_labels", "write_manifest") else random.randint(1, 3)
        script.append({"step": step, "nth": nth, "do": random.choice(WAYS[step]), "when": when})
    return Disturbed(on_ray, tuple(script))


@dataclass(frozen=True)
class Ground:
    """A recipe and a run directory; runs start from copies of it."""

    recipe: Path
    runs: Path

    def run(self, disturbed: Disturbed, label: str) -> int:
        """Run the extraction with what disturbs it; return its exit code."""
        # A fault that comes back at every attempt would be a broken disk, and no run could end.
        once = [
            {**each, "once": str(self.runs.parent / f"{label}-{number}")}
            for number, each in enumerate(disturbed.script)
        ]
        with tempfile.TemporaryDirectory(prefix="spp", ignore_cleanup_errors=True) as folder:
            environment = {VARIABLE: json.dumps(once), RAY_FOLDER: folder}
            command = ["extract", self.recipe, "--runs", self.runs]
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos", *command]
                + ["--serial"] * (not disturbed.on_ray),
                cwd=PROJECT,
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                if disturbed.killed_after is not None:
                    self._kill(process, disturbed.killed_after)
                return process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise

    def _kill(self, process: subprocess.Popen[bytes], records: int) -> None:
        end = time.monotonic() + WAIT_S
        while process.poll() is None and len(self.records()) < records:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()

    def stores(self) -> list[Path]:
        return sorted(self.runs.glob("jobs/extract_*/store"))

    def records(self) -> dict[str, int]:
        """When each record was made."""
        found = self.runs.glob("jobs/extract_*/store/records/*.json")
        return {str(path): path.stat().st_mtime_ns for path in found if path.stat().st_size}

    def digests(self) -> dict[str, str]:
        """The sha256 of all that readers can see, by its path."""
        return {
            str(path.relative_to(self.runs)): sha256(path.read_bytes()).hexdigest()
            for held in self.stores()
            for pattern in ("shards/*", "records/*", "*.*")
            for path in sorted(held.glob(pattern))
        }


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> Ground:
    """A run directory in which all is ready for the extraction."""
    folder = tmp_path_factory.mktemp("chaos")
    (folder / "tiny.toml").write_text(tiny_text)
    command = [sys.executable, "-m", "jobs", "windows", folder / "tiny.toml", "--serial"]
    subprocess.run([*command, "--runs", folder / "runs"], cwd=PROJECT, check=True, timeout=WAIT_S)
    return Ground(folder / "tiny.toml", folder / "runs")


@pytest.fixture(scope="module")
def undisturbed(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    copy = Ground(ground.recipe, tmp_path_factory.mktemp("undisturbed") / "runs")
    shutil.copytree(ground.runs, copy.runs)
    assert copy.run(Disturbed(on_ray=False), "") == 0
    return copy.digests()


@pytest.fixture
def copied(ground: Ground, tmp_path: Path) -> Iterator[Ground]:
    copy = Ground(ground.recipe, tmp_path / "runs")
    shutil.copytree(ground.runs, copy.runs)
    yield copy
    shutil.rmtree(tmp_path)


@pytest.mark.usefixtures("ray_environment")
@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_whatever_happens_the_next_run_ends_as_if_it_had_not(
    seed: int, copied: Ground, undisturbed: dict[str, str]
) -> None:
    disturbances = scene(seed)
    print(  # noqa: T201 - pytest shows it with a failure
        f"CHAOS_FIRST={seed} CHAOS_SEEDS=1 plays this again: {disturbances}"
    )
    for number, disturbed in enumerate(disturbances):
        kept = copied.records()
        copied.run(disturbed, str(number))
        # What was committed before is the same file: nobody made it again.
        assert kept.items() <= copied.records().items()

    kept = copied.records()
    assert copied.run(Disturbed(on_ray=False), "last") == 0
    assert kept.items() <= copied.records().items()
    for held in copied.stores():
        assert store.open(held).verify() == []
        store.gc(place(held), remove=True, older_than_s=0)
    assert copied.digests() == undisturbed


def test_scenes_are_the_same_for_a_seed_and_differ_between_seeds() -> None:
    assert scene(3) == scene(3)
    assert len({str(scene(seed)) for seed in range(20)}) == 20
