"""The runner and the number of workers change the speed, and not one byte."""

import os
import signal
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest

from actors.progress import Progress
from actors.runner import RayRunner, Runner
from actors.serial import SerialRunner
from jobs import dag, options, steps

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

SET = [
    "windows.method=selective_search",
    "windows.working_side_px=80",
    "dataset.train_images=8",
    "features.scales=[320]",  # slow enough to be caught at work
]


def extract(recipe: Path, runs: Path, runner: Runner, *more: str) -> dict[str, str]:
    """Run up to the shards of both image sets; return the sha256 of every file that matters."""
    known = options.load(str(recipe), [*SET, *more], None)
    planned = dag.plan(steps.jobs_of(known), known, runs)
    targets = steps.TARGETS["extract"]
    report = dag.execute(planned, targets, known, runner, Progress(quiet=True))
    assert report.failed == {}
    found = {}
    for step in (planned[name] for name in ("windows_train", *targets)):
        for pattern in ("windows/*", "store/shards/*", "store/records/*", "store/manifest.json"):
            for path in step.folder.glob(pattern):
                name = str(path.relative_to(runs))
                found[name] = sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("serial")
    recipe = folder / "tiny.toml"
    recipe.write_text(tiny_text)
    found = extract(recipe, folder / "runs", SerialRunner())
    assert len([name for name in found if name.endswith(".parquet") and "shards" in name]) >= 6
    return found


@pytest.mark.parametrize("actors", [1, 2])
def test_ray_writes_what_one_process_writes(
    tiny: Path, serial: dict[str, str], actors: int
) -> None:
    found = extract(tiny, tiny.parent / "runs", RayRunner(), f"extractor.max_actors={actors}")
    assert found == serial


def test_an_extractor_killed_at_work_leaves_no_trace(tiny: Path, serial: dict[str, str]) -> None:
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 60
        while not killed and time.monotonic() < end:
            for pid in extractors():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    found = extract(tiny, tiny.parent / "runs", RayRunner(), "extractor.max_actors=1")
    killer.join()
    assert found == serial
    assert len(killed) >= 1


def extractors() -> list[int]:
    """Pids of extractors of this process's cluster that are at work on a shard."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                title = (folder / "cmdline").read_bytes()
                environment = (folder / "environ").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            token = os.environ["RAY_AUTH_TOKEN"].encode()
            if title.startswith(b"ray::Extractor.extract") and token in environment:
                found.append(int(folder.name))
    return found
