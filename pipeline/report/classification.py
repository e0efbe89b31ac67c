"""What classifiers of whole images came to, as people read it: table, confusions, mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.evaluation.classification import known_mean
from pipeline.report import crops
from pipeline.report.sheet import Crop, crop_sheet
from pipeline.report.tables import markdown, percent

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
