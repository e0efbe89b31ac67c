"""Detecting what a store was taught: `spp detect STORE --class CLASS`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs import show
from jobs.asked import Asked
from pipeline.store.files import written_aside
from pipeline.store.schema import BOX_COLUMNS
from pipeline.teaching import Shelf
from pipeline.teaching.detecting import Detected, detect_taught
from pipeline.teaching.marks import shown

SHOWN = 10  # best detections of a class, on a screen


def detect(asked: Asked, classes: Sequence[str], out: Path | None, as_json: bool) -> None:
    """Detect with the newest classifier of each class, and tell what was found.

    Raises:
        InputError: the shelf has no such classifier, or it was trained on other vectors.
    """
    found = detect_taught(Shelf(asked.shelf), asked.store, classes, asked.detection_settings)
    if out is not None:
        with written_aside(out) as aside:
            pq.write_table(pa.concat_tables(each.table for each in found), aside)
    told = [_told(each) for each in found]
    if as_json:
        show.print_json(told)
        return
    for each in told:
        show.print_table(["score", "image_id", *BOX_COLUMNS], map(_row, each["best"]))
        show.console().print(
            f"{shown(each['class'])}, version {each['version']}: {each['detections']:,} detections,"
            f" {each['above']:,} above 0 in {each['images_above']:,} images; in {each['file']}",
            markup=False,
        )


def _told(each: Detected) -> dict[str, Any]:
    above = each.table.filter(pc.field("score") > 0)
    best = each.table.sort_by([("score", "descending")]).slice(0, SHOWN)
    return {
        "class": each.class_,
        "version": each.version.number,
        "detections": len(each.table),
        "above": len(above),
        "images_above": len(set(above["image_id"].to_pylist())),
        "file": each.kept,
        "best": best.to_pylist(),
    }


def _row(row: dict[str, Any]) -> list[str]:
    return [f"{row['score']:.3f}", row["image_id"], *(f"{row[name]:g}" for name in BOX_COLUMNS)]
