"""A run whose layer is fine-tuned: which stores it makes, and what its classifiers read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jobs.finetune as finetune_job
import pipeline.learning.finetune as finetune_library
from jobs import dag, options, steps
from jobs.asked import ask
from jobs.job import State, Step
from pipeline import networks, store
from pipeline.errors import InputError

TUNED = ("features.layer=ftfc7", "finetune.held_out=0.4", "finetune.check_every=8")
SHORT = ("finetune.stretches=[[16, 0.01]]", "finetune.batch_size=8", "finetune.held_windows=32")


@pytest.fixture
def planned(tiny: Path) -> Callable[..., dict[str, Step]]:
    def plan(*changes: str) -> dict[str, Step]:
        recipe = options.load(str(tiny), list(changes), None)
        return dag.plan(steps.jobs_of(recipe), recipe, tiny.parent / "runs")

    return plan


def test_classifiers_read_the_fine_tuned_layer(
    tiny: Path, spp: Callable[..., Any], planned: Callable[..., dict[str, Step]]
) -> None:
    changes = [word for change in (*TUNED, *SHORT) for word in ("--set", change)]
    said = spp("run", tiny, "--serial", "--runs", tiny.parent / "runs", *changes)
    assert said.code == 0, said.err
    steps_ = planned(*TUNED, *SHORT)
    assert all(step.state is State.done for step in steps_.values())
    plain = planned()
    assert steps_["pool5_train"].folder == plain["extract_train"].folder
    assert "pool5_test" not in steps_  # nothing reads it
    folder = steps_["finetune"].folder
    names = {path.name for path in folder.iterdir()} - {".lock", "events.jsonl", "done.json"}
    assert names >= {"network.safetensors", "learning.svg", "learning.png", "labels"}
    assert not list((folder / "states").iterdir())

    summary = json.loads((folder / "done.json").read_text())["summary"]
    assert [part["step"] for part in summary["history"]] == [8, 16]
    assert summary["positives"] % 2 == 0  # each once as it is, once mirrored
    least = min(summary["history"], key=lambda part: part["held_loss"])
    assert summary["chosen_step"] == least["step"]

    tuned = networks.load("zf5", folder / "network.safetensors")
    assert tuned.options["classes"] == 11
    held = store.open(steps_["extract_train"].folder / "store")
    assert held.made_from["network"] == networks.digest(tuned)
    assert held.made_from["features"]["layer"] == "fc7"
    assert held.spec.length == 16
    # Whoever asks the store about a new box gets the network that made it.
    sets = [*TUNED, *SHORT]
    asked = ask(f"{tiny}:test", tiny.parent / "runs", None, sets).network()
    assert asked is not None
    assert networks.digest(asked) == networks.digest(tuned)


def test_killed_after_any_part_it_ends_with_the_same_bytes(
    tiny: Path,
    spp: Callable[..., Any],
    planned: Callable[..., dict[str, Step]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = (*TUNED, "finetune.stretches=[[40, 0.01]]", *SHORT[1:])  # five parts
    words = [word for change in short for word in ("--set", change)]

    def run(runs: str) -> Any:
        return spp("finetune", tiny, "--serial", "--runs", tiny.parent / runs, *words)

    assert run("whole").code == 0
    folder = planned(*short)["finetune"].folder
    expected = (tiny.parent / "whole/jobs" / folder.name / "network.safetensors").read_bytes()
    trained: list[int] = []

    def once_each(spec: Any, states: Path, part: int) -> Any:
        stats = finetune_library.train_part(spec, states, part)
        if part not in trained:  # its state is there, and nobody hears of it
            trained.append(part)
            raise InputError(f"the power failed in part {part}")
        return stats

    monkeypatch.setattr(finetune_job, "train_part", once_each)
    for part in range(5):
        said = run("runs")
        assert (said.code, f"the power failed in part {part}" in said.err) == (1, True)
        assert len(list((folder / "states").glob("*.safetensors"))) <= 3

    def fail(*_: Any) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr("pipeline.report.plots.save_figure", fail)
    assert run("runs").code == 1
    monkeypatch.undo()
    assert run("runs").code == 0
    assert (folder / "network.safetensors").read_bytes() == expected
    # Once more from the network that is there, as after a kill before the job's record.
    (folder / "done.json").unlink()
    assert run("runs").code == 0
    assert (folder / "network.safetensors").read_bytes() == expected
    assert trained == [0, 1, 2, 3, 4]


def test_jobs_follow_from_the_recipe(planned: Callable[..., dict[str, Step]]) -> None:
    tuned = planned(*TUNED)
    assert tuned["finetune"].job.needs == ("pool5_train", "mirrored_train")
    assert "finetune" in tuned["extract_test"].job.needs
    still = planned(*TUNED, "finetune.mirrored=false")
    assert "mirrored_train" not in still
    regressed = planned(*TUNED, "regression.enabled=true")
    assert "pool5_test" in regressed
    # Which of the two layers is read is not the training's business; how long it trains is.
    other = planned("features.layer=ftfc6", *TUNED[1:])
    assert other["finetune"].folder == tuned["finetune"].folder
    assert other["extract_test"].folder != tuned["extract_test"].folder
    assert planned(*TUNED, *SHORT)["finetune"].folder != tuned["finetune"].folder
    # The schedule by its name or written out.
    assert (
        planned(*TUNED, "network.fc7_rank=4")["finetune"].folder == tuned["finetune"].folder
    )  # cut afterwards
    quick = planned(*TUNED, "finetune.schedule=quick")["finetune"].folder
    written = planned(*TUNED, "finetune.stretches=[[1500, 0.01], [500, 0.001]]")
    assert written["finetune"].folder == quick


@pytest.mark.parametrize("network", ["zf5", "resnet18"])
def test_a_probe_takes_the_layers_as_they_are(
    tiny: Path, spp: Callable[..., Any], network: str
) -> None:
    text = tiny.read_text().replace('name = "zf5"\nwidth = 0.1', f'name = "{network}"')
    tiny.write_text(text)
    words = [word for change in TUNED for word in ("--set", change)]
    said = spp("plan", tiny, "--runs", tiny.parent / "runs", "--probe", "--json", *words)
    assert said.code == 0, said.err
    assert "fc" in json.loads(said.out)["projected"]["probe"]["stages_s"]


def test_a_plan_counts_its_stores_and_states(tiny: Path, spp: Callable[..., Any]) -> None:
    def planned(*changes: str) -> dict[str, Any]:
        sets = [word for change in changes for word in ("--set", change)]
        said = spp("plan", tiny, "--runs", tiny.parent / "runs", "--json", *sets)
        assert said.code == 0, said.err
        return json.loads(said.out)["projected"]

    plain, tuned = planned(), planned(*TUNED)
    assert tuned["images"] == plain["images"] + 2 * 12  # pool5 of the training images, twice
    assert "fine-tuning" not in plain["bytes"]
    # fc6 130·16 + 16, fc7 16·16 + 16, fc8 16·10 + 10: three states of two, and the network.
    head = 130 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
    assert tuned["bytes"]["fine-tuning"] > 4 * 7 * head


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((), "tiny fine-tunes nothing: set features.layer to ftfc6 or ftfc7"),
        (("features.layer=ftfc7", "features.store=maps"), "maps"),
        (("features.layer=ftfc7", "finetune.background_iou=0.6"), "0.6 is not below positive_iou"),
        (("features.layer=ftfc7", "finetune.positive_share=0.001"), "0.001 of 128 windows leaves"),
        (("features.layer=ftfc7", "finetune.stretches=[]"), "give pairs of steps"),
        (("features.layer=ftfc6", "network.name=squeezenet1_1"), "width"),
        (("features.layer=ftfc7", "finetune.seed=-1"), "greater than or equal to 0"),
        (("features.layer=ftfc7", "finetune.gpus=1.5"), "a part of one, or a whole number"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    tiny: Path, spp: Callable[..., Any], changes: tuple[str, ...], said: str
) -> None:
    sets = [word for change in changes for word in ("--set", change)]
    answer = spp("finetune", tiny, "--serial", "--runs", tiny.parent / "runs", *sets)
    assert answer.code == 2
    assert said in answer.err
