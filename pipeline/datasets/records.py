"""What a dataset is to the rest of the house: image records in the order of their list."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

MOST_SIDE_PX = 1 << 24  # float32, in which boxes are kept, has no more whole numbers in a row


@dataclass(frozen=True)
class Object:
    """One annotated object.

    Attributes:
        class_name: The dataset's own word for it.
        box: (x_min, y_min, x_max, y_max), 0-based half-open pixels of the original image (SPEC §1).
        difficult: The annotator could hardly tell; evaluation neither rewards nor punishes it.
        truncated: The box does not show the whole object.
    """

    class_name: str
    box: tuple[float, float, float, float]
    difficult: bool = False
    truncated: bool = False


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset, not yet opened.

    Attributes:
        image_id: Unique in its split; a plain file name, or a path below the dataset's folder.
        path: The image file.
        width: Pixels, as stored (EXIF orientation ignored); 0 where the file cannot be read.
        height: Pixels, as stored.
        objects: In the order of the annotation; empty for an image without objects.
    """

    image_id: str
    path: Path
    width: int
    height: int
    objects: tuple[Object, ...]

    @property
    def boxes(self) -> Float32[np.ndarray, "objects 4"]:
        """The objects' boxes in one array, in the order of `objects`."""
        return np.array([one.box for one in self.objects], dtype=np.float32).reshape(-1, 4)


def rounded(box: Sequence[int | float]) -> tuple[float, float, float, float]:
    """Return the box that float32 keeps: what is not empty, and finite, may be so no more."""
    with np.errstate(over="ignore"):
        x_min, y_min, x_max, y_max = np.asarray(box, np.float32).tolist()
    return x_min, y_min, x_max, y_max


def is_text(name: str) -> bool:
    """Return whether a name can be written: half a character, or a byte that is none, cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


@dataclass(frozen=True)
class Split:
    """One image set.

    Attributes:
        records: In the order of its list; without one, by image id.
        skipped: One sentence for each invalid object that `skip_invalid` left out.
    """

    records: tuple[ImageRecord, ...]
    skipped: tuple[str, ...] = ()
