"""How results show themselves in notebooks: HTML that fetches nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.report import crops
from pipeline.report.page.svg import element
from pipeline.report.tables import percent

if TYPE_CHECKING:
    from pipeline.evaluation import Evaluation
    from pipeline.model import Model
    from pipeline.one_image import Extracted
    from pipeline.store import Store

SIDE_PX, WINDOWS_DRAWN = 320, 40


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table; text in it is text, whoever wrote it."""
    head = element("tr", *(element("th", name) for name in header))
    body = (element("tr", *(element("td", cell) for cell in row)) for row in rows)
    return element("table", element("thead", head), element("tbody", *body))


def evaluation(known: Evaluation) -> str:
    """Return average precisions by class, and their mean."""
    rows = []
    for name, ap in known.ap.items():
        curve = known.curves[name]
        true = int(curve.true_positive.sum())
        rows.append((name, percent(ap), curve.positives, true, len(curve.scores) - true))
    rows.append(("mean", percent(known.mean_ap), "", "", ""))
    told = element("p", f"AP in percent, {known.method}, IoU ≥ {known.iou:g}")
    return table(("class", "AP", "objects", "found", "false"), rows) + told


def extracted(known: Extracted) -> str:
    """Return the image, small, with some of its windows."""
    small = crops.crop(known.image, None, SIDE_PX, context=0.0)
    factor = small.shape[1] / known.image.shape[1]
    places = np.linspace(0, len(known.boxes) - 1, min(WINDOWS_DRAWN, len(known.boxes)))
    drawn = known.boxes[places.round().astype(int)] * factor
    href = f"data:image/jpeg;base64,{b64encode(crops.jpeg(small)).decode()}"
    size = {"width": small.shape[1], "height": small.shape[0]}
    frames = (
        element("rect", x=x0, y=y0, width=x1 - x0, height=y1 - y0, fill="none", stroke="#ffc400")
        for x0, y0, x1, y1 in drawn.tolist()
    )
    picture = element("svg", element("image", href=href, **size), *frames, **size)
    drawn_of = f", {len(drawn)} of them drawn" if len(drawn) < len(known.boxes) else ""
    return picture + element("p", f"{known!r}{drawn_of}")


def model(known: Model) -> str:
    """Return what a model knows, and how it sees."""
    told = known.described
    rows = {
        "task": told.task,
        "classes": ", ".join(known.classes),
        "network": f"{told.network}, {told.features.layer}, in {told.precision}",
        "scales": ", ".join(f"{each} px" for each in told.features.scales),
        "boxes": "moved by regression" if known.mover is not None else "those of the windows",
    }
    return table(("model", known.digest[:12]), rows.items())


def store(known: Store) -> str:
    """Return what a store has."""
    totals = known.totals
    rows = {
        "images": f"{totals.images:,}, and {totals.quarantined:,} quarantined",
        "windows": f"{totals.rows:,}",
        "kept as": f"{known.kind}, {totals.shards:,} shards of {totals.bytes:,} bytes in all",
    }
    if totals.first is not None:
        rows["a vector"] = f"{known.spec.length:,} numbers, {known.spec.dtype}"
    return table(("store", str(known.root)), rows.items())
