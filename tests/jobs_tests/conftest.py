"""A small folder in VOC layout that each test may damage, and the recipe that reads it."""

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
