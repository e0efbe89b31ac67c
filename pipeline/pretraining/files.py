"""Training images in files: a table that names them, and their crops, decoded by threads.

The table is Parquet, so that a list of a million images can be sent anywhere by its path.

| column | type | |
|---|---|---|
| file | string | path of the image file |
| label | integer | class index, from 0 |
| name | string | optional: what errors call it; without it, the file |
| x_min, y_min, x_max, y_max | float | optional: the part of the image that is meant (SPEC §1) |

With the box, each object of a data set such as VOC is an image of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float32, Int, Int64, UInt8
from numpy.typing import ArrayLike

from pipeline import images
from pipeline.config import Pretrain
from pipeline.crops import five_places, random_place
from pipeline.errors import InputError, RecipeError
from pipeline.pretraining.colour import Colour, principal_colours
from pipeline.pretraining.images import COLOURS, Batch, seeded, view_random
from pipeline.store.files import written_aside

BOX = ("x_min", "y_min", "x_max", "y_max")
_Pixels = Float32[np.ndarray, "rows cols 3"]


def write_table(
    path: Path,
    files: Sequence[Path | str],
    labels: ArrayLike,
    boxes: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Write the table of some images, whole or not at all.

    Args:
        path: of the table.
        files: of the images.
        labels: class index of each.
        boxes: `[images 4]`, the part of each that is meant; none: all of it.
        names: what errors call each; none: its file.
    """
    columns = {
        "file": pa.array([str(file) for file in files], pa.string()),
        "label": pa.array(np.asarray(labels, np.int32)),
    }
    if names is not None:
        columns["name"] = pa.array(names, pa.string())
    if boxes is not None:
        columns |= dict(zip(BOX, np.asarray(boxes, np.float32).reshape(-1, 4).T, strict=True))
    with written_aside(path) as aside:
        pq.write_table(pa.table(columns), aside)


@dataclass(frozen=True)
class Views:
    """How crops are taken from image files."""

    side_px: int
    resized_px: int
    """Shorter side of an image before."""
    places: str
    """`five` or `anywhere`."""
    flips: bool
    colour: float
    """Standard deviation of the strengths of colour altering."""

    @classmethod
    def of(cls, settings: Pretrain) -> "Views":
        """Return what a recipe says.

        Raises:
            RecipeError: the crops do not fit in the images.
        """
        side_px = max(settings.sides_px)
        if side_px > settings.resized_px:
            raise RecipeError(
                f"crops of {side_px} px (pretrain.sides_px) do not fit in images whose shorter "
                f"side is {settings.resized_px} px: raise pretrain.resized_px, or give less"
            )
        return cls(
            side_px, settings.resized_px, settings.crop_places, settings.flips, settings.colour
        )


