"""Fixtures that every test may use."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.cluster import two_cpus
from tests.tiny import TINY

# No deadline, for the first call of a compiled function takes seconds. The same examples each time,
# so that red means a change; `pytest --hypothesis-profile search` looks for new ones.
# Neither is slowness a fault: a busy machine that stands still for a second would make a test fail.
SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=SLOW
)
hypothesis.settings.register_profile(
    "search", deadline=None, max_examples=2000, suppress_health_check=SLOW
)
hypothesis.settings.load_profile("house")

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real photographs and weights, or skip where it is absent."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the folder of real data is not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def ray_environment() -> Iterator[dict[str, str]]:
    """Variables under which a Ray of our own may start, here or in a command."""
    changed = {
        # A local Ray asks for a token, as in production. This one is the session's own, and
        # nobody's file is touched. (RAY_AUTH_MODE would come too late: Ray is imported already.)
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Workers import the project wherever pytest was started.
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in changed.items():
            patch.setenv(name, value)
        yield changed


@pytest.fixture(scope="session")
def ray_cluster(ray_environment: dict[str, str]) -> Iterator[None]:
    """Two CPUs of Ray for the whole session, apart from any other Ray on this machine."""
    with two_cpus():
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """An S3 server on loopback with an empty bucket, which all programs started here will use."""
    import fsspec
    from s3fs import S3FileSystem

    from tests.s3 import BUCKET, S3Server

    with S3Server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        quick = {"retries": {"mode": "standard", "total_max_attempts": 3}, "read_timeout": 2}
        patch.setitem(fsspec.config.conf, "s3", {"config_kwargs": quick})
        S3FileSystem(skip_instance_cache=True).call_s3("create_bucket", Bucket=BUCKET)
        yield server


@pytest.fixture(scope="session")
def tiny_text() -> str:
    """A recipe that runs in seconds."""
    return TINY


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The file of that recipe."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def spp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run the command line in this process."""

    def run(*arguments: str | Path) -> Said:
        from jobs import cli

        monkeypatch.setattr(sys, "argv", ["spp", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run
