"""A training that was killed goes on as if it had not been."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline import networks
from pipeline.errors import InputError
from pipeline.learning.pretrain import pretrain
from pipeline.pretraining import CropImages, begin, finish, keep, last, train_part

TWO_SIZES = {"sides_px": (48, 40), "epochs": 3, "dropout": 0.3}


def trained(spec, states):
    return [train_part(spec, states, part) for part in range(spec.parts)]


@pytest.mark.parametrize("scaffold", [True, False])
def test_killed_and_begun_again_it_ends_with_the_same_bytes(make_spec, tmp_path, scaffold):
    spec = make_spec(**TWO_SIZES, scaffold=scaffold)
    before = torch.get_rng_state()
    whole = trained(spec, tmp_path / "whole")
    again = []
    for part in (0, 1, 1, 2, 2):  # killed before what it left was told
        torch.manual_seed(part + 77)  # whatever ran there before
        again.append(train_part(replace(spec), tmp_path / "parts", part))
        keep(tmp_path / "parts", [part - 1, part])
    torch.set_rng_state(before)
    assert [replace(stats, seconds=0.0) for stats in (again[0], again[2], again[4])] == [
        replace(stats, seconds=0.0) for stats in whole
    ]
    left = [path.name for path in sorted((tmp_path / "parts").iterdir())]
    assert left == ["000001.safetensors", "000002.safetensors"]
    assert last(tmp_path / "parts") == 2
    for name in left:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for folder in ("parts", "whole"):
        finish(spec, tmp_path / folder, 2, tmp_path / f"{folder}.safetensors")
    written = (tmp_path / "whole.safetensors").read_bytes()
    assert (tmp_path / "parts.safetensors").read_bytes() == written
    other = make_spec(**TWO_SIZES, scaffold=scaffold, seed=4)
    train_part(other, tmp_path / "other", 0)
    name = "000000.safetensors"
    assert (tmp_path / "other" / name).read_bytes() != (tmp_path / "whole" / name).read_bytes()


def test_in_parts_and_in_one_go_the_same_network(make_spec, tmp_path):
    """The states between the parts lose nothing: `pretrain` has none.

    Of six epochs two follow after batch norm's statistics are fixed.
    """
    random = np.random.default_rng(0)
    crops, labels = random.integers(0, 256, (24, 40, 40, 3), np.uint8), np.arange(24) % 3
    images = CropImages(crops, labels, seed=3)
    settings = {"sides_px": (40, 48), "epochs": 6, "batch_size": 9, "momentum": 0.8}
    spec = make_spec(images, validation=images, **settings)
    trained(spec, tmp_path)
    finish(spec, tmp_path, 5, tmp_path / "network.safetensors")
    network = begin(spec)
    pretrain(network, crops, labels, seed=3, learning_rate=0.03, dropout=0.0, **settings)
    left = networks.load("zf5", tmp_path / "network.safetensors")
    assert networks.digest(left) == networks.digest(network)


def test_a_state_that_is_gone_or_damaged(make_spec, tmp_path):
    states = tmp_path / "pretrain" / "states"
    spec = make_spec()
    with pytest.raises(InputError, match=r"000000.safetensors is absent .* remove the folder .*pr"):
        train_part(spec, states, 1)
    train_part(spec, states, 0)
    path = states / "000000.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="absent or damaged"):
        train_part(spec, states, 1)
    path.write_bytes(whole)
    other = replace(spec, network=replace(spec.network, options={"width": 0.1, "classes": 3}))
    with pytest.raises(InputError, match="absent or damaged"):
        train_part(other, states, 1)
    shutil.rmtree(states)
    assert last(states) is None
