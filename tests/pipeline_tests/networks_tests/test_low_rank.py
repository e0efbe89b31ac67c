"""fc layers at a lower rank, against singular values known by hand."""

import pytest
import torch
from torch import nn

from pipeline.errors import InputError, RecipeError
from pipeline.networks import digest, load, outline, save
from pipeline.networks.linear import ChannelMajorLinear
from pipeline.networks.low_rank import factorised
from pipeline.threads import torch_threads

SMALL = {"width": 0.1, "fc_units": 12, "levels": (2, 1), "classes": 3}


def linear_of(weight):
    layer = nn.Linear(len(weight[0]), len(weight)).requires_grad_(False)
    layer.weight.copy_(torch.tensor(weight))
    layer.bias.copy_(torch.arange(1.0, len(weight) + 1))
    return layer


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("rank", "dropped"), [(1, [3.0, 2.0]), (2, [2.0]), (3, [])])
def test_what_is_dropped_is_the_smallest_singular_values(rank, dropped, turned):
    # rows at right angles, of lengths 5, 2 and 3: those are the singular values
    weight = [[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, -3.0]]
    full = linear_of([list(column) for column in zip(*weight, strict=True)] if turned else weight)
    low = factorised(full, rank)
    error = low.outer.weight @ low.inner.weight - full.weight
    torch.testing.assert_close(error.norm().item(), sum(v * v for v in dropped) ** 0.5)
    assert torch.equal(low.outer.bias, full.bias)
    assert low.inner.weight.shape == (rank, full.in_features)
    assert low.outer.weight.shape == (full.out_features, rank)


@pytest.mark.parametrize("name", ["zf5", "plain_zf5", "vgg16"])
def test_at_full_rank_the_vectors_are_the_same(name):
    options = {"fc_units": 12} if name == "vgg16" else {"width": 0.1, "fc_units": 12}
    full, low = load(name, **options), load(name, fc6_rank=12, fc7_rank=12, **options)
    vectors = torch.rand(5, full.layer_size("pool5"))
    for layer in ("fc6", "fc7"):
        torch.testing.assert_close(
            low.fc(vectors, layer), full.fc(vectors, layer), rtol=1e-4, atol=1e-5
        )
    assert low.layer_size("fc7") == 12
    with pytest.raises(RecipeError, match="reads"):
        low.fc(vectors[:, :-1], "fc6")


def test_channel_major_layers_stay_so():
    torch.manual_seed(0)
    full = ChannelMajorLinear(channels=3, side=2, units=5)
    vectors = torch.rand(4, 12)
    torch.testing.assert_close(factorised(full, 5)(vectors), full(vectors))


def test_each_rank_less_is_further_away():
    full = load("zf5", **SMALL)
    vectors = torch.rand(20, full.layer_size("pool5"), generator=torch.Generator().manual_seed(0))
    errors = [
        (load("zf5", fc6_rank=rank, **SMALL).fc(vectors, "fc6") - full.fc(vectors, "fc6")).norm()
        for rank in (12, 9, 6, 3)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 1e-4 * errors[1]


def test_a_file_is_decomposed_once(tmp_path):
    path, thin = tmp_path / "full.safetensors", tmp_path / "thin.safetensors"
    save(load("zf5", seed=5, **SMALL), path)
    made = load("zf5", path, fc6_rank=4, fc7_rank=3)
    assert made.options["fc6_rank"] == 4
    save(made, thin)
    for again in (load("zf5", thin), load("zf5", thin, fc6_rank=4)):
        assert digest(again) == digest(made) == digest(load("zf5", seed=5, **SMALL, **RANKS))
        assert again.head.fc6.inner.weight.shape == (4, 26 * 5)
    assert len({digest(load("zf5", path, fc6_rank=rank)) for rank in (None, 4, 5)}) == 3
    with pytest.raises(RecipeError, match="fc6_rank is 5, and these weights have fc6 at rank 4"):
        load("zf5", thin, fc6_rank=5)


RANKS = {"fc6_rank": 4, "fc7_rank": 3}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("zf5", {**SMALL, "fc6_rank": 13}, "fc6_rank is 13: fc6 has 12x130 .* at most 12; .* 10"),
        ("zf5", {**SMALL, "fc7_rank": 0}, "fc7_rank is 0: fc7 has 12x12 .* below 6"),
        ("resnet18", {"fc6_rank": 3}, "resnet18 has no fc6: leave out fc6_rank"),
    ],
)
def test_impossible_ranks_are_named(name, options, message):
    with pytest.raises(RecipeError, match=message):
        load(name, **options)


@pytest.mark.parametrize("rank", ["x", [4], 4.0, True, 99])
def test_a_damaged_record_of_a_rank_names_its_file(tmp_path, rank):
    network = load("zf5", **SMALL)
    network.options["fc6_rank"] = rank
    save(network, tmp_path / "w.safetensors")
    for read in (load, outline):
        with pytest.raises(InputError, match=r"w\.safetensors: .* options are damaged \(fc6_"):
            read("zf5", tmp_path / "w.safetensors")


def test_options_that_do_not_go_with_the_weights_rank_are_the_callers_fault(tmp_path):
    save(load("zf5", fc6_rank=10, **SMALL), tmp_path / "w.safetensors")
    for read in (load, outline):
        with pytest.raises(RecipeError, match="fc6_rank is 10: fc6 has 8x"):
            read("zf5", tmp_path / "w.safetensors", fc_units=8)


def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    layer = nn.Linear(900, 300).requires_grad_(False)
    found = []
    for count in (1, 2):
        with torch_threads(count):
            found.append(factorised(layer, 40).state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
