"""`spp submit` against a real cluster of one head, token authentication on, on ports of its own."""

import contextlib
import fcntl
import json
import re
import signal
import time
from collections import Counter
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


@dataclass(frozen=True)
class Attempt:
    """The recipe, submitted and stopped while it was at work."""

    runs: Path
    again: Any
    """What submitting it once more answered, meanwhile."""
    left: tuple[int, str]
    """Exit code of who followed it and pressed Ctrl-C, and what was said."""
    stopped: Any
    kept: dict[Path, int]
    """Commit records that were there then, and their times."""
    made: Counter[str]
    """What had been computed."""

    @property
    def words(self) -> list[str | Path]:
        return words_of(self.runs)


def words_of(runs: Path) -> list[str | Path]:
    return ["digits", "--runs", runs, "--job", "evaluate", *setting(SMALL)]


def records(runs: Path) -> dict[Path, int]:
    found = runs.glob("jobs/extract_*/store/records/*.json")
    return {path: path.stat().st_mtime_ns for path in found if path.stat().st_size}


@contextlib.contextmanager
def held_up(runs: Path, job: str) -> Iterator[None]:
    """Be at work on a job's folder, as another run would: whoever comes to it waits."""
    known = options.load("digits", SMALL, None)
    folder = dag.plan(steps.jobs_of(known), known, runs)[job].folder
    folder.mkdir(parents=True)
    with (folder / hold.LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def attempt(head: Any, tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    runs = tmp_path_factory.mktemp("cluster") / "runs"
    words = words_of(runs)
    with held_up(runs, "extract_test"):
        follower = head.follow(*words)
        while not records(runs):
            assert follower.poll() is None, follower.communicate()
            time.sleep(0.05)
        again = head.submit(*words, "--no-wait")
        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=30)
        stopped = head.submit(*words, "--stop", "--json")
        left = (follower.returncode, errors)
        return Attempt(runs, again, left, stopped, records(runs), computed(runs))


@pytest.fixture(scope="module")
def submitted(head: Any, attempt: Attempt) -> Any:
    """The same command again: it goes on."""
    return head.submit(*attempt.words)


def test_who_follows_a_job_may_leave_and_it_can_be_stopped(attempt: Attempt) -> None:
    assert attempt.again.returncode == 0
    assert "is there already" in attempt.again.stderr
    assert ": running. " in attempt.again.stderr
    code, said = attempt.left
    assert (code, "goes on without you" in said, "Traceback" in said) == (130, True, False)
    assert attempt.stopped.returncode == 0, attempt.stopped.stderr
    ended = json.loads(attempt.stopped.stdout)
    assert (ended["status"], ended["exit_code"]) == ("STOPPED", 130)


def test_a_stopped_job_goes_on_where_it_stopped(attempt: Attempt, submitted: Any) -> None:
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "digits: mAP" in submitted.stdout
    assert f"must see {attempt.runs}" in submitted.stderr
    first = json.loads(attempt.stopped.stdout)["submission_id"]
    assert f"{first}-2: succeeded" in submitted.stderr
    kept, held = attempt.kept, records(attempt.runs)
    assert {path: held[path] for path in kept} == kept
    again = computed(attempt.runs) - attempt.made
    assert again
    assert not {f"{path.parents[2].name}/{path.stem}" for path in kept} & set(again)
    assert len(held) > len(kept)


@pytest.mark.usefixtures("submitted")
def test_a_submitted_recipe_gives_the_bytes_of_a_serial_run(
    head: Any, attempt: Attempt, tmp_path: Path, spp: Run
) -> None:
    found = digests(attempt.runs)
    assert len([name for name in found if "/shards/" in name]) >= 6
    assert not list(attempt.runs.glob("jobs/report-*"))  # --job went as far as it says
    said = spp("evaluate", "digits", "--runs", tmp_path / "runs", "--serial", *setting(SMALL))
    assert said.code == 0, said.err
    assert found == digests(tmp_path / "runs")
    # A worker compiled its kernels from the code that came along, not from what is installed here.
    sent = "session_*/runtime_resources/py_modules_files/*/pipeline/spp/__pycache__/*.nbi"
    assert list(head.folder.glob(sent))


@pytest.mark.usefixtures("submitted")
def test_submitting_again_what_is_done_starts_nothing(
    head: Any, attempt: Attempt, tmp_path: Path
) -> None:
    words = attempt.words
    told = head.submit(*words)
    assert (told.returncode, told.stdout) == (0, "")
    assert "has done it before" in told.stderr

    file = tmp_path / "token"
    file.write_text(head.variables["RAY_AUTH_TOKEN"])
    by_file = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": str(file)}
    status = head.submit(*words, "--status", "--json", **by_file)
    assert status.returncode == 0, status.stderr
    row = json.loads(status.stdout)
    first, number = row["submission_id"].rsplit("-", 1)
    assert re.fullmatch("spp-digits-[0-9a-f]{12}", first)
    assert number == "2"  # the attempt that ended well
    assert (row["status"], row["exit_code"]) == ("SUCCEEDED", 0)

    again = head.submit(*words, "--again", "--no-wait", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["submission_id"] == f"{first}-3"
    # It has nothing to do, and may have ended before.
    assert re.search("-3: (stopped|succeeded)", head.submit(*words, "--stop").stdout)


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
