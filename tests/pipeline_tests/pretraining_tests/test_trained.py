"""What a training leaves: a file that holds every bit, of a network for images of any size."""

import pytest
import torch

from pipeline import networks
from pipeline.networks.whole import class_scores
from pipeline.pretraining import begin, finish, states, train_part
from pipeline.pretraining.ranks import Ranks
from pipeline.pretraining.training import Training

SIZES = [(224, 224), (180, 180), (300, 150), (97, 401)]  # height and width


@pytest.fixture(scope="module")
def trained(make_spec, tmp_path_factory):
    """A network trained at 224 px as it was in memory, and the file of it."""
    spec = make_spec(sides_px=(224,), resized_px=224, epochs=1, scaffold=False)
    folder = tmp_path_factory.mktemp("trained")
    train_part(spec, folder, 0)
    finish(spec, folder, 0, folder / "network.safetensors")
    network = begin(spec)
    at_work = Training(network, spec.settings, spec.seed, torch.device("cpu"), Ranks())
    states.restore(folder, 0, at_work)
    return network.eval().requires_grad_(False), folder / "network.safetensors"


def test_its_file_holds_it_to_the_bit(trained):
    network, file = trained
    again = networks.load("zf5", file)
    held, found = network.state_dict(), again.state_dict()
    assert held.keys() == found.keys()
    assert [key for key in held if not torch.equal(held[key], found[key])] == []
    for height, width in SIZES:
        images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(width))
        assert torch.equal(class_scores(again, images), class_scores(network, images))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_trained_at_224_px_it_takes_images_of_any_size_and_shape(trained, height, width):
    network = networks.load("zf5", trained[1])
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(width))
    scores = class_scores(network, images)
    assert scores.shape == (2, 3)
    assert scores.isfinite().all()
    assert not torch.equal(scores[0], scores[1])  # they do look at the image


@pytest.mark.parametrize(
    ("first", "others", "longer"),
    [(1e-4, 1e-4, False), (10.0, 10.0, True), (float("nan"), 1e-4, True)],
)
def test_long_gradients_are_shortened_as_torch_does_and_others_stay(
    make_spec, first, others, longer
):
    spec = make_spec(sides_px=(224,), resized_px=224, epochs=1, scaffold=False)
    network = begin(spec).requires_grad_(True)
    at_work = Training(network, spec.settings, spec.seed, torch.device("cpu"), Ranks())
    weights = list(network.parameters())
    copies = [torch.zeros_like(weight).requires_grad_(True) for weight in weights]
    for each in (weights, copies):
        for number, weight in enumerate(each):
            weight.grad = torch.full_like(weight, others if number else first)
    at_work._shorten_gradients()
    norm = torch.nn.utils.clip_grad_norm_(copies, 5.0)
    assert bool(norm <= 5.0) != longer
    for weight, copy in zip(weights, copies, strict=True):
        torch.testing.assert_close(weight.grad, copy.grad, rtol=0, atol=0, equal_nan=True)
