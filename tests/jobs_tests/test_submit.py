"""`spp submit` against a real cluster of one head, token authentication on, on ports of its own."""

import contextlib
import fcntl
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from jobs import dag, hold, options, steps
from tests.computed import computed

# Starting a cluster and two Rays' worth of compiling takes its time where others work too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Run = Callable[..., Any]

# The shipped recipe with everything in it, its own training included, in seconds.
SMALL = [
    "dataset.train_images=24",
    "dataset.test_images=8",
    "windows.method=grid",
    "windows.max_windows=60",
    "network.width=0.1",
    "network.fc_units=16",
    "pretrain.crops=64",
    "pretrain.epochs=1",
    "features.scales=[160]",
    "features.levels=[2, 1]",
    "features.shard_bytes=40_000",
    "evaluation.pictures=2",
]


def setting(fields: list[str]) -> list[str]:
    return [word for each in fields for word in ("--set", each)]


def digests(runs: Path) -> dict[str, str]:
    """The sha256 of all that was measured and stored, by its path."""
    patterns = ("evaluate-*/ap.*", "*/store/shards/*", "*/store/records/*", "*/store/manifest.json")
    return {
        str(path.relative_to(runs)): sha256(path.read_bytes()).hexdigest()
        for pattern in patterns
        for path in runs.glob(f"jobs/{pattern}")
    }


@pytest.fixture
def serial(spp: Run) -> Run:
    """Run a recipe here, without Ray; return the digests."""

    def run(command: str, recipe: str | Path, runs: Path, fields: list[str]) -> dict[str, str]:
        said = spp(command, recipe, "--runs", runs, "--serial", *setting(fields))
        assert said.code == 0, said.err
        return digests(runs)

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster") / "runs"


@pytest.fixture(scope="module")
def submitted(head: Any, runs: Path) -> Any:
    return head.submit("digits", "--runs", runs, *setting(SMALL))


def test_a_submitted_recipe_gives_the_bytes_of_a_serial_run(
    head: Any, submitted: Any, runs: Path, tmp_path: Path, serial: Run
) -> None:
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "digits: mAP" in submitted.stdout
    assert f"must see {runs}" in submitted.stderr
    found = digests(runs)
    assert len([name for name in found if "/shards/" in name]) >= 6
    assert found == serial("run", "digits", tmp_path / "runs", SMALL)
    # A worker compiled its kernels from the code that came along, not from what is installed here.
    sent = "session_*/runtime_resources/py_modules_files/*/pipeline/spp/__pycache__/*.nbi"
    assert list(head.folder.glob(sent))


@pytest.mark.usefixtures("submitted")
def test_submitting_again_what_is_done_starts_nothing(
    head: Any, runs: Path, tmp_path: Path
) -> None:
    words = ["digits", "--runs", runs, *setting(SMALL)]
    told = head.submit(*words)
    assert (told.returncode, told.stdout) == (0, "")
    assert "has done it before" in told.stderr

    file = tmp_path / "token"
    file.write_text(head.variables["RAY_AUTH_TOKEN"])
    by_file = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": str(file)}
    status = head.submit(*words, "--status", "--json", **by_file)
    assert status.returncode == 0, status.stderr
    row = json.loads(status.stdout)
    assert re.fullmatch("spp-digits-[0-9a-f]{12}", row["submission_id"])  # the first attempt
    assert (row["status"], row["exit_code"]) == ("SUCCEEDED", 0)

    again = head.submit(*words, "--again", "--no-wait", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["submission_id"] == f"{row['submission_id']}-2"
    # It has nothing to do, and may have ended before.
    assert re.search("-2: (stopped|succeeded)", head.submit(*words, "--stop").stdout)


@contextlib.contextmanager
def held_up(recipe: Path, runs: Path, job: str) -> Iterator[None]:
    """Be at work on a job's folder, as another run would: whoever comes to it waits."""
    known = options.load(str(recipe), None, None)
    folder = dag.plan(steps.jobs_of(known), known, runs)[job].folder
    folder.mkdir(parents=True)
    with (folder / hold.LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_stopped_job_goes_on_where_it_stopped(
    head: Any, tiny: Path, tmp_path: Path, serial: Run
) -> None:
    runs = tmp_path / "runs"
    words = [tiny, "--runs", runs, "--job", "extract"]

    def records() -> dict[Path, int]:
        found = runs.glob("jobs/extract_*/store/records/*.json")
        return {path: path.stat().st_mtime_ns for path in found if path.stat().st_size}

    with held_up(tiny, runs, "extract_test"):
        follower = head.follow(*words)
        while not records():
            assert follower.poll() is None
            time.sleep(0.05)
        again = head.submit(*words, "--no-wait")
        assert again.returncode == 0
        assert "is there already" in again.stderr
        assert ": running. " in again.stderr

        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=30)
        assert follower.returncode == 130, errors
        assert "goes on without you" in errors
        assert "Traceback" not in errors

        stopped = head.submit(*words, "--stop", "--json")
        assert stopped.returncode == 0, stopped.stderr
        first = json.loads(stopped.stdout)
        assert (first["status"], first["exit_code"]) == ("STOPPED", 130)
        kept, before = records(), computed(runs)

    done = head.submit(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{first['submission_id']}-2: succeeded" in done.stderr
    assert {path: records()[path] for path in kept} == kept
    again = computed(runs) - before
    assert again
    assert not {f"{path.parents[2].name}/{path.stem}" for path in kept} & set(again)
    assert len(records()) > len(kept)
    assert digests(runs) == serial("extract", tiny, tmp_path / "serial", [])


def test_the_exit_code_is_the_jobs_own(head: Any, tiny: Path, tmp_path: Path) -> None:
    wrong = ["--set", "network.weights=nowhere.safetensors", "--data", "/no/such"]
    said = head.submit(tiny, "--runs", tmp_path / "runs", *wrong)
    assert said.returncode == 2, said.stdout + said.stderr
    assert "there is no file /no/such/nowhere.safetensors" in said.stdout
    assert "Traceback" not in said.stdout
    assert "failed. Job entrypoint command failed with exit code 2" in said.stderr


@pytest.mark.parametrize(
    ("variables", "parts"),
    [
        ({"RAY_AUTH_TOKEN": "f" * 64}, ["refuses the token that is set here"]),
        ({"RAY_AUTH_TOKEN": ""}, ["may ask for a token, and there is none here"]),
        ({"RAY_AUTH_MODE": "disabled"}, ["asks for a token, and RAY_AUTH_MODE is not token here"]),
    ],
)
def test_without_the_token_one_sentence_names_the_way_in(
    head: Any,
    tiny: Path,
    tmp_path: Path,
    refused: Any,
    variables: dict[str, str],
    parts: list[str],
) -> None:
    nobody = {"HOME": str(tmp_path)}  # no token in a file either
    said = head.submit(tiny, "--runs", tmp_path, **nobody, **variables)
    way_out = ["RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN", "~/.ray/auth_token", head.address]
    refused(Refusal(said.returncode, said.stdout, said.stderr), 1, *parts, *way_out)


@dataclass(frozen=True)
class Refusal:
    """What a command in a process of its own answered, as the fixture `refused` reads it."""

    code: int
    out: str
    err: str


def test_a_job_that_nobody_submitted_has_no_status(
    head: Any, tiny: Path, tmp_path: Path, refused: Any
) -> None:
    said = head.submit(tiny, "--runs", tmp_path, "--status")
    refused(Refusal(said.returncode, said.stdout, said.stderr), 1, "knows of no job spp-tiny-")
