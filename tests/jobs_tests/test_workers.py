"""`pretrain.workers`: two processes on a Ray cluster come to what one does, whatever dies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from jobs import dag, options, pretrain, steps
from pipeline.config import Recipe
from pipeline.errors import InputError
from tests.jobs_tests import dying

pytestmark = pytest.mark.usefixtures("ray_cluster")

RECIPE = """
name = "together"
task = "classification"
[dataset]
kind = "folders"
root = "colours"
train = "train"
test = "train"
[network]
name = "zf5"
weights = "pretrain"
width = 0.07
fc_units = 16
[pretrain]
sides_px = [48, 40]
resized_px = 56
epochs = 3
batch_size = 7
held_out = 0.2
scaffold = false
decode_threads = 1
workers = 2
[features]
scales = [48]
levels = [2, 1]
"""
ALONE = ("--set", "pretrain.workers=1", "--serial")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, and 24 images of two classes."""
    folder, random = tmp_path_factory.mktemp("together"), np.random.default_rng(7)
    for name, colour in (("blue", (30, 40, 210)), ("red", (220, 30, 40))):
        (folder / "colours/train" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.normal(colour, 40, (60, 64, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "colours/train" / name / f"{number}.png")
    (folder / "together.toml").write_text(RECIPE)
    return folder


@pytest.fixture
def run(made: Path, spp: Callable[..., Any]) -> Callable[..., Any]:
    def command(runs: str, *words: str) -> Any:
        return spp(
            "pretrain", made / "together.toml", "--data", made, "--runs", made / runs, *words
        )

    return command


def folder_of(made: Path, runs: str) -> Path:
    (folder,) = (made / runs / "jobs").glob("pretrain-*")
    return folder


@pytest.fixture(scope="module")
def whole(made: Path) -> Path:
    """The folder of a run of two processes that nothing disturbs."""
    from jobs.execution import DONE, execute

    recipe = options.load(str(made / "together.toml"), None, made)
    assert execute([recipe], [("pretrain",)], made / "whole", as_json=True) == DONE
    return folder_of(made, "whole")


def test_two_processes_come_to_the_network_of_one(
    whole: Path, made: Path, run: Callable[..., Any]
) -> None:
    assert run("alone", *ALONE).code == 0
    alone = folder_of(made, "alone")
    assert alone.name != whole.name
    one, two = (load_file(folder / "network.safetensors") for folder in (alone, whole))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    told = [json.loads((folder / "done.json").read_text())["summary"] for folder in (alone, whole)]
    assert [each["epochs"] for each in told] == [3, 3]
    for one, two in zip(*(each["history"] for each in told), strict=True):
        assert two["images"] == one["images"] > 14  # each counted once
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert two["held_accuracy"] == one["held_accuracy"]
    assert len(list((whole / "tasks/epochs").glob("*.json"))) == 3
    assert not list((whole / "states").iterdir())
    again = run("whole", "--serial")  # what is done needs no processes
    assert again.code == 0, again.err


def test_killed_after_an_epoch_it_goes_on_from_there(
    whole: Path, made: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise InputError("the first epoch is told of")

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "keep", stop)
        patch.setattr(pretrain, "train_remaining", dying.train_two)  # else all may be done by then
        assert "first epoch is told of" in run("killed").err
    folder = folder_of(made, "killed")
    first = (folder / "tasks/epochs/000000.json").read_bytes()
    assert not (folder / "tasks/epochs/000002.json").exists()
    refused = run("killed", "--serial")
    assert refused.code == 2
    assert "pretrain.workers = 2 needs as many processes, and --serial has one" in refused.err
    assert run("killed").code == 0
    assert (folder / "tasks/epochs/000000.json").read_bytes() == first
    name = "network.safetensors"
    assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_process_that_dies_in_an_epoch_loses_nothing(
    whole: Path, made: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "train_remaining", dying.train_remaining)
    said = run("died")
    assert said.code == 0, said.err
    assert "all 2 processes begin again from what is done (1 of 2)" in said.err
    folder = folder_of(made, "died")
    assert (folder / "died").read_text().startswith("before step ")
    name = "network.safetensors"
    assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_more_than_the_cluster_has_is_refused(run: Callable[..., Any]) -> None:
    said = run("many", "--set", "pretrain.workers=3")
    assert said.code == 2
    assert "pretrain.workers = 3 with 1 CPUs each, and the cluster (2 CPUs" in said.err
    assert "has room for 2: set workers = 2, or add machines" in said.err


def test_each_number_of_workers_has_a_folder(made: Path) -> None:
    text = options.load(str(made / "together.toml"), None, made).model_dump()

    def name(**changes: Any) -> str:
        recipe = Recipe.model_validate(text | {"pretrain": text["pretrain"] | changes})
        return dag.plan(steps.jobs_of(recipe), recipe, made)["pretrain"].folder.name

    assert name(workers=1, gpus=1) == name(workers=1)
    assert len({name(workers=count) for count in (1, 2, 3)}) == 3
