"""A folder in VOC layout that each test may damage, its recipe, and a check of refusals."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets import digits

VOC = """
extends = "tiny.toml"
name = "voc"
[dataset]
kind = "voc"
root = "VOC"
classes = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
"""


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
