"""What filters respond to, from the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.asked import ask
from pipeline import features, images
from pipeline.report.filters import HEAD, LEGEND, TILE

Run = Callable[..., Any]
CHANNELS = 26  # of conv5, at a tenth of its width


@pytest.fixture
def told(spp: Run, tiny_run: Path) -> Callable[..., dict[str, Any]]:
    """The answer of the command about that run's test images, as JSON."""

    def run(*options: object) -> dict[str, Any]:
        said = spp("filters", named(tiny_run), "--runs", tiny_run, *map(str, options), "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)

    return run


def named(runs: Path, split: str = "test") -> str:
    return f"{runs.parent / 'tiny.toml'}:{split}"


def maps_of(runs: Path, scale_px: int = 160) -> dict[str, np.ndarray]:
    """Maps of all test images, made here step by step."""
    held = ask(named(runs), runs)
    network, found = held.network(), {}
    assert network is not None
    for row in held.store.images.to_pylist():
        pixels = images.load(held.file_of(row["image_id"]))
        resized, factors = images.resize(pixels, scale_px)
        ready = features.Resized(scale_px, network.preprocessing.apply(resized), factors)
        found[row["image_id"]] = features.feature_maps([ready], network)[0].half().float().numpy()
    return found


def test_responses_are_those_of_the_network(told: Run, tiny_run: Path) -> None:
    maps, answer = maps_of(tiny_run), told("--strongest", 3, "--top", 4)
    assert (answer["images"], answer["channels"], answer["network"]) == (8, CHANNELS, "zf5")
    assert (answer["scale_px"], answer["receptive_field_px"]) == (160, 159)
    assert (answer["seen_by"], answer["left_out"], answer["out"]) == ("network", {}, None)
    assert len(answer["filters"]) == 4
    most = {image_id: each.reshape(CHANNELS, -1).max(1) for image_id, each in maps.items()}
    all_of_them = np.array([most[image_id] for image_id in sorted(most)], np.float64)
    mean, deviation = all_of_them.mean(0), all_of_them.std(0)
    standings = (most[answer["image"]] - mean) / deviation
    assert [each["filter"] for each in answer["filters"]] == np.argsort(-standings)[:4].tolist()
    for each in answer["filters"]:
        number = each["filter"]
        assert each["response"] == most[answer["image"]][number]
        assert each["mean"] == pytest.approx(mean[number])
        assert each["deviation"] == pytest.approx(deviation[number])
        assert each["standing"] == pytest.approx(standings[number])
        ranked = sorted(most, key=lambda image_id: (-most[image_id][number], image_id))[:3]
        assert [one["image_id"] for one in each["strongest"]] == ranked
        for one in (each, *each["strongest"]):
            column, row = one["cell"]
            assert maps[one["image_id"]][number, row, column] == one["response"]


def test_where_it_responds_is_in_pixels_of_the_image(told: Run, tiny_run: Path) -> None:
    store = ask(named(tiny_run), tiny_run).store
    for each in told("--top", CHANNELS)["filters"]:
        row = store.image(each["image_id"])
        assert row is not None
        shorter = min(row["width"], row["height"])
        x, y = ((20.5 + 16 * at) * shorter / 160 for at in each["cell"])
        assert each["centre"] == pytest.approx([x, y], rel=0.01)  # factors differ by rounding
        x_min, y_min, x_max, y_max = each["receptive_field"]
        assert 0 <= x_min < x_max <= row["width"]
        assert 0 <= y_min < y_max <= row["height"]
        assert x_min == pytest.approx(max(0, x - 79.5 * shorter / 160), abs=1)


def test_an_image_and_filters_of_ones_own(told: Run) -> None:
    answer = told("--image", "test_00003", "--filter", 12, "--filter", 3)
    assert answer["image"] == "test_00003"
    assert [each["filter"] for each in answer["filters"]] == [12, 3]
    more = told("--image", "test_00003", "--filter", 12, "--top", 2)["filters"]
    first, *others = (each["filter"] for each in more)
    assert (first, len(others)) == (12, 2)
    assert others == [each["filter"] for each in told("--image", "test_00003")["filters"]][:2]
    few = told("--image", "test_00003", "--among", 2)
    assert few["images"] == 3  # and that one
    assert told("--scale", 120)["scale_px"] == 120


def test_answers_are_the_same_each_time(told: Run) -> None:
    first, again = told(), told()
    assert first.pop("seconds") > 0
    assert again.pop("seconds") > 0
    assert first == again


def test_a_store_of_maps_gives_what_the_network_gives(
    told: Run, spp: Run, tiny: Path, tiny_run: Path
) -> None:
    runs, maps = tiny.parent / "runs", ("--set", 'features.store="maps"')
    assert spp("extract", tiny, "--runs", runs, *maps, "--serial").code == 0
    expected = told("--strongest", 3)

    def read(store: str, *options: str) -> dict[str, Any]:
        said = spp("filters", store, "--runs", runs, *options, "--strongest", "3", "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)

    differ = {"store": "", "seen_by": "maps", "seconds": 0.0}
    assert read(f"{tiny}:test", *maps) | differ == expected | differ
    # By its folder no network is known: then only the centres of cells are.
    (folder,) = runs.glob("jobs/extract_test-*/store")
    alone = read(str(folder))
    assert (alone["network"], alone["receptive_field_px"]) == (None, None)
    for one, other in zip(alone["filters"], expected["filters"], strict=True):
        assert one["receptive_field"] is None
        assert (one["filter"], one["centre"]) == (other["filter"], other["centre"])
    said = spp("filters", folder)
    assert said.out.splitlines()[-1].startswith("place: the centre of the cell, for the network is")
    refused = spp("filters", folder, "--scale", "80")
    assert (refused.code, "keeps maps at 160, and none at 80" in refused.err) == (1, True)


def test_a_damaged_shard_of_maps_leaves_its_images_out_and_no_others(spp: Run, tiny: Path) -> None:
    runs = tiny.parent / "runs"
    options = ("--set", "features.store=maps", "--set", "features.shard_images=4")
    assert spp("extract", tiny, "--runs", runs, *options, "--serial").code == 0
    _, second = sorted(runs.glob("jobs/extract_test-*/store/maps/*"))
    second.write_bytes(second.read_bytes()[:-50])
    said = spp("filters", f"{tiny}:test", "--runs", runs, *options, "--json")
    assert said.code == 3, said
    answer = json.loads(said.out)
    assert len(answer["left_out"]) == 4
    assert all(second.stem in reason for reason in answer["left_out"].values())
    assert answer["image"] not in answer["left_out"]


def test_maps_of_a_scale_that_no_window_asked_for(spp: Run, tiny: Path) -> None:
    runs, sets = tiny.parent / "runs", ('features.store="maps"', "features.scales=[40,160]")
    options = [word for each in sets for word in ("--set", each)]
    assert spp("extract", tiny, "--runs", runs, *options, "--serial").code == 0
    said = spp("filters", f"{tiny}:test", "--runs", runs, *options, "--scale", "40")
    assert said.code == 1
    assert "none of 8 images could be looked at; image test_00000: " in said.err
    assert "no map at scale 40" in said.err
    assert "only at 160: --scale takes one of them" in said.err
    largest = json.loads(spp("filters", f"{tiny}:test", "--runs", runs, *options, "--json").out)
    assert largest["scale_px"] == 160


def test_a_picture(spp: Run, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "filters.png"
    options = ("--runs", tiny_run, "--top", "3", "--strongest", "2", "--out", out)
    said = spp("filters", named(tiny_run), *options)
    assert said.code == 0, said.err
    head, *rows, how, place, drawn = said.out.splitlines()
    assert head.split() == [
        "filter", "response", "mean", "standing", "cell", "place", "strongest", "in"
    ]  # fmt: skip
    assert len(rows) == 3
    assert " at 160 px, and in 8 images, by zf5 in " in how
    assert place.startswith("place: the receptive field, 159 px of the resized image")
    assert drawn == f"drawn: {out}"
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.width > 4 * TILE[0]
        assert picture.height > LEGEND + HEAD + 3 * TILE[1]
    assert sorted(tmp_path.iterdir()) == [out]
    first = out.read_bytes()
    assert spp("filters", named(tiny_run), *options).code == 0
    assert out.read_bytes() == first


@pytest.fixture
def own_run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    shutil.copytree(tiny_run.parent, tmp_path / "own")
    return tmp_path / "own" / "runs"


def test_images_that_are_gone(spp: Run, own_run: Path, tmp_path: Path) -> None:
    (gone,) = own_run.glob("jobs/dataset*/VOC/JPEGImages/test_00002.jpg")
    gone.unlink()
    out = tmp_path / "filters.png"
    said = spp("filters", named(own_run), "--runs", own_run, "--out", out)
    assert said.code == 3
    assert "left out: image test_00002: " in said.err
    assert "test_00002.jpg cannot be read: No such file" in said.err
    assert "in 7 images" in said.out
    asked = spp("filters", named(own_run), "--runs", own_run, "--image", "test_00002")
    assert asked.code == 1
    assert asked.err.startswith("error: image test_00002 cannot be shown: ")
    for each in own_run.glob("jobs/dataset*/VOC/JPEGImages/test_*.jpg"):
        each.write_bytes(b"no image")
    none = spp("filters", named(own_run), "--runs", own_run)
    assert none.code == 1
    assert "none of 8 images could be looked at; image test_00000: " in none.err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--image", "cat"), 1, "has no image cat: its images are such as test_0000"),
        (("--filter", "26"), 1, "no filter 26: the network's maps have 26 channels, numbered from"),
        (("--filter", "-1"), 2, "Invalid value for '--filter'"),
        (("--scale", "9"), 1, "at scale 9: an image of"),
        (("--top", "0"), 2, "--top 0 goes with --filter"),
        (("--out", "nowhere/filters.png"), 2, "give a file in a folder that is there"),
        (("--top", "300", "--out", "filters.png"), 2, "has room for 1,000 images, and --top and"),
        (("--out", "filters.jpg"), 2, "pictures are written to FILE.png"),
    ],
)
def test_what_cannot_be_shown(
    spp: Run, tiny_run: Path, options: tuple[str, ...], code: int, says: str
) -> None:
    said = spp("filters", named(tiny_run), "--runs", tiny_run, *options)
    assert said.code == code
    assert says in " ".join(said.err.replace("│", " ").split())
    assert said.out == ""


def test_a_store_whose_network_is_not_known_or_gone(spp: Run, tiny_run: Path, tiny: Path) -> None:
    (folder,) = tiny_run.glob("jobs/extract_test-*")
    said = spp("filters", folder, "--runs", tiny_run)
    assert said.code == 1
    assert "the network that made it is not known: name the store as RECIPE:train" in said.err
    # A network that a recipe has trained, and somebody has removed.
    runs = tiny.parent / "runs"
    own = ('network.weights="pretrain"', "pretrain.crops=60", "pretrain.epochs=1")
    options = [word for each in own for word in ("--set", each)]
    assert spp("extract", tiny, "--runs", runs, *options, "--serial").code == 0
    (weights,) = runs.glob("jobs/pretrain-*/network.safetensors")
    weights.unlink()
    gone = spp("filters", f"{tiny}:test", "--runs", runs, *options)
    assert gone.code == 1
    assert f"cannot be loaded (no weights file {weights}" in gone.err
    assert f"spp extract {tiny} makes again what a run has lost" in gone.err


def test_another_network_than_the_stores(
    spp: Run, own_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.filters.reading.network_digest", lambda network: "f" * 64)
    said = spp("filters", named(own_run), "--runs", own_run)
    assert said.code == 1
    assert "and the recipe's is now ffffffffffff: bring its weights back" in said.err
