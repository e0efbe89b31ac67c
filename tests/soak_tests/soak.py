"""`python -m tests.soak_tests.soak --minutes 60`: whole runs, with all that may go wrong at once.

Each round makes a data set, spoils some of its images, and runs a recipe from images to mean
average precision on one cluster that lives through all rounds. Meanwhile workers are killed, and
drivers, at times drawn from a seed; afterwards a file of a store is damaged. In the end of a round

- every image is in a store or in quarantine, and in quarantine are those that were spoiled;
- `verify` finds nothing, but for the damage, which it finds, and which is mended;
- stores, detections and figures have the bytes of a run that nothing disturbed.
"""

import argparse
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from statistics import median

from jobs.exit_codes import FAILED, INTERRUPTED, QUARANTINED
from pipeline import store
from pipeline.datasets import digits
from pipeline.datasets.digits_scans import DIGIT_CLASSES
from tests.cluster import two_cpus
from tests.soak_tests.processes import below, kill, resident_bytes, workers
from tests.soak_tests.spoiling import spoil
from tests.tiny import TINY

PROJECT = Path(__file__).parents[2]
TRAIN, TEST, SPOILED = 20, 12, (4, 2)
ENDED_BY = {signal.SIGKILL: "driver killed", signal.SIGTERM: "driver told to end"}
MOST_RUNS = 6  # of a round; after more runs something is wrong
RECIPE = """
extends = "tiny.toml"
name = "soak"
[dataset]
kind = "voc"
root = "VOC"
classes = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
"""


@dataclass
class Told:
    """What a soak came to."""

    rounds: int = 0
    images_in: int = 0
    done: int = 0
    quarantined: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    cluster_mb: list[float] = field(default_factory=list)
    """Of the cluster's own processes, after each round."""
    worker_mb: list[float] = field(default_factory=list)
    """The most that workers held together, in each round."""
    seconds: float = 0.0


class Round:
    """One data set, and the runs until all is done."""

    def __init__(
        self, folder: Path, random: Random, address: str, told: Told, disturbed: int
    ) -> None:
        self._folder, self._random, self._address, self._told = folder, random, address, told
        self._endings = disturbed
        self._voc = folder / "VOC"
        folder.mkdir()
        (folder / "tiny.toml").write_text(TINY)
        (folder / "soak.toml").write_text(RECIPE)

    def play(self) -> None:
        """Spoil, disturb, reconcile."""
        spoiled = self._drawn()
        while not self._has_all_classes(spoiled):  # of one without an image nothing can be learned
            shutil.rmtree(self._voc)
            spoiled = self._drawn()
        self._told.faults.update(f"image: {way}" for way in spoiled.values())
        assert self._spp("run", "plain", "--serial").wait() == QUARANTINED
        self._disturbed()
        self._damaged()
        self._reconcile(spoiled)
        expected, held = (_digests(self._folder / name) for name in ("plain", "soaked"))
        assert held == expected, set(held.items()) ^ set(expected.items())
        shutil.rmtree(self._folder)
        self._told.rounds += 1

    def _drawn(self) -> dict[str, str]:
        """Make the images, and spoil some; return in which ways."""
        digits.write(self._voc, self._random.randrange(1 << 30), n_train=TRAIN, n_test=TEST)
        spoiled: dict[str, str] = {}
        for role, count in zip(("train", "test"), SPOILED, strict=True):
            paths = sorted((self._voc / "JPEGImages").glob(f"{role}_*"))
            spoiled |= spoil(paths, count, self._random)
        return spoiled

    def _has_all_classes(self, spoiled: dict[str, str]) -> bool:
        paths = (self._voc / "Annotations").glob("train_*.xml")
        whole = "".join(path.read_text() for path in paths if path.stem not in spoiled)
        return all(f"<name>{name}</name>" in whole for name in DIGIT_CLASSES)

    def _disturbed(self) -> None:
        """Run until a run ends by itself, and well; kill at random."""
        most = 0
        for number in range(MOST_RUNS):
            run = self._spp("run", "soaked", "--address", self._address)
            # A driver takes ten seconds before it does anything, more on a busy machine.
            lives_s = self._random.expovariate(1 / 30) if number < self._endings else math.inf
            driver_ends = time.monotonic() + lives_s
            next_kill = time.monotonic() + self._random.expovariate(1 / 6)
            while run.poll() is None:
                time.sleep(0.1)
                at_work = workers(os.getpid())
                most = max(most, resident_bytes(at_work))
                if time.monotonic() > driver_ends:
                    how = self._random.choice(list(ENDED_BY))
                    run.send_signal(how)
                    self._told.faults[ENDED_BY[how]] += 1
                    break
                elif math.isfinite(lives_s) and time.monotonic() > next_kill and at_work:
                    self._told.faults["worker killed"] += kill(self._random.choice(at_work))
                    next_kill = time.monotonic() + self._random.expovariate(1 / 6)
            ended = run.wait()
            # Before Python has taken it, SIGTERM ends a process as it ends any.
            assert ended in (QUARANTINED, INTERRUPTED, *(-each for each in ENDED_BY)), ended
            if ended == QUARANTINED:
                self._told.worker_mb.append(most / 1e6)
                return
        told = (self._folder / "log").read_text(errors="replace")[-3000:]
        raise AssertionError(f"not done after {MOST_RUNS} runs, the last of which said {told}")

    def _damaged(self) -> None:
        """Damage a shard at rest: `verify` tells which, and the next run makes it again."""
        root = self._random.choice(self._stores("soaked"))
        held = store.open(root)
        entry = self._random.choice(list(held.shards))
        path = root / entry.name("shards")
        data = bytearray(path.read_bytes())
        data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
        path.write_bytes(data)
        self._told.faults["bit turned at rest"] += 1
        assert {fault.shard_id for fault in held.verify()} == {entry.shard_id}
        assert self._spp("fsck", "soaked", named=str(root)).wait() == FAILED
        assert self._spp("run", "soaked", "--serial").wait() == QUARANTINED

    def _reconcile(self, spoiled: dict[str, str]) -> None:
        found: dict[str, str] = {}
        for root in self._stores("soaked"):
            held = store.open(root)
            assert held.verify() == []
            totals = held.totals
            assert totals.images_in == totals.images + totals.quarantined
            found |= held.quarantined()
            self._told.images_in += totals.images_in
            self._told.done += totals.images
            self._told.quarantined += totals.quarantined
        assert found.keys() == spoiled.keys(), (found, spoiled)
        assert all(found.values())

    def _stores(self, runs: str) -> list[Path]:
        return sorted((self._folder / runs).glob("jobs/extract_*/store"))

    def _spp(self, command: str, runs: str, *options: str, named: str = "") -> "subprocess.Popen":
        words = [named or str(self._folder / "soak.toml"), *options]
        if not named:
            words += ["--data", str(self._folder)]
        with (self._folder / "log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "jobs", command, *words, "--runs", str(self._folder / runs)],
                cwd=PROJECT,
                stdout=log,
                stderr=log,
            )


