"""A run directory, its stores, and how a run in it is started and disturbed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from jobs import options
from pipeline.store.place import Place, place
from tests.chaos import RAY_FOLDER
from tests.chaos_tests.scene import Disturbed
from tests.faults import VARIABLE

PROJECT = Path(options.__file__).parents[1]
WAIT_S = 100  # for a run that takes ten seconds when nothing is in its way
# They tell where the images lie: from a store on S3 that is another place.
PATHS = ("images.parquet", "tables.json")


@dataclass(frozen=True)
class Undisturbed:
    """What a run makes that nothing disturbs."""

    digests: dict[str, str]
    folders: list[str]
    """Of its stores, as seen from the run directory."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    happened: list[int]
    """Of its script, by number."""


@dataclass(frozen=True)
class Ground:
    """A recipe and a run directory; runs start from copies of it."""

    recipe: Path
    runs: Path
    elsewhere: str | None = None
    """Where stores lie, if not in the run directory."""

    def prepare(self) -> None:
        """Run the jobs before the extraction."""
        command = [sys.executable, "-m", "jobs", "windows", self.recipe, "--serial"]
        subprocess.run([*command, "--runs", self.runs], cwd=PROJECT, check=True, timeout=WAIT_S)

    def copied(self, runs: Path, kind: str, elsewhere: str | None = None) -> "Ground":
        """Return a copy for an extraction of one kind."""
        shutil.copytree(self.runs, runs)
        return Ground(self.recipe.with_stem(kind), runs, elsewhere)

    def run(self, disturbed: Disturbed, label: str, stores: Sequence[str] = ()) -> Ended:
        """Run the extraction with what disturbs it; `stores`: folders that lose what is unsynced.

        A fault that came back at every attempt would be a broken disk, and no run could end.
        """
        marks = [self.runs.parent / f"{label}-{number}" for number in range(len(disturbed.script))]
        roots = [str(self.runs / name) for name in stores]
        once = [
            {**each, "once": str(mark), "roots": roots}
            for each, mark in zip(disturbed.script, marks, strict=True)
        ]
        command = ["extract", self.recipe, "--runs", self.runs]
        command += ["--stores", self.elsewhere] if self.elsewhere else []
        command += [] if disturbed.on_ray else ["--serial"]
        with tempfile.TemporaryDirectory(prefix="spp", ignore_cleanup_errors=True) as folder:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos", *command],
                cwd=PROJECT,
                env={**os.environ, VARIABLE: json.dumps(once), RAY_FOLDER: folder},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            code = self._wait(process, disturbed.killed_after)
        return Ended(code, [number for number, mark in enumerate(marks) if mark.exists()])

    def _wait(self, process: subprocess.Popen[bytes], killed_after: int | None) -> int:
        try:
            if killed_after is not None:
                self._kill(process, killed_after)
            return process.wait(WAIT_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise

    def _kill(self, process: subprocess.Popen[bytes], records: int) -> None:
        end = time.monotonic() + WAIT_S
        while process.poll() is None and len(self.records()) < records:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()

    def stores(self) -> list[Place]:
        """Return those that there are, or will be."""
        folders = sorted(self.runs.glob("jobs/extract_*"))
        if self.elsewhere is None:
            return [place(folder / "store") for folder in folders]
        return [place(f"{self.elsewhere}/{folder.name}") for folder in folders]

    def store_folders(self) -> list[str]:
        """Return where stores in the run directory lie."""
        return [str(path.relative_to(self.runs)) for path in self.runs.glob("jobs/extract_*/store")]

    def records(self) -> dict[str, float]:
        """When each record was made."""
        return {
            f"{root}/records/{name}": listed.modified_s
            for root in self.stores()
            for name, listed in root.listing("records").items()
            if listed.bytes and name.endswith(".json")
        }

    def digests(self) -> dict[str, str]:
        """The sha256 of all that readers can see, by job and name."""
        jobs = [folder.name for folder in sorted(self.runs.glob("jobs/extract_*"))]
        return {
            f"{job}/{folder}/{name}": sha256(
                root.read(f"{folder}/{name}".strip("/")) or b""
            ).hexdigest()
            for job, root in zip(jobs, self.stores(), strict=True)
            for folder in ("", "shards", "maps", "records")
            for name in root.listing(folder)
            if self.elsewhere is None or name not in PATHS
        }
