"""The embedded network, trained for a moment."""

from dataclasses import replace

import pytest

from pipeline import config, networks
from pipeline.errors import RecipeError
from pipeline.learning import pretrain_digits as room
from pipeline.learning.pretrain_digits import PretrainSpec, network_options, pretrain_digits
from pipeline.store.files import read_json


@pytest.fixture
def spec(monkeypatch):
    monkeypatch.setattr(room, "HELD_OUT", 11)
    return PretrainSpec(
        config.Network(weights="pretrain", width=0.0625, fc_units=8),
        (2, 1),
        config.Pretrain(crops=24, sides_px=(40, 48), epochs=2, batch_size=8, threads=1),
        seed=5,
    )


def test_the_weights_rebuild_the_network(spec, tmp_path):
    stats = pretrain_digits(spec, tmp_path / "deep" / "w.safetensors")
    assert len(stats.losses) == 2
    assert stats.accuracy in [k / 11 for k in range(12)]  # on the crops held out
    network = networks.load("zf5", tmp_path / "deep" / "w.safetensors")
    assert network.options["width"] == 0.0625
    assert network.levels == (2, 1)
    assert network.head.fc8.out_features == 11  # ten digits and background
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["w.safetensors"]


def test_equal_specs_give_equal_weights(spec, tmp_path):
    for name in ("one", "other"):
        pretrain_digits(spec, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_each_epoch_is_told_and_makes_no_difference(spec, tmp_path):
    told = tmp_path / "told"
    told.mkdir()
    (told / "000009.json").touch()  # of a try that died
    stats = pretrain_digits(spec, tmp_path / "one", told)
    names = ["000001.json", "000002.json"]
    assert [read_json(told / name)["loss"] for name in names] == stats.losses
    assert sorted(each.name for each in told.iterdir()) == names
    pretrain_digits(spec, tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_only_what_the_recipe_sets_is_passed_on():
    assert network_options(config.Network()) == {}
    assert network_options(config.Network(width=0.5)) == {"width": 0.5}
    assert network_options(config.Network(fc_units=8)) == {"fc_units": 8}


def test_a_network_without_a_pyramid_cannot_be_pre_trained(spec, tmp_path):
    other = PretrainSpec(config.Network(name="resnet18"), (2, 1), spec.pretrain, 5)
    with pytest.raises(RecipeError, match="resnet18 has no option 'levels'"):
        pretrain_digits(other, tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_what_is_for_image_files_alone_is_refused(spec, tmp_path):
    settings = spec.pretrain.model_copy(update={"schedule": "plateau"})
    with pytest.raises(RecipeError, match="schedule = 'plateau' is for image files"):
        pretrain_digits(replace(spec, pretrain=settings), tmp_path / "w.safetensors")
