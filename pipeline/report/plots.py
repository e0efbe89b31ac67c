"""Figures of an evaluation: curves, average precisions and confusions, as SVG and PNG.

Import this module where something is drawn: matplotlib takes half a second, and every command and
every worker would wait for it.

Figures are made without pyplot: no global state, no display, usable from threads and actors. The
same evaluation gives the same bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import matplotlib as mpl
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation import Curve, Evaluation
from pipeline.evaluation.precision import envelope
from pipeline.report.tables import percent

LINE, FILL, FAINT, INK = "#00744f", "#bfe3d5", "#d9d6cf", "#28282e"
TICKS = (0, 0.5, 1)
MOST_NAMED = 60  # classes whose names still stand beside a matrix
MOST_COUNTED = 40  # and whose counts fit into its cells
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # carried by matplotlib: the same on every machine
    "font.size": 9,
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9a978f",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "sppnet",  # ids in the SVG are otherwise random
    "svg.fonttype": "path",
}


def plot_curves(evaluation: Evaluation, columns: int = 5) -> Figure:
    """Precision over recall, one small chart per class, with the envelope that AP measures."""
    with mpl.rc_context(STYLE):
        count = max(1, len(evaluation.curves))
        columns = min(columns, count)
        rows = -(-count // columns)
        figure = Figure(figsize=(2.1 * columns + 0.6, 2.05 * rows + 0.9), layout="constrained")
        figure.suptitle(f"Precision over recall · {_told(evaluation)}", fontsize=11)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax, (name, curve) in zip(axes.flat, evaluation.curves.items(), strict=False):
            _chart(ax, curve, f"{name}  {percent(evaluation.ap[name])}")
        for ax in axes.flat[len(evaluation.curves) :]:
            ax.set_axis_off()
        figure.supxlabel("recall", fontsize=10)
        figure.supylabel("precision", fontsize=10)
        return figure


def _chart(ax: Axes, curve: Curve, title: str) -> None:
    ax.set(xlim=(0, 1.02), ylim=(0, 1.05))
    ax.set_xticks(TICKS, ["0", ".5", "1"])
    ax.set_yticks(TICKS, ["0", ".5", "1"])
    ax.set_title(title, fontsize=9.5, pad=3)
    ax.grid(color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    if not curve.positives:
        ax.text(0.5, 0.5, "no objects to find", ha="center", va="center", color="#6f6c66")
        return
    if not len(curve.recall):
        ax.text(0.5, 0.5, "nothing detected", ha="center", va="center", color="#6f6c66")
        return
    recall = np.concatenate([[0.0], curve.recall])
    heights = envelope(curve.precision)
    best = np.concatenate([heights[:1], heights])
    ax.fill_between(recall, best, step="pre", color=FILL, linewidth=0)
    ax.plot(recall, best, drawstyle="steps-pre", color=LINE, linewidth=1.0)
    ax.plot(curve.recall, curve.precision, color=LINE, linewidth=0.8, alpha=0.55)


def plot_bars(evaluation: Evaluation) -> Figure:
    """Average precision per class, best on top, with the mean as a line."""
    with mpl.rc_context(STYLE):
        order = sorted(evaluation.ap, key=lambda name: _height(evaluation.ap[name]))
        heights = [100 * _height(evaluation.ap[name]) for name in order]
        figure = Figure(figsize=(6.4, 0.27 * len(order) + 1.2), layout="constrained")
        ax = figure.subplots()
        ax.barh([str(name) for name in order], heights, color=LINE, height=0.68)
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        for row, (name, height) in enumerate(zip(order, heights, strict=True)):
            ax.text(
                height + 0.8,
                row,
                percent(evaluation.ap[name]),
                va="center",
                fontsize=8.5,
                bbox=ground,
            )
        if not math.isnan(evaluation.mean_ap):
            ax.axvline(
                100 * evaluation.mean_ap, color="#cd3714", linewidth=1.2, linestyle="--", zorder=0
            )
        ax.set(xlim=(0, 108), xticks=range(0, 101, 20), xlabel="average precision, %")
        ax.set_title(_told(evaluation), fontsize=11)
        ax.tick_params(axis="y", length=0)
        ax.margins(y=0.01)
        ax.spines["left"].set_visible(False)
        return figure


def plot_confusion(
    confusion: Int[np.ndarray, "classes classes"], classes: Sequence[str], title: str
) -> Figure:
    """Draw how many images of each class, a row, are taken for each class, a column.

    A cell is as dark as its share of the row; right answers, on the diagonal, are green.
    """
    counts = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(counts, 1)
    colours = np.ones((*confusion.shape, 3))
    right = np.eye(len(classes), dtype=bool)
    for chosen, dark in ((right, (0.0, 0.45, 0.31)), (~right, (0.80, 0.22, 0.08))):
        # Rare mistakes must be seen: what is not zero begins at a quarter of full colour.
        depth = np.where(shares > 0, 0.25 + 0.75 * shares, 0)[chosen][:, None]
        colours[chosen] = 1 - depth * (1 - np.array(dark))
    side = max(3.2, min(14.0, 0.3 * len(classes) + 1.8))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(side, side + 0.3), layout="constrained")
        ax = figure.subplots()
        ax.imshow(colours, interpolation="nearest")
        ax.set_title(title, fontsize=11)
        ax.set(xlabel="taken for", ylabel="shows")
        ax.spines[:].set_visible(True)
        places = range(len(classes)) if len(classes) <= MOST_NAMED else ()
        names = [*classes] if len(classes) <= MOST_NAMED else []
        size = 9 if len(classes) <= MOST_COUNTED else 7
        ax.set_xticks(places, names, rotation=90, fontsize=size)
        ax.set_yticks(places, names, fontsize=size)
        ax.tick_params(length=0)
        if len(classes) <= MOST_COUNTED:
            for row, column in zip(*np.nonzero(confusion), strict=True):
                ink = "white" if shares[row, column] > 0.55 else INK
                text = str(confusion[row, column])
                ax.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
        return figure


@runtime_checkable
class Learnt(Protocol):
    """How a part of a training went."""

    @property
    def step(self) -> int:
        """The last of it."""
        ...

    @property
    def loss(self) -> float:
        """Mean cross-entropy of its batches."""
        ...

    @property
    def held_loss(self) -> float:
        """Of what is held out, after it."""
        ...

    @property
    def held_accuracy(self) -> float:
        """Share of that whose highest score is their label's."""
        ...


