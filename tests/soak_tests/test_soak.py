"""One round of a soak; `make soak` plays an hour of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from pipeline import images
from tests.soak_tests.soak import PROJECT, SPOILED, TEST, TRAIN, growth
from tests.soak_tests.spoiling import WAYS

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are told by /proc")


@needs_linux
@pytest.mark.skipif("SOAK" not in os.environ, reason="takes two minutes: SOAK=1, or make soak")
@pytest.mark.slow
@pytest.mark.timeout(340)
@pytest.mark.usefixtures("ray_environment")
def test_a_round_ends_with_all_accounted_for() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.soak_tests.soak",
        "--minutes",
        "0",
        "--seed",
        "4",
        "--disturbed",
        "1",
    ]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=330)
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    told = json.loads(said.stdout.splitlines()[-1])
    assert (told["rounds"], told["images_in"]) == (1, TRAIN + TEST)
    assert told["done"] + told["quarantined"] == told["images_in"]
    assert told["quarantined"] == sum(SPOILED)
    faults = told["faults"]
    assert faults["bit turned at rest"] == 1
    ended = ("worker killed", "driver killed", "driver told to end")
    assert sum(faults.get(each, 0) for each in ended) > 0


@pytest.mark.parametrize("way", WAYS)
def test_what_is_spoiled_is_no_image_any_more(tmp_path: Path, way) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (60, 40)).save(path)
    way(path, Random(3))
    if way.__name__ == "_other_size":  # than its annotation says
        assert images.load(path).shape == (40, 59, 3)
        return
    with pytest.raises(images.UndecodableImage, match=r"\w+"):
        images.load(path)


def test_growth_is_of_the_later_rounds() -> None:
    assert growth([5, 5, 5, 5, 5, 5]) == 1
    assert growth([1, 1, 5, 5, 6, 6]) == 1.2
