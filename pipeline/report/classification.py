"""What classifiers of whole images came to, as people read it: table, confusions, mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from pipeline.evaluation.classification import known_mean
from pipeline.report import crops
from pipeline.report.plots import INK, STYLE
from pipeline.report.sheet import Crop, crop_sheet
from pipeline.report.tables import markdown, percent

MOST_NAMED = 60  # classes whose names still stand beside a matrix
MOST_COUNTED = 40  # and whose counts fit into its cells
THUMBNAIL_PX = 180


def format_classes(
    ap: Mapping[str, float], accuracy: Mapping[str, float] | None, told: Sequence[str]
) -> str:
    """Return a Markdown table of each class, and what holds for all.

    Args:
        ap: average precision of each class; nan for one that no image shows.
        accuracy: share of each class's images that are right; None where images show several.
        told: sentences that stand below.
    """
    header = ["class", "AP"] if accuracy is None else ["class", "right", "AP"]
    rows = [
        [name, *([percent(accuracy[name])] if accuracy is not None else []), percent(value)]
        for name, value in ap.items()
    ]
    means = [ap.values()] if accuracy is None else [accuracy.values(), ap.values()]
    rows.append(["**mean**", *(f"**{percent(known_mean(each))}**" for each in means)])
    return markdown(header, rows) + "\n\n" + " ".join(["In percent.", *told]) + "\n"


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


def write_mistakes(
    path: Path, mistakes: Sequence[tuple[Path, str]], title: str, columns: int = 6
) -> None:
    """Write wrong answers as one picture.

    Args:
        path: of the PNG.
        mistakes: the image file of each, and what stands below it.
        title: above all.
        columns: most pictures side by side.
    """
    cells = [Crop(_thumbnail(file), caption) for file, caption in mistakes]
    path.parent.mkdir(parents=True, exist_ok=True)
    crop_sheet(cells, title, columns).save(path)


def _thumbnail(file: Path) -> np.ndarray | None:
    pixels = crops.part(file, ())
    return None if pixels is None else crops.crop(pixels, None, THUMBNAIL_PX, context=0.0)
