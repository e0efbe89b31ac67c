"""Figures are complete, and the same each time."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation import evaluate_detections
from pipeline.pretraining import EpochStats
from pipeline.report.plots import plot_bars, plot_curves, plot_learning, write_plots

BOX, ELSEWHERE = (0, 0, 10, 10), (50, 50, 60, 60)


@pytest.fixture
def evaluation():
    truth = [{"image_id": "a", "class": kind, "box": BOX} for kind in ("cat", "dog")]
    found = [
        {"image_id": "a", "class": kind, "score": score, "box": box}
        for kind, score, box in [
            ("cat", 0.9, ELSEWHERE),
            ("cat", 0.8, BOX),
            ("emu", 0.7, BOX),
        ]
    ]
    return evaluate_detections(found, truth, method="area")


def test_curve_of_a_class(evaluation):
    axes = plot_curves(evaluation).axes
    assert [ax.get_title() for ax in axes] == ["cat  50.0", "dog  0.0", "emu  –"]
    envelope, measured = axes[0].lines
    # false, then true: precision 0 then 1/2, so the envelope is 1/2 from recall 0 to 1
    np.testing.assert_allclose(envelope.get_xydata(), [(0, 0.5), (0, 0.5), (1, 0.5)])
    np.testing.assert_allclose(measured.get_xydata(), [(0, 0), (1, 0.5)])
    assert axes[1].texts[0].get_text() == "nothing detected"
    assert axes[2].texts[0].get_text() == "no objects to find"


def test_bars_are_sorted(evaluation):
    (ax,) = plot_bars(evaluation).axes
    assert [bar.get_width() for bar in ax.patches] == [0, 0, 50]
    assert [text.get_text() for text in ax.texts] == ["0.0", "–", "50.0"]


def test_same_bytes_each_time(evaluation, tmp_path):
    first, again = write_plots(tmp_path / "1", evaluation), write_plots(tmp_path / "2", evaluation)
    assert [path.name for path in first] == ["curves.svg", "curves.png", "bars.svg", "bars.png"]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"<dc:date>" not in first[0].read_bytes()


def test_nothing_to_plot(tmp_path):
    assert len(write_plots(tmp_path, evaluate_detections([], []))) == 4


def test_pyplot_stays_out_and_who_draws_nothing_waits_for_nothing():
    code = (
        "import sys, jobs.cli; assert 'matplotlib' not in sys.modules\n"
        "import pipeline.report.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_learning_of_a_training_from_nothing():
    common = {"rate": 0.01, "side_px": 224, "images": 9, "unreadable": 0, "reasons": {}}
    history = [
        EpochStats(10 * k, 2.0 / k, 0.2, 2.5 / k, 0.3 * k, **common, ended=False, seconds=1.0)
        for k in (1, 2)
    ]
    loss, right = plot_learning(history, 1, "images").axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [
        *("batches, with dropout", "held-out images"),
    ]
    assert right.get_title() == "right on held-out images, %"
    assert right.lines[0].get_xydata().tolist() == [[10, 30], [20, 60]]
    assert loss.get_ylim()[1] > max(part.held_loss for part in history)  # no marker is cut
    (kept,) = right.texts
    assert kept.get_position()[1] < 0.1
    poor = [replace(part, held_accuracy=0.06) for part in history]
    (kept,) = plot_learning(poor, 1, "images").axes[1].texts
    assert kept.get_position()[1] > 0.5  # else it would hide the curve
