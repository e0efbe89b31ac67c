"""Colour altering, against a computation by hand."""

from dataclasses import asdict

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.pretraining.colour import Colour, principal_colours


def test_components_by_hand():
    # Red and green go together, ±0.2 about 0.4; blue goes by itself, ±0.1 about 0.5: a covariance
    # of [[.04 .04 0] [.04 .04 0] [0 0 .01]], whose eigenvalues are .08, .01 and 0.
    pixels = np.array([[0.2, 0.2, 0.4], [0.2, 0.2, 0.6], [0.6, 0.6, 0.4], [0.6, 0.6, 0.6]])
    found = principal_colours([255 * pixels.reshape(2, 2, 3)])
    root = 0.5**0.5
    assert found.variances == pytest.approx((0.08, 0.01, 0), abs=1e-12)
    assert found.axes[0] == pytest.approx((root, root, 0), abs=1e-9)
    assert found.axes[1] == pytest.approx((0, 0, 1), abs=1e-9)
    # 0.5 · 0.08 along the first, -2 · 0.01 along the second; 7 times nothing along the third.
    shift = found.shift(np.array([0.5, -2.0, 7.0]))
    assert shift == pytest.approx([255 * 0.04 * root, 255 * 0.04 * root, -255 * 0.02], abs=1e-4)
    assert shift.dtype == np.float32


def test_every_pixel_counts_as_much():
    black, white = np.zeros((1, 3, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    # A quarter is white: variance 3/16 of each channel, all along (1, 1, 1).
    assert principal_colours([black, white]).variances == pytest.approx((9 / 16, 0, 0), abs=1e-12)
    with pytest.raises(InputError, match=r"no training image .* set pretrain.colour = 0"):
        principal_colours([])


def test_a_record_gives_the_same_colours():
    found = principal_colours([np.random.default_rng(0).integers(0, 256, (5, 7, 3))])
    assert Colour.of(asdict(found)) == found
    assert Colour.of(None) is None
