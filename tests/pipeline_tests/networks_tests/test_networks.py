"""What the networks compute, against definitions by hand and recorded outputs."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from pipeline.errors import InputError, RecipeError
from pipeline.networks import ARCHITECTURES, Preprocessing, load, lrn, outline, save
from pipeline.networks.preprocessing import PRESETS
from pipeline.spp import SpatialPyramidPooling


@pytest.fixture(scope="module")
def squeezenet_folder(shared_data):
    return shared_data / "weights" / "squeezenet1_1"


@pytest.fixture(scope="module")
def squeezenet(squeezenet_folder):
    return load("squeezenet1_1", squeezenet_folder / "squeezenet1_1.safetensors")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_squeezenet_gives_the_recorded_scores(squeezenet, squeezenet_folder, number):
    folder = squeezenet_folder / "original_npy" / "test_data_set" / str(number)
    scores = squeezenet.logits(torch.from_numpy(np.load(folder / "input_0.npy")))
    np.testing.assert_allclose(scores, np.load(folder / "output_0.npy"), atol=1e-3)


@pytest.mark.parametrize("image_id", ["000004", "001551"])
def test_squeezenet_gives_the_golden_features(squeezenet, squeezenet_folder, shared_data, image_id):
    golden = np.load(squeezenet_folder / "golden_features_voc.npz")
    folder = shared_data / "detection" / "voc2007_subset" / "VOC2007" / "JPEGImages"
    image = np.asarray(Image.open(folder / f"{image_id}.jpg"), dtype=np.float32)
    maps = squeezenet(squeezenet.preprocessing.apply(image)[None])[0].numpy()
    assert maps.shape == tuple(golden[f"{image_id}_shape"])
    np.testing.assert_allclose(maps[:8], golden[f"{image_id}_ch0to7"], atol=1e-3)
    np.testing.assert_allclose(maps.mean((1, 2)), golden[f"{image_id}_chanmean"], atol=1e-4)


def test_normalisation_is_its_definition(monkeypatch):
    monkeypatch.setattr(lrn, "ALPHA", 0.5)  # 5e-5 would hide an error on small numbers
    maps = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    expected = torch.zeros(1, 2, 3, 4, dtype=torch.float64)
    for channel, row, column in np.ndindex(2, 3, 4):
        near = maps[0, channel, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        scale = 1 + 0.5 * near.square().sum().item() / 9
        expected[0, channel, row, column] = maps[0, channel, row, column].item() / scale**0.75
    layer = lrn.LocalResponseNorm()
    torch.testing.assert_close(layer(maps).detach(), expected)
    assert torch.autograd.gradcheck(layer, (maps,))


def test_zf5_layers_read_the_vector_of_50_bins():
    network = load("zf5", width=0.1, fc_units=7, classes=5)
    vectors = SpatialPyramidPooling((6, 3, 2, 1))(network(torch.randn(2, 3, 100, 140)))
    assert vectors.shape == (2, 26 * 50)
    fc6 = functional.relu(vectors @ network.fc6.weight.T + network.fc6.bias)
    fc7 = functional.relu(fc6 @ network.fc7.weight.T + network.fc7.bias)
    torch.testing.assert_close(network.fc(vectors, "pool5"), vectors)
    torch.testing.assert_close(network.fc(vectors, "fc6"), fc6)
    torch.testing.assert_close(network.fc(vectors, "fc7"), fc7)
    assert network.layer_size("pool5") == 1300
    assert network.layer_size("fc7") == 7


@pytest.mark.parametrize("name", PRESETS)
def test_the_fill_becomes_zero(name):
    image = np.full((2, 3, 3), PRESETS[name].fill, np.float32)
    np.testing.assert_allclose(PRESETS[name].apply(image), 0, atol=1e-4)


def test_outlines_have_the_sizes_and_no_numbers():
    vgg16 = outline("vgg16")
    assert vgg16.map_size(224, 256) == (14, 16)
    assert [vgg16.layer_size(layer) for layer in ("pool5", "fc7")] == [512 * 49, 4096]
    before = torch.random.get_rng_state()
    for name in ARCHITECTURES:
        options = {"fc_units": 8} if name in ("zf5", "plain_zf5", "vgg16") else {}
        drawn, made = outline(name, **options), load(name, **options)
        assert (drawn.geometry, drawn.channels) == (made.geometry, made.channels)
        assert drawn.layer_size(drawn.layers[-1]) == made.layer_size(made.layers[-1])
        assert all(tensor.is_meta for tensor in drawn.state_dict().values())
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(RecipeError, match="no option 'depth'"):
        outline("vgg16", depth=19)


def test_an_outline_takes_the_sizes_that_weights_record(tmp_path):
    made = load("zf5", width=0.25, fc_units=16, levels=(2, 1), fc6_rank=3)
    save(made, tmp_path / "w.safetensors")
    drawn = outline("zf5", tmp_path / "w.safetensors")
    assert (drawn.channels, drawn.levels) == (made.channels, made.levels) == (64, (2, 1))
    assert [drawn.layer_size(layer) for layer in ("pool5", "fc7")] == [64 * 5, 16]
    assert outline("zf5", tmp_path / "w.safetensors", fc_units=8).layer_size("fc7") == 8
    with pytest.raises(InputError, match="holds zf5, not vgg16"):
        outline("vgg16", tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="no weights file"):
        outline("zf5", tmp_path / "missing.safetensors")


def test_vgg16_scores_are_those_of_the_ordinary_network():
    network = load("vgg16", fc_units=11, classes=5)
    images = torch.randn(1, 3, 224, 224)
    pooled = functional.max_pool2d(network(images), 2, stride=2)
    ordinary = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten())(pooled)
    first = network.classifier[0]
    fc6 = functional.relu(ordinary @ first.weight.T + first.bias)
    expected = network.classifier[1:](fc6)
    torch.testing.assert_close(network.logits(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("image_px", "levels"), [(224, (6,)), (128, (3,)), (96, (2,)), (64, (1,))])
def test_plain_zf5_scores_are_those_of_an_ordinary_pooling(image_px, levels):
    network = load("plain_zf5", width=0.1, fc_units=11, classes=5, image_px=image_px)
    assert network.levels == levels
    images = torch.randn(1, 3, image_px, image_px)
    ordinary = functional.max_pool2d(network(images), 3, stride=2).flatten(1)
    fc6 = functional.relu(ordinary @ network.fc6.weight.T + network.fc6.bias)
    fc7 = functional.relu(network.fc7(fc6))
    torch.testing.assert_close(network.logits(images), network.fc8(fc7), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=f"of {image_px}x{image_px} px, these have 180x200"):
        network.logits(torch.zeros(1, 3, 200, 180))


def test_plain_zf5_of_small_images_is_saved_as_such(tmp_path):
    network = load("plain_zf5", width=0.1, fc_units=11, classes=5, image_px=128)
    save(network, tmp_path / "plain.safetensors")
    again = load("plain_zf5", tmp_path / "plain.safetensors")
    assert (again.image_px, again.levels) == (128, (3,))
    # four cells, six, one, none: 3x3/2 is no level of a pyramid on them
    for side, nearest in ((80, 78), (112, 110), (40, 63), (8, 63)):
        with pytest.raises(RecipeError, match=f"of {side}x{side} px has .*image_px = {nearest}$"):
            load("plain_zf5", image_px=side)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_untrained_networks_are_seeded_and_keep_their_scale(name):
    options = {} if name.startswith(("res", "squeeze")) else {"fc_units": 8}
    before = torch.random.get_rng_state()
    network, same = load(name, seed=3, **options), load(name, seed=3, **options)
    assert torch.equal(before, torch.random.get_rng_state())
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    maps = network(images)
    assert torch.equal(maps, same(images))
    assert not torch.equal(maps, load(name, seed=4, **options)(images))
    assert 0.3 < maps.square().mean().sqrt() < 10
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_networks_without_fc_layers_say_what_they_emit(name):
    network = load(name, classes=5)
    assert network.head is None
    assert network.logits(torch.randn(2, 3, 64, 64)).shape == (2, 5)
    with pytest.raises(RecipeError, match="'fc7': choose among pool5"):
        network.fc(torch.zeros(1, 4), "fc7")


def test_vectors_of_another_pyramid_are_refused():
    network = load("zf5", width=0.1, fc_units=7)
    with pytest.raises(RecipeError, match=r"reads 1300 .* vectors have 780"):
        network.fc(torch.zeros(1, 26 * 30), "fc6")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alexnet", {}, "choose among zf5, plain_zf5"),
        ("zf5", {"widht": 1}, "no option 'widht': it has width, fc_units"),
        ("zf5", {"width": 0}, "width is 0"),
        ("zf5", {"levels": ()}, "levels is"),
        ("resnet18", {"classes": -1}, "classes is -1"),
        ("zf5", {"preprocessing": "imagenet"}, "choose among imagenet_rgb, caffe_bgr"),
    ],
)
def test_impossible_requests_name_what_is_possible(name, options, message):
    with pytest.raises(RecipeError, match=message):
        load(name, **options)


def test_preprocessing_by_hand():
    image = np.array([[[255.0, 51.0, 0.0]]], dtype=np.float32)
    rgb = Preprocessing("RGB", 1.0, mean=(0.5, 0.25, 0.125), std=(0.5, 0.25, 0.5))
    bgr = Preprocessing("BGR", 255.0, mean=(100.0, 50.0, 5.0))
    np.testing.assert_allclose(rgb.apply(image).flatten(), [1.0, -0.2, -0.25], atol=1e-6)
    np.testing.assert_allclose(bgr.apply(image).flatten(), [-100.0, 1.0, 250.0], atol=1e-4)
    assert Preprocessing.from_json(bgr.to_json()) == bgr


@pytest.mark.parametrize("text", ["RGB/255", "[]", '{"channel_order": "RGB"}'])
def test_a_damaged_preprocessing_record_is_named(text):
    with pytest.raises(InputError, match="not a preprocessing record"):
        Preprocessing.from_json(text)