def plot_learning(history: Sequence[Learnt], chosen: int, held: str = "windows") -> Figure:
    """Cross-entropy over the steps of a training, and the accuracy on what is held out.

    Args:
        history: of each part.
        chosen: place of the part whose weights were kept; it is marked.
        held: what is held out: `windows` of a fine-tuning, `images` of a training from nothing.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.1), layout="constrained")
        loss, accuracy = figure.subplots(1, 2)
        steps, kept = [part.step for part in history], history[chosen]
        mark = "o" if len(history) < 40 else ""
        loss.plot(
            steps, [part.loss for part in history], color="#9a978f", marker=mark, markersize=3
        )
        loss.plot(
            steps, [part.held_loss for part in history], color=LINE, marker=mark, markersize=3
        )
        loss.legend(["batches, with dropout", f"held-out {held}"], frameon=False, fontsize=8.5)
        highest = max(max(part.loss, part.held_loss) for part in history)
        loss.set(xlabel="steps", title="cross-entropy", ylim=(0, 1.08 * highest))
        right = [100 * part.held_accuracy for part in history]
        accuracy.plot(steps, right, color=LINE, marker=mark, markersize=3)
        accuracy.set(xlabel="steps", title=f"right on held-out {held}, %", ylim=(0, 100))
        for ax in (loss, accuracy):
            ax.axvline(kept.step, color="#cd3714", linewidth=1.2, linestyle="--", zorder=0)
            ax.grid(color=FAINT, linewidth=0.6)
            ax.set_axisbelow(True)
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        told = f"kept: step {kept.step:,}, {100 * kept.held_accuracy:.1f} %"
        height = 0.05 if kept.held_accuracy > 0.3 else 0.9  # where the curve is not
        place = {"transform": accuracy.transAxes, "ha": "right"}
        accuracy.text(0.97, height, told, fontsize=8.5, bbox=ground, **place)
        return figure


def _height(ap: float) -> float:
    return 0.0 if math.isnan(ap) else ap


def _told(evaluation: Evaluation) -> str:
    mean = f"mean AP {percent(evaluation.mean_ap)} %"
    return f"{mean} ({evaluation.method}, IoU ≥ {evaluation.iou:g})"


def save_figure(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write a figure as ``<path>.svg`` and ``<path>.png``; equal figures give equal bytes."""
    svg, png = path.with_name(path.name + ".svg"), path.with_name(path.name + ".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
        figure.savefig(png, dpi=150, metadata={"Software": None})
    return svg, png


def write_plots(folder: Path, evaluation: Evaluation) -> tuple[Path, ...]:
    """Write ``curves`` and ``bars``, each as SVG and PNG, and return the four paths."""
    return (
        *save_figure(plot_curves(evaluation), folder / "curves"),
        *save_figure(plot_bars(evaluation), folder / "bars"),
    )
