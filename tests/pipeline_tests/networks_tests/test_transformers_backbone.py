"""Networks of the library transformers: geometry measured by gradients, sizes, and refusals."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.config import Features
from pipeline.errors import InputError, RecipeError
from pipeline.features import window_vectors
from pipeline.networks import (
    PRESETS,
    Geometry,
    Preprocessing,
    added_head,
    digest,
    initial,
    load,
    outline,
    save,
)
from pipeline.networks.activations import activation_bytes, made_bytes
from pipeline.networks.local_folder import read_preprocessing
from tests.tiny_backbones import EXPECTED, TINY, made, say, write

SIZES = ((97, 131), (64, 45), (33, 210), (1, 1), (15, 17))  # width, height; none is a multiple


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {kind: write(root / kind, kind) for kind in TINY}


@pytest.fixture(scope="module")
def networks(folders):
    """Not to be changed."""
    return {kind: load("transformers", folders[kind]) for kind in TINY}


@pytest.fixture
def folder(folders, tmp_path):
    """ConvNeXt's, to be damaged."""
    return Path(shutil.copytree(folders["convnext"], tmp_path / "convnext"))


def unmixed(network: nn.Module) -> nn.Module:
    """The same layers, in which every pixel that a cell is centred on moves it, and no other.

    Attention, which sees all cells, adds nothing; what picks one pixel of several takes them all.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding)
                setattr(module, name, pool)
            elif "attention" in type(child).__name__.lower():
                for layer in child.modules():
                    if isinstance(layer, nn.Linear):
                        layer.weight.zero_()
                        if layer.bias is not None:
                            layer.bias.zero_()
    return network


def centre_of_pixels_that_move(network, side, row, column):
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    images.requires_grad_(True)
    network(images)[0, :, row, column].square().sum().backward()
    moved = images.grad[0].abs().sum(0) > 0
    rows, columns = moved.any(1).nonzero(), moved.any(0).nonzero()
    assert rows[0] > 0, "the receptive field meets the border: enlarge the image"
    assert columns[-1] < side - 1
    return (rows[0] + rows[-1]).item() / 2, (columns[0] + columns[-1]).item() / 2


@pytest.mark.parametrize("kind", TINY)
def test_the_geometry_is_the_one_that_gradients_measure(networks, kind):
    stride, centre, _ = EXPECTED[kind]
    assert networks[kind].geometry == Geometry(stride, centre, 0.0)
    network = copy.deepcopy(networks[kind])
    unmixed(network.backbone)
    measured = centre_of_pixels_that_move(network, 24 * stride, row=14, column=11)
    assert measured == (centre + stride * 14, centre + stride * 11)


@pytest.mark.parametrize("kind", TINY)
def test_map_sizes_are_those_of_the_maps_and_an_outline_knows_them(networks, folders, kind):
    network, drawn = networks[kind], outline("transformers", folders[kind])
    stride, _, channels = EXPECTED[kind]
    for width, height in SIZES:
        maps = network(torch.zeros(2, 3, height, width))
        assert maps.shape == (2, channels, -(-height // stride), -(-width // stride))
        assert maps.is_contiguous(memory_format=torch.channels_last)
        assert drawn.map_size(width, height) == (maps.shape[3], maps.shape[2])
    assert (drawn.geometry, drawn.channels) == (network.geometry, network.channels)
    assert all(tensor.is_meta for tensor in drawn.state_dict().values())
    assert drawn.layer_size("pool5", (2, 1)) == channels * 5


@pytest.mark.parametrize("kind", TINY)
def test_maps_are_the_librarys_own(networks, kind):
    ours = networks[kind]
    theirs = made(kind, out_features=[ours.stage_names[ours.stage]])
    theirs.to(memory_format=torch.channels_last)  # as ours lie: another order, another rounding
    images = torch.randn(2, 3, 6 * ours.stride, 4 * ours.stride)
    with torch.no_grad():
        (expected,) = theirs(images).feature_maps
    torch.testing.assert_close(ours(images), expected, rtol=0, atol=0)
    assert expected.min() < 0 or kind == "resnet"  # which ends in a ReLU


def test_stages_are_the_librarys(folders):
    strides = [load("transformers", folders["convnext"], stage=n).geometry.stride for n in range(5)]
    assert strides == [4, 4, 8, 16, 32]
    with pytest.raises(RecipeError, match=r"no stage 5: .* 3 \(stage3, stride 16\), 4 \(stage4"):
        load("transformers", folders["convnext"], stage=5)
    with pytest.raises(RecipeError, match="stage is -1"):
        load("transformers", folders["convnext"], stage=-1)
    with pytest.raises(RecipeError, match="resnet18 has no option 'stage': it has classes"):
        load("resnet18", stage=1)


@pytest.mark.parametrize("kind", TINY)
def test_what_was_saved_is_the_same_network(networks, kind, tmp_path):
    before, network = torch.random.get_rng_state(), networks[kind]
    save(network, tmp_path / "a.safetensors")
    again = load("transformers", tmp_path / "a.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert digest(again) == digest(network)
    images = torch.randn(1, 3, 61, 50)
    assert torch.equal(again(images), network(images))
    assert not again.training
    assert not any(each.requires_grad for each in again.parameters())


def test_the_digest_sees_the_weights_the_stage_and_nothing_of_who_saved_them(
    networks, folder, tmp_path
):
    first = digest(networks["convnext"])
    say(folder, "config.json", transformers_version="9.9", _name_or_path="/elsewhere")
    assert digest(load("transformers", folder)) == first
    other = write(tmp_path / "other", "convnext", seed=1)
    stage = load("transformers", folder, stage=2)
    assert len({first, digest(load("transformers", other)), digest(stage)}) == 3


@pytest.mark.parametrize("kind", TINY)
def test_bfloat16_is_near(networks, folders, kind):
    exact = networks[kind]
    rounded = load("transformers", folders[kind], precision="bfloat16")
    images = torch.randn(1, 3, 100, 80, generator=torch.Generator().manual_seed(2))
    maps = rounded(images)
    assert maps.dtype == torch.bfloat16
    assert (maps.float() - exact(images)).norm() < 0.03 * exact(images).norm()
    if kind == "dinov3_vit":  # frequencies of positions are not rounded
        found, kept = (one.backbone.rope_embeddings.inv_freq for one in (rounded, exact))
        assert torch.equal(found, kept)


def test_a_classifiers_weights_will_do(tmp_path):
    from transformers import ConvNextConfig, ConvNextForImageClassification

    torch.manual_seed(0)
    ConvNextForImageClassification(ConvNextConfig(**TINY["convnext"])).save_pretrained(tmp_path)
    network = load("transformers", tmp_path)
    norm = network.backbone.hidden_states_norms["stage3"]
    assert torch.equal(norm.weight, torch.ones(11))
    assert digest(load("transformers", tmp_path)) == digest(network)


def test_weights_in_several_files(folder):
    state = load_file(folder / "model.safetensors")
    whole = digest(load("transformers", folder))
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    placed = {name: f"model-{n % 2}.safetensors" for n, name in enumerate(names)}
    for file in set(placed.values()):
        save_file({n: state[n] for n in names if placed[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    assert digest(load("transformers", folder)) == whole
    placed[names[0]] = "../outside.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(InputError, match=r"no \.safetensors of its folder"):
        load("transformers", folder)


def test_preprocessing_is_what_the_folder_says(folder):
    assert read_preprocessing(folder) is None
    assert load("transformers", folder).preprocessing == PRESETS["imagenet_rgb"]
    say(folder, image_mean=[0.5, 0.25, 0.125], image_std=[0.5, 0.25, 0.5], rescale_factor=1 / 255)
    said = Preprocessing("RGB", 1.0, (0.5, 0.25, 0.125), (0.5, 0.25, 0.5))
    assert load("transformers", folder).preprocessing == said
    chosen = load("transformers", folder, preprocessing="caffe_bgr")
    assert chosen.preprocessing == PRESETS["caffe_bgr"]
    say(folder, rescale_factor=0.00392156862745)  # as it is written down
    assert read_preprocessing(folder) == said
    say(folder, do_rescale=False, do_flip_channel_order=True)
    assert read_preprocessing(folder) == Preprocessing("BGR", 255.0, said.mean, said.std)
    say(folder, do_rescale=True, do_normalize=False, do_flip_channel_order=None)
    assert read_preprocessing(folder) == Preprocessing("RGB", 1.0, (0.0, 0.0, 0.0))
    say(folder, do_normalize=True, image_mean=[0.5])
    with pytest.raises(InputError, match=r"preprocessor_config.json .* set network.preprocessing"):
        read_preprocessing(folder)


def cut(folder: Path, name: str) -> None:
    state = load_file(folder / "model.safetensors")
    state.pop(name)
    save_file(state, folder / "model.safetensors")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def not_finite(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["embeddings.layernorm.bias"][1] = torch.inf
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (shutil.rmtree, InputError, "no weights file"),
        (lambda folder: (folder / "config.json").unlink(), InputError, "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), InputError, "cannot be read"),
        (pickled, InputError, "no model.safetensors, but pytorch_model.bin, a pickle"),
        (not_finite, InputError, "layernorm.bias has 1 of 5 values that are not finite"),
        (
            lambda folder: cut(folder, "embeddings.layernorm.weight"),
            InputError,
            r"lacks 1 tensors of convnext \(embeddings.layernorm.weight\)",
        ),
        (
            lambda folder: say(folder, "config.json", hidden_sizes=[5, 7, 11, 17]),
            InputError,
            "does not fit convnext",
        ),
        (
            lambda folder: say(folder, "config.json", model_type="bert"),
            RecipeError,
            "no backbone for 'bert': choose among beit, bit, convnext",
        ),
        (
            lambda folder: say(folder, "config.json", model_type="timm_backbone"),
            RecipeError,
            'network.name = "timm"',
        ),
        (
            lambda folder: say(folder, "config.json", model_type="mine", auto_map={"A": "b.C"}),
            RecipeError,
            "no backbone for 'mine'",
        ),
        (
            lambda folder: say(folder, "config.json", num_channels=1),
            RecipeError,
            "does not take images of any size",
        ),
        (
            lambda folder: say(folder, "config.json", quantization_config={"bits": 4}),
            RecipeError,
            "quantized",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(folder, damage, error, message):
    damage(folder)
    with pytest.raises(error, match=message):
        load("transformers", folder)


def test_a_folder_and_a_network_must_be_of_one_kind(folder):
    with pytest.raises(InputError, match="weights of resnet18 are a file"):
        load("resnet18", folder)
    with pytest.raises(RecipeError, match=r"set network\.weights to a local folder"):
        load("transformers")
    with pytest.raises(RecipeError, match="transformers has no layer 'fc7': choose among pool5"):
        load("transformers", folder).fc(torch.zeros(1, 4), "fc7")
    with pytest.raises(InputError, match="0x3 px leaves no cell"):
        load("transformers", folder).map_size(0, 3)


def test_memory_is_counted_as_the_network_runs(folders):
    drawn = outline("transformers", folders["dinov2"])
    # The largest piece of a patch net this small is the padded image: 4·14 by 3·14 pixels.
    image = 3 * 56 * 42 * 4
    assert image < activation_bytes(drawn, 50, 40) < 3 * image
    assert activation_bytes(drawn, 50, 40) == activation_bytes(drawn, 56, 42)
    assert made_bytes(drawn, 50, 40, most=4 * 12 * 13) < made_bytes(drawn, 50, 40, most=image)
    # Attention in one piece: never all cells times all cells.
    assert activation_bytes(drawn, 1400, 1400) < 2 * 10000 * activation_bytes(drawn, 14, 14)


@pytest.mark.parametrize("kind", ["swin", "dinov2"])
def test_windows_are_pooled_from_their_own_cells(networks, kind):
    network = networks[kind]
    stride, channels = EXPECTED[kind][0], EXPECTED[kind][2]
    image = np.random.default_rng(0).integers(0, 255, (7 * stride, 9 * stride, 3), np.uint8)
    settings = Features(scales=(7 * stride,), levels=(2, 1), vector_dtype="float32")
    # Cells 2..5 across and 1..2 down, whose centres a window's border is half a stride from.
    windows = np.array([[2, 1, 6, 3], [0, 0, 9, 7]], np.float32) * stride
    vectors, scales = window_vectors(image, windows, network, settings)
    maps = network(network.preprocessing.apply(image.astype(np.float32))[None])[0]
    assert maps.shape == (channels, 7, 9)
    assert maps.min() < 0
    part = maps[:, 1:3, 2:6]
    halves = [part[:, row : row + 1, col : col + 2] for row in (0, 1) for col in (0, 2)]
    expected = torch.cat([each.amax((1, 2)) for each in (*halves, part)])
    np.testing.assert_array_equal(vectors[0], expected.numpy())
    assert vectors[1][-channels:].tolist() == maps.amax((1, 2)).tolist()
    assert scales.tolist() == [7 * stride] * 2


def test_fc_layers_that_were_added_are_saved_and_loaded(folders, tmp_path):
    network = load("transformers", folders["convnext"])
    added_head.add(network, added_head.description(4, (2, 1), 3))
    for layer, seed in ((network.head.fc6, 1), (network.head.fc7, 2), (network.head.fc8, 3)):
        initial.fill_classifier(layer, seed)
    save(network, tmp_path / "tuned.safetensors")
    again = load("transformers", tmp_path / "tuned.safetensors")
    assert digest(again) == digest(network)
    pooled = torch.ones(2, network.channels * 5)
    assert torch.equal(again.head(pooled), network.head(pooled))
    assert {each.device.type for each in again.state_dict().values()} == {"cpu"}
