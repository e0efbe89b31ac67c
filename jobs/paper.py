"""What the paper reached, to stand beside one's own; its numbers lie with the tables."""

import tomllib
from collections.abc import Mapping, Sequence

from jobs.options import RECIPES
from pipeline.config import Recipe
from pipeline.datasets import VOC_CLASSES

TABLE, ITS_BEST = RECIPES / "tables" / "table8.toml", "SPP ftfc7 bb"


def reference(recipe: Recipe, classes: Sequence[str]) -> tuple[Mapping[str, float], str]:
    """Return the paper's AP by class and what it is; nothing where it measured other things.

    Args:
        recipe: of the run; where the paper's Table 8 has a row of it, that row.
        classes: of the run; the paper has VOC's.
    """
    judged = (tuple(classes), recipe.evaluation.method, recipe.evaluation.iou)
    if judged != (VOC_CLASSES, "voc07", 0.5):
        return {}, ""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["rows"]
    own = [row for row in rows if row["recipe"] == recipe.name and "set" not in row]
    (row,) = own or [row for row in rows if row["name"] == ITS_BEST]
    aps = {name: ap / 100 for name, ap in zip(classes, row["paper_ap"], strict=True)}
    mean = f"“{row['name']}”, {row['paper']} in the mean"
    return aps, f"what the paper has on all of VOC 2007 (Table 8, {mean})"
