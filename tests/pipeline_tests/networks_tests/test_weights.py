"""Weights files: the round trip, and everything that can be wrong with one."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import InputError
from pipeline.networks import PRESETS, classes_in, digest, load, save
from pipeline.networks.whole import class_scores

SMALL = {"width": 0.1, "fc_units": 7, "levels": (3, 1), "classes": 5}


@pytest.fixture
def network():
    return load("zf5", preprocessing="caffe_bgr", **SMALL)


@pytest.fixture
def state(network):
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def refused(path, message, name="zf5", **options):
    with pytest.raises(InputError, match=message):
        load(name, path, **(options or SMALL))


def test_saved_weights_load_without_options(network, tmp_path):
    save(network, tmp_path / "a.safetensors")
    save(load("zf5", tmp_path / "a.safetensors"), tmp_path / "b.safetensors")
    again = load("zf5", tmp_path / "b.safetensors")
    assert again.options == network.options
    assert again.preprocessing == PRESETS["caffe_bgr"]
    assert digest(again) == digest(network)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]
    assert load_file(tmp_path / "a.safetensors").keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", ["zf5", "vgg16", "resnet18", "squeezenet1_1"])
def test_a_saved_network_is_the_same_to_the_bit(name, tmp_path):
    small = {"zf5": SMALL, "vgg16": {"fc_units": 3, "classes": 5}}
    network = load(name, seed=2, **small.get(name, {"classes": 5}))
    save(network, tmp_path / "a.safetensors")
    again = load(name, tmp_path / "a.safetensors")
    held, found = network.state_dict(), again.state_dict()
    assert held.keys() == found.keys()
    assert [key for key in held if not torch.equal(held[key], found[key])] == []
    for height, width in ((64, 64), (75, 131)):
        images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(width))
        assert torch.equal(class_scores(again, images), class_scores(network, images))


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "squeezenet1_1"])
def test_a_plain_state_dict_loads_from_either_kind_of_file(name, tmp_path):
    options = {"fc_units": 3} if name == "vgg16" else {}
    network = load(name, classes=4, seed=1, **options)
    state = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pth")
    for file in ("a.safetensors", "a.pth"):
        again = load(name, tmp_path / file, **options)
        assert digest(again) == digest(network)
        assert again.options["classes"] == 4


def test_the_digest_sees_every_difference(network):
    digests = {digest(network), digest(load("zf5", **SMALL))}
    network.conv3.bias[1] = 1e-30
    digests.add(digest(network))
    digests.add(digest(load("zf5", preprocessing="caffe_bgr", **{**SMALL, "conv1_padding": 0})))
    assert len(digests) == 4


def test_weights_without_a_classifier_still_give_fc7(network, state, tmp_path):
    save_file({k: v for k, v in state.items() if "fc8" not in k}, tmp_path / "a.safetensors")
    loaded = load("zf5", tmp_path / "a.safetensors", **SMALL)
    vectors = torch.randn(2, 260)
    torch.testing.assert_close(loaded.fc(vectors, "fc7"), network.fc(vectors, "fc7"))
    with pytest.raises(Exception, match="no fc8"):
        loaded.logits(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(state, tmp_path, dtype):
    save_file(
        {name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path / "a.safetensors"
    )
    loaded = load("zf5", tmp_path / "a.safetensors", **SMALL)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(loaded.conv2.weight, state["conv2.weight"].to(dtype).float())


def test_what_the_caller_says_goes_first(network, tmp_path):
    save(network, tmp_path / "a.safetensors")
    loaded = load("zf5", tmp_path / "a.safetensors", preprocessing="imagenet_rgb")
    assert loaded.preprocessing == PRESETS["imagenet_rgb"]
    refused(
        tmp_path / "a.safetensors", r"fc6.weight has shape \(7, 260\), .* \(8, 260\)", fc_units=8
    )
    refused(tmp_path / "a.safetensors", "holds zf5, not vgg16", name="vgg16", fc_units=3)


def test_unrecorded_preprocessing_is_the_usual_one(state, tmp_path):
    save_file(state, tmp_path / "a.safetensors")
    loaded = load("zf5", tmp_path / "a.safetensors", **SMALL)
    assert loaded.preprocessing == PRESETS["caffe_bgr"]


def test_names_and_shapes_are_named(state, tmp_path):
    wrong = {name: tensor for name, tensor in state.items() if not name.startswith("conv")}
    save_file({**wrong, "extra": torch.zeros(1)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", r"10 tensors missing \(conv1.weight, .*, \.\.\.\), 1 unexp")
    save_file({**state, "conv4.bias": torch.zeros(39)}, tmp_path / "b.safetensors")
    refused(tmp_path / "b.safetensors", r"conv4.bias has shape \(39,\), .* \(38,\)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_counted(state, tmp_path, value):
    state["conv2.bias"][2:5] = value
    save_file(state, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "conv2.bias has 3 of 26 values")


def test_integers_are_not_weights(state, tmp_path):
    save_file({**state, "fc7.bias": torch.zeros(7, dtype=torch.int64)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "fc7.bias has torch.int64")


def test_files_that_hold_no_weights(state, tmp_path):
    refused(tmp_path / "none.safetensors", "no weights file")
    for name, content in (("a.safetensors", b"hello"), ("a.pth", b"hello"), ("a.pt", b"")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "no safetensors file|damaged or holds more")
    (tmp_path / "a.npz").write_bytes(b"")
    refused(tmp_path / "a.npz", "ends in '.npz'")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "b.pth")
    refused(tmp_path / "b.pth", "dict with epoch, state_dict, not a state dict")
    torch.save([1, 2], tmp_path / "c.pth")
    refused(tmp_path / "c.pth", "holds list")


class Other:
    """Something that a weights file must not bring to life."""


def test_files_with_more_than_tensors_are_refused(tmp_path):
    torch.save({"conv1.weight": Other()}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "more than tensors")


def test_classes_are_kept_with_the_weights(tmp_path):
    network = load("squeezenet1_1", classes=3)
    save(network, tmp_path / "named.safetensors", ["cat", "dog", "été"])
    save(network, tmp_path / "not.safetensors")
    assert classes_in(tmp_path / "named.safetensors") == ("cat", "dog", "été")
    assert classes_in(tmp_path / "not.safetensors") == classes_in(tmp_path) == ()
    again = load("squeezenet1_1", tmp_path / "named.safetensors")
    assert digest(again) == digest(network)