class FileImages:
    """Image files with a class each.

    Args:
        table: see this file's beginning.
        views: how crops are taken.
        seed: of the crops.
        threads: that decode.
        max_pixels: an image with more, before or after resizing, is not read.

    Raises:
        InputError: the table is absent, damaged, empty, or not such a table.
    """

    def __init__(
        self,
        table: Path,
        views: Views,
        *,
        seed: int = 0,
        threads: int = 1,
        max_pixels: int = images.MAX_PIXELS,
    ) -> None:
        self.side_px = views.side_px
        self.colours: Colour | None = None
        """What colour altering goes by; none: colours stay as they are."""
        self._views, self._seed, self._threads = views, seed, threads
        self._max_pixels = max_pixels
        held = _read(table)
        self.labels: Int64[np.ndarray, " images"] = held["label"].to_numpy().astype(np.int64)
        self._files = held["file"].combine_chunks()
        named = "name" in held.column_names
        self._names = held["name"].combine_chunks() if named else self._files
        boxed = set(BOX) <= set(held.column_names)
        self._boxes = np.stack([held[name].to_numpy() for name in BOX], 1) if boxed else None

    @property
    def owners(self) -> Int64[np.ndarray, " images"]:
        """The files, numbered as they first occur: an object's image is a part of one."""
        return self._files.dictionary_encode().indices.to_numpy().astype(np.int64)

    def name(self, index: int) -> str:
        """Return what an image is called."""
        return self._names[index].as_py()

    def varied(self, chosen: Int[np.ndarray, " batch"], epoch: int) -> Batch:
        """Return random crops, mirrored and with altered colours as the views say."""
        return self._batch(chosen, epoch)

    def plain(self, chosen: Int[np.ndarray, " batch"]) -> Batch:
        """Return centre crops."""
        return self._batch(chosen, None)

    def find_colours(self, among: Int[np.ndarray, " some"], count: int) -> Colour:
        """Return the principal colours of a seeded sample of images; unreadable ones are left out.

        Raises:
            InputError: none of them can be read.
        """
        order = seeded(self._seed, COLOURS).permutation(among)
        found = self._attempts(self._resized, np.sort(order[:count]))
        return principal_colours(one for one in found if isinstance(one, np.ndarray))

    def _batch(self, chosen: Int[np.ndarray, " batch"], epoch: int | None) -> Batch:
        side, read, unreadable = self.side_px, list[int](), dict[int, str]()
        pixels = np.empty((len(chosen), side, side, 3), np.float32)
        found = self._attempts(partial(self._crop, epoch=epoch), chosen)
        for index, one in zip(chosen.tolist(), found, strict=True):
            if isinstance(one, InputError):
                unreadable[index] = str(one)
            else:
                pixels[len(read)] = one
                read.append(index)
        return Batch(pixels[: len(read)], np.array(read, np.int64), unreadable)

    def _attempts(
        self, work: Callable[[int], _Pixels], chosen: Int[np.ndarray, " some"]
    ) -> Iterator[_Pixels | InputError]:
        """Yield in order what a function makes of each image, or why it cannot."""

        def attempt(index: int) -> _Pixels | InputError:
            try:
                return work(index)
            except InputError as error:
                return error

        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            yield from pool.map(attempt, chosen.tolist())

    def _crop(self, index: int, epoch: int | None) -> _Pixels:
        """Return the crop of an image: of an epoch, or the one to measure on."""
        image, views = self._resized(index), self._views
        rows, cols, _ = image.shape
        if epoch is None:
            top, left = five_places(rows, cols, views.side_px)[0]
            return image[top : top + views.side_px, left : left + views.side_px]
        # All numbers are drawn whatever the settings: one setting does not change another's.
        random = view_random(self._seed, epoch, index)
        mirrored, strengths = random.random() < 0.5, random.normal(size=3)
        top, left = random_place(random, rows, cols, views.side_px, views.places)
        crop = image[top : top + views.side_px, left : left + views.side_px]
        if views.flips and mirrored:
            crop = crop[:, ::-1]
        if self.colours is not None:
            crop = crop + self.colours.shift(views.colour * strengths)
        return crop

    def _resized(self, index: int) -> _Pixels:
        """Return an image, or its part that is meant, at its size before crops are taken.

        Raises:
            InputError: it cannot be read, or is too large; the message is the reason alone.
        """
        try:
            pixels = images.load(self._files[index].as_py(), max_pixels=self._max_pixels)
        except OSError as error:
            raise InputError(error.strerror or str(error)) from None
        if self._boxes is not None:
            pixels = _part(pixels, self._boxes[index])
        rows, cols, _ = pixels.shape
        width, height = images.resized_size(cols, rows, self._views.resized_px)
        if width * height > self._max_pixels:
            raise InputError(
                f"{cols}x{rows} px would be {width}x{height} at a shorter side of "
                f"{self._views.resized_px}, more than the {self._max_pixels:,} pixels allowed"
            )
        return images.resize(pixels, self._views.resized_px)[0]


def _part(
    pixels: UInt8[np.ndarray, "rows cols 3"], box: Float[np.ndarray, " 4"]
) -> UInt8[np.ndarray, "some_rows some_cols 3"]:
    rows, cols, _ = pixels.shape
    x_min, y_min = np.floor(box[:2]).clip(0).astype(int)
    x_max, y_max = np.ceil(box[2:]).astype(int)
    part = pixels[y_min:y_max, x_min:x_max]
    if not (0 < x_max <= cols and 0 < y_max <= rows and part.size):
        raise InputError(f"the box {box.tolist()} is not in the image of {cols}x{rows} px")
    return part


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"the table of training images {path} cannot be read: {error}") from None
    wanted = {"file": pa.types.is_string, "label": pa.types.is_integer}
    known = {field.name: field.type for field in table.schema}
    if "name" in known:
        wanted["name"] = pa.types.is_string
    for name, right in wanted.items():
        if name not in known or not right(known[name]) or table[name].null_count:
            raise InputError(
                f"{path} has the columns {known}, and needs file (string) and label (integer) in "
                "every row, and name (string) in all or none: write it with "
                "pipeline.pretraining.write_table"
            )
    if not len(table):
        raise InputError(f"{path} lists no image: give at least one")
    return table
