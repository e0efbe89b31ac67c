"""Which networks are trained, in which precision, and what does not go together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline import networks
from pipeline.config import Pretrain
from pipeline.errors import InputError, RecipeError
from pipeline.extraction import NetworkSpec
from pipeline.networks import added_head
from pipeline.networks.whole import class_scores
from pipeline.pretraining import CropImages, begin, finish, train_part

TWO_SIZES = {"sides_px": (48, 40), "epochs": 3, "dropout": 0.3}


def trained(spec, states):
    return [train_part(spec, states, part) for part in range(spec.parts)]


def test_every_kind_of_network(tmp_path, make_spec):
    random = np.random.default_rng(0)
    crops, labels = random.integers(0, 256, (6, 64, 64, 3), np.uint8), np.arange(6) % 3
    layers = added_head.description(8, (2, 1), 3)
    kinds = [
        NetworkSpec("zf5", None, 1, None, {"width": 0.07, "fc_units": 8, "levels": (4, 3, 2, 1)}),
        NetworkSpec("zf5", None, 1, None, {"width": 0.07, "fc_units": 8, "levels": (6, 3, 2, 1)}),
        NetworkSpec("squeezenet1_1", None, 1, added=layers),
    ]
    images = CropImages(crops, labels)
    for number, network in enumerate(kinds):
        spec = make_spec(images, validation=images, sides_px=(64,), epochs=1)
        spec = replace(spec, network=network)
        before = networks.digest(begin(spec))
        folder = tmp_path / str(number)
        train_part(spec, folder, 0)
        finish(spec, folder, 0, folder / "network.safetensors")
        network = networks.load(network.name, folder / "network.safetensors")
        assert networks.digest(network) != before
        assert class_scores(network, torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_a_plain_network_takes_one_size(tmp_path, make_spec):
    crops = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    images = CropImages(crops, np.array([0, 1]))
    plain = NetworkSpec("plain_zf5", None, 1, None, {"width": 0.04, "fc_units": 8})
    spec = replace(make_spec(images, validation=images, sides_px=(224,), epochs=1), network=plain)
    assert train_part(spec, tmp_path, 0).images == 2
    wrong = replace(spec, settings=Pretrain(sides_px=(224, 180)))
    with pytest.raises(RecipeError, match="plain_zf5 takes images of 224x224 px alone, not 180x"):
        train_part(wrong, tmp_path, 0)


def test_sizes_that_leave_no_cell(make_spec, tmp_path):
    with pytest.raises(RecipeError, match=r"zf5 has no cell left .* 24x24 px: the smallest .* 31x"):
        train_part(make_spec(sides_px=(48, 24)), tmp_path, 0)
    assert begin(make_spec(sides_px=(48, 31)))


def test_labels_and_classes_must_fit(make_spec, tmp_path):
    with pytest.raises(InputError, match=r"labels .* go from 0 to 2, and there are 2 classes"):
        train_part(replace(make_spec(), classes=2), tmp_path, 0)
    resnet = NetworkSpec("resnet18", None, 1)
    with pytest.raises(RecipeError, match=r"resnet18 gives scores of 1000 classes, .* have 3"):
        begin(replace(make_spec(), network=resnet))
    assert begin(replace(make_spec(), network=replace(resnet, options={"classes": 3})))
    with pytest.raises(InputError, match=r"of 40 images none is held out at .* 1e-05"):
        train_part(make_spec(held_out=1e-5), tmp_path, 0)


def test_bfloat16_learns_as_well(make_spec, pictures, tmp_path):
    table = pictures(60)
    for precision in ("float32", "bfloat16"):
        spec = make_spec(table, epochs=8, precision=precision)
        history = trained(spec, tmp_path / precision)
        state = load_file(tmp_path / precision / "000007.safetensors")
        assert state["network.conv1.weight"].dtype == torch.float32
        assert history[-1].loss < 0.9 * history[0].loss
    finish(spec, tmp_path / "bfloat16", 3, tmp_path / "network.safetensors")
    one, other = (
        load_file(tmp_path / name / "000000.safetensors")["network.fc6.weight"]
        for name in ("float32", "bfloat16")
    )
    assert 0 < (one - other).norm() < 0.3 * one.norm()
