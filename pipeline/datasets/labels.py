"""What the images of a dataset's tables show: what networks are trained on, and judged by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from pipeline import index


@dataclass(frozen=True)
class Labels:
    """Labels of one image set; difficult ones are left out."""

    image_ids: tuple[str, ...]
    files: tuple[str, ...]
    """Of each image."""
    objects: pa.Table
    """A row for each label."""
    owners: Int64[np.ndarray, " labels"]
    """Place of each one's image."""
    classes: Int64[np.ndarray, " labels"]
    """Index of each one's class."""

    @property
    def not_single(self) -> tuple[str, int] | None:
        """The first image that shows several classes or none, and how many; None: there is none."""
        shown = np.bincount(self.owners, minlength=len(self.files))
        odd = np.flatnonzero(shown != 1)
        return (self.image_ids[odd[0]], int(shown[odd[0]])) if len(odd) else None


def read_labels(folder: Path, classes: Sequence[str]) -> Labels:
    """Read the labels of an image set, as to some classes, from `write_index`'s folder."""
    images, objects = index.read_tables(folder)
    objects = objects.filter(pc.invert(objects["difficult"]))  # pyright: ignore[reportAttributeAccessIssue]
    known = pa.array(classes, pa.string())
    objects = objects.filter(pc.is_in(objects["class"], known))  # pyright: ignore[reportAttributeAccessIssue]
    labels = pc.index_in(objects["class"], known)  # pyright: ignore[reportAttributeAccessIssue]
    return Labels(
        tuple(images["image_id"].to_pylist()),
        tuple(images["file"].to_pylist()),
        objects,
        index.owners(images, objects),
        labels.to_numpy().astype(np.int64),
    )
