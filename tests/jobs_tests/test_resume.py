"""Runs that are interrupted and killed end as if nothing had happened."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from jobs import options
from tests.computed import computed

pytestmark = pytest.mark.slow

PROJECT = Path(options.__file__).parents[1]
INTERRUPTED = 130

# Shards that take long enough to be caught at: a wider network, larger images, one image each.
SLOW = ["--set", "features.scales=[480]", "--set", "network.width=0.4"]


class Command:
    """`spp run` in a process of its own."""

    def __init__(self, recipe: Path, runs: Path, *options: str, **environment: str) -> None:
        self.runs, self.began = runs, time.monotonic()
        self._errors = runs.parent / f"{runs.name}.err"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobs", "run", recipe, "--runs", runs, *SLOW, *options],
                cwd=PROJECT,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                # A shell's background jobs ignore it, and so would all that they start.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def wait_for_a_shard(self) -> None:
        """Return once a training shard is committed, and others are not."""
        while not list(self.runs.glob("jobs/extract_train-*/store/records/*.json")):
            assert self.process.poll() is None, self.errors()
            assert time.monotonic() < self.began + 90
            time.sleep(0.01)

    def end(self) -> str:
        """Wait for the end; return what was printed."""
        try:
            return self.process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:  # it must not run on beside the other tests
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            raise

    def errors(self) -> str:
        return self._errors.read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = folder / "tiny.toml"
    recipe.write_text(tiny_text)
    command = Command(recipe, folder / "runs", "--serial")
    assert command.end().rstrip().splitlines()[-1].startswith("tiny: mAP")
    assert command.process.returncode == 0
    return digests(folder / "runs")


@pytest.fixture(autouse=True)
def marked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Mark every process that a command starts; at the end, none of them may be there."""
    mark = f"SPP_TEST_MARK={tmp_path}"
    monkeypatch.setenv(*mark.split("="))
    yield mark
    end = time.monotonic() + 20
    while left := processes(mark):
        assert time.monotonic() < end, left
        time.sleep(0.1)


def processes(mark: str) -> list[str]:
    """Command lines of the live processes that carry the mark, but for this one.

    Two agents of Ray's own do no work of ours, and take a minute to see that they are alone.
    """
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                title = (folder / "cmdline").read_text().replace("\0", " ").strip()
                marked = mark.encode() in (folder / "environ").read_bytes()
                if marked and not re.search(r"ray::\w+Agent|agent\.py", title.split(" --")[0]):
                    found.append(title)
            except OSError:  # it has ended meanwhile
                continue
    return found


def digests(runs: Path) -> dict[str, str]:
    """The sha256 of all that the run measured and stored, by its path."""
    patterns = ("evaluate-*/ap.*", "*/store/shards/*", "*/store/records/*", "*/store/manifest.json")
    return {
        str(path.relative_to(runs)): sha256(path.read_bytes()).hexdigest()
        for pattern in patterns
        for path in runs.glob(f"jobs/{pattern}")
    }


def committed(runs: Path) -> set[Path]:
    return set(runs.glob("jobs/extract_train-*/store/records/*.json"))


def shards(records: Iterable[Path]) -> set[str]:
    """Their names, as `computed` has them."""
    return {f"{path.parents[2].name}/{path.stem}" for path in records}


def test_interrupted_at_work_the_same_command_goes_on(
    tiny: Path, undisturbed: dict[str, str]
) -> None:
    runs = tiny.parent / "runs"
    command = Command(tiny, runs, "--serial")
    command.wait_for_a_shard()
    command.process.send_signal(signal.SIGINT)
    assert command.end() == ""
    assert command.process.returncode == INTERRUPTED
    assert "interrupted; the same command goes on where this one stopped" in command.errors()
    assert "Traceback" not in command.errors()
    kept, before = {path: path.stat().st_mtime_ns for path in committed(runs)}, computed(runs)
    assert shards(kept) >= set(before) > set()
    assert 0 < len(kept) < len([name for name in undisturbed if "extract_train" in name]) // 2
    assert {path.name for path in runs.glob("jobs/extract_train-*/*.json")} == {"plan.json"}

    again = Command(tiny, runs, "--serial")
    again.end()
    assert again.process.returncode == 0
    assert digests(runs) == undisturbed
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not shards(kept) & set(computed(runs) - before)
    assert max(computed(runs).values()) == 1


@pytest.mark.usefixtures("ray_environment")
def test_killed_at_work_on_ray_nothing_is_left_running_and_the_same_command_goes_on(
    tiny: Path, undisturbed: dict[str, str], marked: str
) -> None:
    runs = tiny.parent / "runs"
    command = Command(tiny, runs)
    command.wait_for_a_shard()
    assert any("raylet" in each for each in processes(marked))
    command.process.kill()
    command.end()
    end = time.monotonic() + 30
    while processes(marked):
        assert time.monotonic() < end, processes(marked)
        time.sleep(0.1)
    kept, before = committed(runs), computed(runs)
    assert kept

    again = Command(tiny, runs, "--serial")
    again.end()
    assert again.process.returncode == 0
    assert digests(runs) == undisturbed
    assert not shards(kept) & set(computed(runs) - before)

    # All is done: no Ray is asked for, or this would fail to reach one.
    third = Command(tiny, runs, RAY_ADDRESS="127.0.0.1:1")
    assert "tiny: mAP" in third.end()
    assert third.process.returncode == 0
    assert time.monotonic() - third.began < 15
    lines = third.errors().splitlines()[1:]
    assert [line.split()[2] for line in lines] == ["done"] * 11


def test_a_second_interrupt_leaves_at_once(tiny: Path) -> None:
    # Work in hand that would take minutes: one task that does not look at the clock.
    tiny.write_text(
        tiny.read_text().replace('name = "zf5"', 'name = "zf5"\nweights = "pretrain"')
        + "[pretrain]\ncrops = 2000\nepochs = 500\n"
    )
    runs = tiny.parent / "runs"
    command = Command(tiny, runs, "--serial")
    deadline = command.began + 90
    while not list(runs.glob("jobs/pretrain-*/lock")):
        assert time.monotonic() < deadline, command.errors()
        time.sleep(0.05)
    time.sleep(1)
    command.process.send_signal(signal.SIGTERM)  # as systems end programs: the same
    while "Ctrl-C again leaves at once" not in command.errors():
        assert time.monotonic() < deadline, command.errors()
        time.sleep(0.05)
    assert command.process.poll() is None
    command.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    command.end()
    assert time.monotonic() - began < 10
    assert command.process.returncode == INTERRUPTED
    assert "Traceback" not in command.errors()
