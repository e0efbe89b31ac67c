"""Images that were left out of a store because they could not be read: which, why, what is lost."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pipeline import images
from pipeline.store import Store

FIRST_BYTES = 16  # enough to see what a file really is


@dataclass(frozen=True)
class Quarantined:
    """An image that is not in a store, though it was to be."""

    image_id: str
    file: str
    reason: str
    objects: dict[str, int]
    """Labelled objects that are lost with it, by class: evaluation counts them as missed."""


@dataclass(frozen=True)
class Look:
    """What a file is now."""

    bytes: int | None
    """None: it is not there, or no file."""
    sha256: str = ""
    begins_with: str = ""
    """Its first bytes, as Python writes them."""
    size_px: tuple[int, int] | None = None
    """Width and height, if it can be decoded."""
    problem: str = ""
    """Why it cannot."""


def quarantined(store: Store) -> list[Quarantined]:
    """Return the images of a store that could not be read, in the order of their ids."""
    reasons = store.quarantined()
    rows = store.images_named(reasons).select(["image_id", "file"]).to_pylist()
    # Files of a run directory start from the store.
    files = {row["image_id"]: os.path.join(str(store.root), row["file"]) for row in rows}
    lost: dict[str, Counter[str]] = {}
    for row in store.objects_named(reasons).select(["image_id", "class"]).to_pylist():
        lost.setdefault(row["image_id"], Counter())[row["class"]] += 1
    return [
        Quarantined(name, files.get(name, ""), reason, dict(lost.get(name, {})))
        for name, reason in sorted(reasons.items())
    ]


def kinds(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Count reasons that differ in their numbers and details alone, the most frequent first.

    >>> kinds(["not an image", "damaged JPEG file: 3 bytes", "damaged JPEG file: 5 bytes"])
    [('damaged JPEG file', 2), ('not an image', 1)]
    """
    short = (re.sub(r"\d[\d,.]*", "N", reason.partition(": ")[0]) for reason in reasons)
    return Counter(short).most_common()


def look(file: Path, max_pixels: int = images.MAX_PIXELS) -> Look:
    """Return what a file is now, whatever it is."""
    try:
        data = images.read(file)
    except OSError as error:
        return Look(None, problem=error.strerror or type(error).__name__)
    except images.UndecodableImage as error:
        return Look(None, problem=str(error))
    known = (len(data), sha256(data).hexdigest(), repr(data[:FIRST_BYTES])[2:-1])
    try:
        rows, cols, _ = images.decode(data, max_pixels=max_pixels).shape
    except images.UndecodableImage as error:
        return Look(*known, problem=str(error))
    return Look(*known, size_px=(cols, rows))
