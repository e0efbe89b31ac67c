"""An architecture of one's own, as docs/how-to/own-network.md brings it: from recipe to model."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import networks, store
from tests.colours import write_colours
from tests.jobs_tests.shown import PAGES, blocks
from tests.jobs_tests.small_world import noise
from tests.package import Package

PAGE = PAGES["docs/how-to/own-network.md"]
CODE = "\n".join(blocks(PAGE, "python")[0])
PROJECT, RECIPE = (tomllib.loads("\n".join(block)) for block in blocks(PAGE, "toml"))
OURS = '[network]\nname = "zf5"\nwidth = 0.1\nfc_units = 16'
THEIRS = "\n".join(["[network]", *(f'{key} = "{said}"' for key, said in RECIPE["network"].items())])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install the page's package, with a line more at the end of its code."""
    (module,) = PROJECT["tool"]["setuptools"]["py-modules"]
    points = PROJECT["project"]["entry-points"][networks.installed.GROUP]
    package = Package(tmp_path / "package", module, monkeypatch)

    def install(more: str = "", version: str = PROJECT["project"]["version"]) -> None:
        package.install(f"{CODE}\n{more}\n", version, **points)

    install()
    yield install
    monkeypatch.undo()
    package.forget()


@pytest.fixture
def run(
    package: Callable[..., None], tiny: Path, tmp_path: Path, spp: Callable[..., Any]
) -> Callable[..., Any]:
    """Run a command on the tiny recipe with the page's network."""
    assert OURS in tiny.read_text()
    tiny.write_text(tiny.read_text().replace(OURS, THEIRS))
    networks.save(networks.load("small", classes=4), tmp_path / RECIPE["network"]["weights"])
    places = ("--data", tmp_path, "--runs", tmp_path / "runs")
    return lambda command, *more: spp(command, tiny, *places, *more)


def stores(tmp_path: Path) -> set[Path]:
    """Of the training set: one for each network that was run."""
    return set(tmp_path.glob("runs/jobs/extract_train*/store"))


def test_a_run_and_a_model_take_it_until_its_code_changes(
    run: Callable[..., Any], package: Callable[..., None], tmp_path: Path, spp: Callable[..., Any]
) -> None:
    said = run("detect", "--serial")
    assert said.code == 0, said.err
    (held,) = stores(tmp_path)
    assert store.open(held).spec.length == 96 * 5  # channels, and 2·2 + 1 bins
    model = tmp_path / "model"
    assert run("model", "--serial", "--out", model).code == 0
    noise(3).save(tmp_path / "photo.png")
    asked = ("detect", tmp_path / "photo.png", "--model", model, "--serial", "--runs", tmp_path)
    said = spp(*asked)
    assert said.code == 0, said.err

    package("# another line")
    said = spp(*asked)
    assert said.code == 2
    assert f"the model {model} was made with" in said.err
    assert run("extract", "--serial").code == 0
    assert len(stores(tmp_path)) == 2
    package()
    assert "✓" not in run("extract", "--serial").err  # what was made is there again
    assert len(stores(tmp_path)) == 2
    assert spp(*asked).code == 0


def test_it_is_trained_on_images_of_ones_own_and_judged(
    package: Callable[..., None], tmp_path: Path, spp: Callable[..., Any]
) -> None:
    recipe = write_colours(tmp_path)
    text = recipe.read_text()
    own = '[network]\nname = "small"\nweights = "pretrain"'
    assert OURS in text
    short = "epochs = 2\nsides_px = [80]\nresized_px = 90\nbatch_size = 6\nlearning_rate = 0.02"
    recipe.write_text(f"{text.replace(OURS, own)}\n[pretrain]\n{short}\nheld_out = 0.2\n")
    places = ("--serial", "--data", tmp_path, "--runs", tmp_path / "runs")
    said = spp("errors", recipe, *places)
    assert said.code == 0, said.err
    assert "In percent of 12 images" in said.out
    (weights,) = tmp_path.glob("runs/jobs/pretrain*/network.safetensors")
    trained, untrained = networks.load("small", weights), networks.load("small", classes=3)
    assert not torch.equal(trained.classifier.weight, untrained.classifier.weight)


def test_fc_layers_are_added_and_tuned(run: Callable[..., Any], tmp_path: Path) -> None:
    tuned = ("features.layer=ftfc7", "network.fc_units=16", "finetune.held_out=0.4")
    changes = (*tuned, "finetune.stretches=[[8, 0.01]]", "finetune.check_every=8")
    said = run("detect", "--serial", *(word for each in changes for word in ("--set", each)))
    assert said.code == 0, said.err
    (weights,) = tmp_path.glob("runs/jobs/finetune*/network.safetensors")
    assert networks.load("small", weights).layers == ("pool5", "fc6", "fc7")


def test_what_is_not_installed_is_told_before_any_job(
    run: Callable[..., Any], tmp_path: Path, spp: Callable[..., Any], tiny: Path
) -> None:
    tiny.write_text(tiny.read_text().replace('"small"', '"tiny"'))
    said = run("extract", "--serial")
    assert said.code == 2
    assert "no network is called 'tiny': choose among" in said.err
    assert "timm, small, or install the package" in said.err
    assert not stores(tmp_path)
