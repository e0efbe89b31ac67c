"""What the paper reached, to stand beside one's own; its numbers lie with the tables."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from jobs import tables
from jobs.options import RECIPES
from pipeline.config import Recipe
from pipeline.datasets import VOC_CLASSES

CALTECH_CLASSES, BACKGROUND = 102, "BACKGROUND_Google"
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


def mean_reference(recipe: Recipe, classes: Sequence[str]) -> tuple[float | None, str]:
    """Return what the paper reached in the mean of whole images' classes, and what that is.

    Of the row of Table 3 or 4 that has the same network, view, scale and layer; else of the best.

    Args:
        recipe: of the run, which classifies.
        classes: of the run; the paper has VOC's, and Caltech-101's with its background.
    """
    several = tuple(classes) == VOC_CLASSES and recipe.evaluation.method == "voc07"
    own = recipe.classification
    splits = own.random_splits > 1 and (own.train_per_class, own.test_per_class) == (30, 50)
    one = len(classes) == CALTECH_CLASSES and BACKGROUND in classes
    if not several and not (one and splits):
        return None, ""
    shipped = TABLE.with_stem("table3" if several else "table4")  # whatever lies here of that name
    name, file, folder = tables.read(str(shipped))
    recipes = tables.recipes(file, folder, [], None)
    known = [row for row in file.rows if row.paper is not None]
    same = [row for row in known if _computed(recipes[row.name]) == _computed(recipe)]
    row = same[0] if same else max(known, key=lambda each: each.paper or 0.0)
    data = "VOC 2007" if several else "Caltech-101"
    told = f"what the paper has on all of {data} (Table {name[-1]}, “{row.name}”: {row.paper})"
    return (row.paper or 0.0) / 100, told


def _computed(recipe: Recipe) -> list[Any]:
    """Return what the rows of these tables differ in."""
    network, features = recipe.network, recipe.features
    kind = [network.name, network.upto, features.view, features.layer]
    return [*kind, features.scales, features.levels]
