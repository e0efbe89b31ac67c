"""That it learns."""

import numpy as np
import torch

from pipeline import networks
from pipeline.networks.whole import class_scores
from pipeline.pretraining import FileImages, finish, train_part
from pipeline.pretraining.files import Views

TWO_SIZES = {"sides_px": (48, 40), "epochs": 3, "dropout": 0.3}


def trained(spec, states):
    return [train_part(spec, states, part) for part in range(spec.parts)]


def test_it_learns_shapes_at_two_sizes(make_spec, pictures, tmp_path):
    settings = {"sides_px": (48, 40), "epochs": 10, "flips": True, "learning_rate": 0.05}
    spec = make_spec(pictures(120), **settings)
    history = trained(spec, tmp_path)
    assert [stats.side_px for stats in history[:3]] == [48, 40, 48]
    assert [stats.ended for stats in history] == [False] * 9 + [True]
    finish(spec, tmp_path, 9, tmp_path / "network.safetensors")
    network = networks.load("zf5", tmp_path / "network.safetensors")
    fresh = FileImages(pictures(60), Views(48, 56, "five", False, 0.0))
    crops = fresh.plain(np.arange(60)).pixels
    for side in (48, 40):
        ready = torch.stack([network.preprocessing.apply(crop) for crop in crops])
        ready = torch.nn.functional.interpolate(ready, size=(side, side), mode="bilinear")
        right = class_scores(network, ready).argmax(1).numpy() == fresh.labels
        assert right.mean() > 0.75, side  # 0.33 by chance
    assert history[-1].held_accuracy > 0.75
    assert history[-1].loss < 0.5 * history[0].loss
