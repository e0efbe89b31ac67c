"""A folder in VOC layout that each test may damage, a check of refusals, and a cluster's head."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from jobs import options, steps
from jobs.asked import Asked, ask
from jobs.execution import DONE, execute
from jobs.serve.app import build
from pipeline.datasets import digits
from pipeline.store.place import place

PROJECT = Path(options.__file__).parents[1]

VOC = """
extends = "tiny.toml"
name = "voc"
[dataset]
kind = "voc"
root = "VOC"
classes = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
"""


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> Path:
    """The run directory of a small recipe that lies beside it, as far as detections: to be read."""
    folder = tmp_path_factory.mktemp("tiny_run")
    (folder / "tiny.toml").write_text(tiny_text)
    recipe = options.load(str(folder / "tiny.toml"), None, None)
    targets = [steps.TARGETS["detect"]]
    assert execute([recipe], targets, folder / "runs", serial=True, as_json=True) == DONE
    return folder / "runs"


@pytest.fixture
def asked(tiny_run: Path, tmp_path: Path) -> Asked:
    """The test images of that run, with a shelf of this test's own."""
    held = ask(f"{tiny_run.parent / 'tiny.toml'}:test", tiny_run)
    return replace(held, shelf=place(tmp_path))


@pytest.fixture
def person(asked: Asked) -> Iterator[TestClient]:
    """Somebody who looks at them in a browser."""
    page = {"accept": "text/html"}
    with TestClient(build(asked), base_url="http://127.0.0.1", headers=page) as client:
        yield client


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "VOC"
    digits.write(folder, 0, n_train=12, n_test=8)
    return folder


@pytest.fixture
def voc(written: Path, tiny: Path) -> Path:
    """The folder, beside the recipe `voc.toml` that names it."""
    (tiny.parent / "voc.toml").write_text(VOC)
    return Path(shutil.copytree(written, tiny.parent / "VOC"))


@pytest.fixture
def run_voc(voc: Path, spp: Callable[..., Any]) -> Callable[..., Any]:
    """Run a command on that recipe, in this process."""

    def run(command: str, *options: str | Path) -> Any:
        root = voc.parent
        places = ("--data", root, "--runs", root / "runs")
        serial = () if command == "status" else ("--serial",)
        return spp(command, root / "voc.toml", *places, *serial, *options)

    return run


@pytest.fixture(scope="session")
def refused() -> Callable[..., None]:
    def check(said: Any, code: int, *parts: str) -> None:
        """Check the exit code, that one line is the reason, and that it holds all parts."""
        lines = [line for line in said.err.splitlines() if line.startswith(("error: ", "✗ "))]
        assert said.code == code, said
        assert len(lines) == 1, said.err
        assert "Traceback" not in said.err + said.out
        assert [part for part in parts if part not in lines[0]] == [], lines[0]

    return check


@dataclass(frozen=True)
class Head:
    """A cluster's head, as `ray start --head` makes it."""

    address: str
    folder: Path
    variables: Mapping[str, str]
    """What someone who may submit has set."""

    def submit(self, *arguments: str | Path, **variables: str) -> Any:
        """Run `spp submit` to its end."""
        return subprocess.run(
            self._command(arguments),
            env=self._environment(variables),
            capture_output=True,
            text=True,
            timeout=220,
        )

    def follow(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start `spp submit`, as from a shell that hands Ctrl-C on."""
        return subprocess.Popen(
            self._command(arguments),
            env=self._environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def _command(self, arguments: tuple[str | Path, ...]) -> list[str | Path]:
        return [sys.executable, "-m", "jobs", "submit", *arguments, "--address", self.address]

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, **self.variables, "PYTHONPATH": str(PROJECT), **variables}


PORTS = (
    "port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port",
    "runtime-env-agent-port", "ray-client-server-port", "metrics-export-port",
)  # fmt: skip


START_S = 90


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    for attempt in range(3):
        with started_head() as started:
            # A port may be taken between looking and listening, and an agent without its port ends
            # the head: that is another attempt's luck, and nobody's fault.
            if started is None and attempt < 2:
                continue
            assert started is not None, "no head lived to take jobs, in three attempts"
            yield started
            return


@contextlib.contextmanager
def started_head() -> Iterator[Head | None]:
    """A head that takes jobs, or None where it ended before."""
    token, folder = secrets.token_hex(32), tempfile.mkdtemp(prefix="spp")
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    beside = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_agent_register_timeout_ms": f"{START_S * 1000}",
    }
    # The code must come with the job.
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAY_ADDRESS")}
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
    command += ["start", "--head", "--block", "--num-cpus=2", "--num-gpus=0"]
    command += [f"--temp-dir={folder}", "--object-store-memory=90000000"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    with Path(folder, "head.log").open("w") as log:
        process = subprocess.Popen(
            command, env={**inherited, **given, **beside}, stdout=log, stderr=log
        )
    try:
        address = f"http://127.0.0.1:{ports['dashboard-port']}"
        agent = f"http://127.0.0.1:{ports['dashboard-agent-listen-port']}"
        end = time.monotonic() + START_S
        while not (answers(f"{address}/api/version") and answers(f"{agent}/api/healthz")):
            if process.poll() is not None or time.monotonic() > end:
                sys.stderr.write(Path(folder, "head.log").read_text())
                yield None
                return
            time.sleep(0.2)
        yield Head(address, Path(folder), given)
    finally:
        process.terminate()  # ends what it has started, and nothing else
        try:
            process.wait(60)
        finally:
            process.kill()
            shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, each another one.

    None of those from 32768 on, which systems hand out to whoever asks for any port, as Ray's own
    servers do between this look and the listening.
    """
    free: list[int] = []
    while len(free) < count:
        port = 21000 + secrets.randbelow(11000)
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind(("", port))
            free += [port] if port not in free else []
    return free


def answers(url: str) -> bool:
    """Return whether a server answers, with whatever: it may ask for a token first."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True
