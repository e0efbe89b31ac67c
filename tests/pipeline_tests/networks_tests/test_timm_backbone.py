"""Networks of the library timm, where it imports; and what is said where it does not."""

import importlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import InputError, RecipeError
from pipeline.networks import Geometry, Preprocessing, digest, load, outline, save
from tests.tiny_backbones import say

try:
    timm = importlib.import_module("timm")
except (ImportError, OSError, RuntimeError):  # beside a torch that torchvision was not built for
    timm = None
needed = pytest.mark.skipif(timm is None, reason="timm does not import here")

# Arguments that make it tiny, and what is to be found: stage, geometry.
CASES = {
    "resnet10t": ({}, 3, Geometry(16, 0.0)),
    "convnext_atto": ({"dims": [4, 5, 6, 7], "depths": [1, 1, 1, 1]}, 2, Geometry(16, 7.5)),
    "swin_tiny_patch4_window7_224": (
        {"embed_dim": 4, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
        2,
        Geometry(16, 7.5),
    ),
    "vit_small_patch14_reg4_dinov2": (
        {"depth": 3, "embed_dim": 12, "num_heads": 3},
        2,
        Geometry(14, 6.5),
    ),
    "vit_small_patch16_dinov3": (
        {"depth": 3, "embed_dim": 48, "num_heads": 3},
        2,
        Geometry(16, 7.5),
    ),
    "tf_efficientnet_lite0": ({}, 3, Geometry(16, 15.0)),  # pads on the right
}


def write(folder, name):
    arguments = CASES[name][0]
    torch.manual_seed(1)
    network = timm.create_model(name, num_classes=3, **arguments)
    state = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    said = {"architecture": name, "num_classes": 3, "model_args": arguments}
    cfg = {"mean": [0.5, 0.25, 0.125], "std": [0.5, 0.25, 0.5], "url": "https://nowhere.invalid/x"}
    (folder / "config.json").write_text(json.dumps({**said, "pretrained_cfg": cfg}))
    return folder


@needed
@pytest.mark.parametrize("name", CASES)
def test_networks_of_timm(name, tmp_path):
    _, stage, geometry = CASES[name]
    network = load("timm", write(tmp_path / "a", name))
    assert (network.stage, network.geometry) == (stage, geometry)
    assert network.preprocessing == Preprocessing("RGB", 1.0, (0.5, 0.25, 0.125), (0.5, 0.25, 0.5))
    for width, height in ((97, 131), (33, 64), (1, 1)):
        maps = network(torch.zeros(1, 3, height, width))
        assert network.map_size(width, height) == (maps.shape[3], maps.shape[2])
        assert network.channels == maps.shape[1]
    drawn = outline("timm", tmp_path / "a")
    assert (drawn.geometry, drawn.channels) == (network.geometry, network.channels)
    save(network, tmp_path / "b.safetensors")
    again, images = load("timm", tmp_path / "b.safetensors"), torch.randn(1, 3, 50, 61)
    assert digest(again) == digest(network)
    assert torch.equal(again(images), network(images))


@needed
def test_what_is_wrong_with_a_folder_of_timm_is_named(tmp_path):
    folder = write(tmp_path / "a", "resnet10t")
    with pytest.raises(RecipeError, match=r"no stage 5: .* 4 \(layer4, stride 32\)"):
        load("timm", folder, stage=5)
    state = load_file(folder / "model.safetensors")
    name = "layer2.0.conv1.weight"
    save_file({k: v for k, v in state.items() if k != name}, folder / "model.safetensors")
    with pytest.raises(InputError, match=name):
        load("timm", folder)
    say(folder, "config.json", architecture="resnet10x")
    with pytest.raises(RecipeError, match="knows no architecture 'resnet10x'"):
        load("timm", folder)
    (tmp_path / "b").mkdir()
    say(tmp_path / "b", "config.json", architecture="tf_efficientnet_lite0")
    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "b" / "model.safetensors")
    with pytest.raises(InputError, match="lacks"):  # timm itself would fill in random numbers
        load("timm", tmp_path / "b")


def test_a_folder_of_another_library_is_named(tmp_path):
    say(tmp_path, "config.json", model_type="resnet")
    with pytest.raises(RecipeError, match=r'no architecture of timm: set network\.name = "transf'):
        load("timm", tmp_path)


@pytest.mark.skipif(timm is not None, reason="timm imports here")
def test_where_timm_does_not_import_the_extra_is_named(tmp_path):
    say(tmp_path, "config.json", architecture="resnet18")
    with pytest.raises(RecipeError, match=r"timm cannot be imported .*'sppnet\[timm\]'"):
        load("timm", tmp_path)


@pytest.mark.parametrize("name", ["pretrained", "checkpoint_path", "pretrained_cfg_overlay"])
def test_a_folder_cannot_have_weights_looked_for_elsewhere(name, tmp_path):
    """Such a word in a config from outside would be timm's own argument."""
    said = {"architecture": "resnet10t", "model_args": {name: "/elsewhere.pth"}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=f"model_args has {name}, which says where weights"):
        load("timm", tmp_path)
