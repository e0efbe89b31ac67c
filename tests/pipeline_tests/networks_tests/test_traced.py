"""What is read off a run without numbers, on layers whose geometry is known by rule."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.networks import derive, traced
from pipeline.networks.traced import COLUMNS_PX, ROWS_PX, Step, centre


def seen(*layers: nn.Module) -> traced.Trace:
    network = nn.Sequential(*layers).to("meta")
    return traced.run(lambda image: [network(image)], list(network.parameters()))


class Then(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, maps):
        return self.function(maps)


class Beside(nn.Module):
    """Two ways to as many cells, joined."""

    def __init__(self, *ways):
        super().__init__()
        self.ways = nn.ModuleList(ways)

    def forward(self, maps):
        return sum(way(maps) for way in self.ways)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, padding=1)],
        [nn.Conv2d(3, 4, 4, stride=4), nn.Conv2d(4, 4, 7, padding=3), nn.AvgPool2d(2)],
        [nn.Conv2d(3, 4, 5, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, padding=1)],
    ],
)
def test_a_plain_path_is_what_the_rule_derives(layers):
    trace, derived = seen(*layers), derive(layers)
    columns = trace.maps[0][3]
    assert COLUMNS_PX // columns == derived.stride
    assert centre(trace.steps, columns) == derived.centre


def test_padding_before_a_layer_counts_as_its_own():
    padded = Then(lambda maps: functional.pad(maps, (1, 2, 1, 2)))
    trace = seen(padded, nn.Conv2d(3, 4, 5, stride=2))
    assert [(step.columns, step.left) for step in trace.steps] == [(1344, 1347), (1347, 672)]
    assert centre(trace.steps, 672) == (5 - 1) / 2 - 1


def test_of_two_ways_the_longer_and_of_two_maps_the_finer_is_followed():
    shortcut = nn.Conv2d(3, 4, 1, stride=2)
    assert centre(seen(Beside(shortcut, nn.Conv2d(3, 4, 2, stride=2))).steps, 672) == 0.5
    # Attention that looks at a coarser map on the way, as PVT's does.
    coarse = Then(lambda maps: (functional.conv2d(maps, coarse_weight, stride=8), maps)[1])
    coarse_weight = torch.empty(4, 3, 8, 8, device="meta")
    trace = seen(coarse, nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(2, 2))
    assert len(trace.steps) == 3
    assert centre(trace.steps, 336) == 0 + 0.5 * 2


def test_patches_put_together_by_indexing_have_the_centre_of_the_block():
    merged = Then(lambda maps: maps[:, :, ::2, ::2] + maps[:, :, 1::2, 1::2])
    trace = seen(nn.Conv2d(3, 4, 4, stride=4), merged, merged)
    assert centre(trace.steps, 84) == 7.5


@pytest.mark.parametrize(
    "steps",
    [
        [Step(1344, 500, kernel=1, stride=1, padding=0)],  # beyond what is looked for
        [Step(1344, 1340, 5, 1, 0), Step(1340, 670, 2, 2, 0)],  # cells at the border are gone
        [Step(1000, 672, 3, 2, 1)],  # what it reads nothing made
        [Step(1000, 900, 3, 1, 0), Step(1344, 672, 3, 2, 1)],
    ],
)
def test_what_is_not_understood_is_no_geometry(steps):
    assert centre(steps, 670 if steps[-1].left == 670 else 672) is None


def test_memory_is_what_lies_there_at_a_time():
    pixels = ROWS_PX * COLUMNS_PX
    trace = seen(nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1), nn.Conv2d(2, 7, 1))
    assert trace.made == [each * pixels for each in (3, 5, 2, 7)]
    assert trace.peak == (3 + 2 + 7) * pixels  # the image is the caller's, and stays
    views = seen(nn.Conv2d(3, 5, 1), Then(lambda maps: maps.permute(0, 2, 3, 1)))
    assert views.made == [3 * pixels, 5 * pixels]
