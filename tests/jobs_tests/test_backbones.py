"""Recipes whose network comes from another library: from a folder to detections."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import dag, options, steps
from jobs.job import State, Step
from pipeline import store
from pipeline.networks import digest, load
from tests.tiny_backbones import say, write

OURS = '[network]\nname = "zf5"\nwidth = 0.1\nfc_units = 16'
THEIRS = '[network]\nname = "transformers"\nweights = "backbone"'
Run = Callable[..., Any]


@pytest.fixture
def theirs(tiny: Path, spp: Run) -> Run:
    """Run a command on the tiny recipe with a network of four stages beside it."""
    write(tiny.parent / "backbone", "resnet")
    tiny.write_text(tiny.read_text().replace(OURS, THEIRS))

    def run(command: str, *changes: str, serial: bool = True) -> Any:
        words = [word for change in changes for word in ("--set", change)]
        places = ("--data", tiny.parent, "--runs", tiny.parent / "runs")
        return spp(command, tiny, *places, *words, *(("--serial",) if serial else ()))

    return run


def test_detections_from_a_backbone_and_others_when_it_changes(theirs: Run, tiny: Path) -> None:
    def extracted(*changes: str) -> Step:
        recipe = options.load(str(tiny), list(changes), tiny.parent)
        planned = dag.plan(steps.jobs_of(recipe), recipe, tiny.parent / "runs")
        return planned["extract_train"]

    said = theirs("detect")
    assert said.code == 0, said.err
    assert "✓ detect" in said.err
    first = extracted()
    assert first.state is State.done
    held = store.open(first.folder / "store")
    assert held.spec.length == 11 * 5  # channels of the stage at stride 16, and 2·2 + 1 bins
    assert held.made_from["network"] == digest(load("transformers", tiny.parent / "backbone"))
    folders = {first.folder, extracted("network.stage=2").folder}
    say(tiny.parent / "backbone", image_mean=[0.5] * 3, image_std=[0.5] * 3)
    folders.add(extracted().folder)
    write(tiny.parent / "backbone", "resnet", seed=1)
    folders.add(extracted().folder)
    assert len(folders) == 4


def test_fc_layers_over_a_backbone_are_tuned_and_kept_with_it(theirs: Run, tiny: Path) -> None:
    tuned = ("features.layer=ftfc7", "network.fc_units=16", "finetune.held_out=0.4")
    short = ("finetune.stretches=[[8, 0.01]]", "finetune.check_every=8")
    said = theirs("detect", *tuned, *short)
    assert said.code == 0, said.err
    (weights,) = (tiny.parent / "runs").glob("*/*/network.safetensors")
    network = load("transformers", weights)
    assert network.layers == ("pool5", "fc6", "fc7")
    assert network.layer_size("pool5") == 11 * 5


def test_filters_of_a_backbone_are_marked_by_the_centres_of_cells(
    theirs: Run, tiny: Path, spp: Run
) -> None:
    assert theirs("extract").code == 0
    places = ("--data", tiny.parent, "--runs", tiny.parent / "runs")
    options = (f"{tiny}:test", *places, "--out", tiny.parent / "filters.png")
    said = spp("filters", *options)
    assert said.code == 0, said.err
    assert "place: the centre of the cell, for what reaches a cell of transformers cannot be" in (
        said.out
    )
    assert (tiny.parent / "filters.png").is_file()
    answer = json.loads(spp("filters", *options, "--json").out)
    assert (answer["channels"], answer["receptive_field_px"]) == (11, None)
    assert {each["receptive_field"] for each in answer["filters"]} == {None}


def test_a_plan_knows_its_sizes(theirs: Run) -> None:
    said = theirs("plan", serial=False)
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("changes", "damage", "message"),
    [
        (["network.weights=random"], None, "set network.weights to a local folder"),
        (["network.weights=nowhere"], None, "there is no file"),
        (["network.stage=5"], None, "resnet has no stage 5"),
        (["network.name=resnet18"], None, "weights of resnet18 are a file"),
        (["network.width=0.5"], None, "transformers has no option 'width'"),
        ([], "model.safetensors", "has no model.safetensors"),
        ([], "config.json", "has no config.json"),
    ],
)
def test_what_cannot_be_is_told_before_any_job(
    theirs: Run, tiny: Path, changes: list[str], damage: str | None, message: str
) -> None:
    if damage:
        (tiny.parent / "backbone" / damage).unlink()
    said = theirs("extract", *changes)
    assert said.code in (1, 2)
    assert message in said.err
    assert "✓" not in said.err
    assert "Traceback" not in said.err