def _digests(runs: Path) -> dict[str, str]:
    """The sha256 of all that jobs made, by job and name; aside from logs, times and places."""
    found = {}
    for path in sorted(runs.glob("jobs/*/**/*")):
        name = str(path.relative_to(runs / "jobs"))
        if path.suffix == ".parquet" or path.name in ("ap.txt", "manifest.json"):
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found


def _own_mb() -> float:
    """Memory of the cluster's own processes: workers come and go."""
    mine = set(below(os.getpid())) - set(workers(os.getpid()))
    return resident_bytes(list(mine)) / 1e6


def soak(folder: Path, seed: int, minutes: float, rounds: int, disturbed: int) -> Told:
    """Play rounds until the time is over, and at least some.

    Equal seeds draw equal data sets, spoiled in the same way. When something is killed depends on
    the machine, too.
    """
    told, begun = Told(), time.monotonic()
    # Of a machine that does much else: a node that stands still for a while is not dead.
    os.environ.setdefault("RAY_health_check_failure_threshold", "20")
    with two_cpus() as address:
        while told.rounds < rounds or time.monotonic() - begun < 60 * minutes:
            random = Random(f"{seed} {told.rounds}")
            Round(folder / f"{told.rounds}", random, address, told, disturbed).play()
            told.cluster_mb.append(_own_mb())
            told.seconds = time.monotonic() - begun
            print(_line(told), flush=True)  # noqa: T201
    return told


def _line(told: Told) -> str:
    faults = ", ".join(f"{count} × {name}" for name, count in sorted(told.faults.items()))
    return (
        f"{told.rounds} rounds, {told.seconds / 60:.1f} min: {told.images_in:,} images in = "
        f"{told.done:,} done + {told.quarantined:,} quarantined; cluster {told.cluster_mb[-1]:.0f} "
        f"MB, workers {told.worker_mb[-1]:.0f} MB; survived {told.faults.total():,}: {faults}"
    )


def growth(megabytes: list[float]) -> float:
    """Return how many times the last third of rounds held what the second third did.

    The first third is not asked: a cluster fills its caches then.

    >>> growth([1, 9, 2, 2, 3, 3])
    1.5
    """
    third = len(megabytes) // 3
    return median(megabytes[-third:]) / median(megabytes[third : 2 * third])


MOST_GROWTH = 1.1


def main() -> None:
    """Soak for as long as is asked; exit with 1 if memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=1, help="at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--disturbed", type=int, default=3, help="drivers that end in a round")
    asked = parser.parse_args()
    os.environ |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory(prefix="spp-soak-", ignore_cleanup_errors=True) as folder:
        told = soak(Path(folder), asked.seed, asked.minutes, asked.rounds, asked.disturbed)
    print(json.dumps({**vars(told), "faults": dict(told.faults)}))  # noqa: T201
    if told.rounds >= 6:
        grown = {"cluster": growth(told.cluster_mb), "workers": growth(told.worker_mb)}
        print(f"memory, last third of rounds by the second: {grown}")  # noqa: T201
        sys.exit(max(grown.values()) > MOST_GROWTH)


if __name__ == "__main__":
    main()
