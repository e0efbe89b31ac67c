"""Training from nothing: it learns, it is reproducible, and it leaves a plain network behind."""

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.learning.pretrain import accuracy, pretrain
from pipeline.learning.scaffold import Scaffold
from pipeline.networks import digest, load


def bars(count, side=40, seed=0):
    """Crops with a bright bar: class 0 lying, class 1 standing."""
    rng = np.random.default_rng(seed)
    crops = rng.integers(0, 60, (count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count) % 2
    for crop, label in zip(crops, labels, strict=True):
        start = rng.integers(8, side - 16)
        (crop if label == 0 else crop.swapaxes(0, 1))[start : start + 8] = 200
    return crops, labels


def small(seed=0):
    return load("zf5", width=0.1, fc_units=64, levels=(2, 1), classes=2, seed=seed)


def test_it_learns_at_two_sizes():
    network = small()
    told = []
    report = pretrain(
        network,
        *bars(128),
        sides_px=(40, 56),
        epochs=14,
        batch_size=16,
        progress=lambda epoch, loss: told.append((epoch, loss)),
    )
    assert told == list(enumerate(report.losses, start=1))
    assert len(report.losses) == 14
    held_out = bars(50, seed=1)
    assert accuracy(network, *held_out) >= 0.9
    assert accuracy(network, *held_out, side_px=56) >= 0.9


@pytest.mark.parametrize("scaffold", [True, False])
def test_same_arguments_same_weights_and_nothing_else_changes(scaffold):
    networks = [small(), small()]
    random_before, threads_before = torch.random.get_rng_state(), torch.get_num_threads()
    for network in networks:
        pretrain(network, *bars(24), epochs=1, batch_size=10, scaffold=scaffold, flips=True)
    assert torch.equal(random_before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads_before
    assert digest(networks[0]) == digest(networks[1]) != digest(small())
    assert networks[0].state_dict().keys() == small().state_dict().keys()
    assert not networks[0].training
    assert not any(parameter.requires_grad for parameter in networks[0].parameters())
    other = small()
    pretrain(other, *bars(24), epochs=1, batch_size=10, scaffold=scaffold, flips=True, seed=1)
    assert digest(other) != digest(networks[0])


def test_folding_leaves_the_scores_as_they_were():
    network = small()
    scaffold = Scaffold(network)
    batches = [torch.randn(32, 3, 48, 48) for _ in range(2)]
    scaffold.estimate(network, batches)
    for parameter in scaffold.parameters():
        parameter.data.uniform_(0.5, 1.5)
    expected = network.logits(batches[0])
    scaffold.fold()
    torch.testing.assert_close(network.logits(batches[0]), expected, rtol=1e-3, atol=1e-4)


def test_crops_and_labels_must_fit():
    crops, labels = bars(6)
    for wrong in ((crops, labels[:5]), (crops[:0], [])):
        with pytest.raises(InputError, match="crops with labels of shape"):
            pretrain(small(), *wrong)


def test_divergence_is_named_and_leaves_evaluation_mode():
    network = small()
    network.fc8.bias.fill_(float("nan"))
    with pytest.raises(InputError, match=r"diverged in epoch 1 .* lower the learning rate"):
        pretrain(network, *bars(16), epochs=1, batch_size=8, scaffold=False)
    assert not network.training


def test_a_single_image_is_a_batch_too():
    network = small()
    pretrain(network, *bars(9), epochs=2, batch_size=4)  # 4, 4 and 1
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
