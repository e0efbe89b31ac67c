"""The two tables of labels beside the shards, `images` and `objects`: read by image or by page."""

from bisect import bisect_left
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError, UnreachableError
from pipeline.store.footers import plain_footer
from pipeline.store.place import Place, open_parquet

GROUP_ROWS = 20_000  # about 1 MB: what is read at least, for the few images of one shard


def write_labels(root: Place, name: str, table: pa.Table) -> None:
    """Write a table sorted by image, in small row groups.

    A shard holds neighbours among the sorted ids, so that reading its labels touches one or two
    groups, however many images there are. Rows of one image keep their order.
    """
    with root.spool(name) as aside:
        pq.write_table(by_image(table), aside, row_group_size=GROUP_ROWS)
        root.bring(aside, name)


def by_image(table: pa.Table) -> pa.Table:
    """Return the table sorted by image; the same one where it is, for it may be large."""
    ids = table["image_id"]
    in_order = pc.less_equal(ids[:-1], ids[1:])  # pyright: ignore[reportAttributeAccessIssue]
    if pc.all(in_order).as_py() in (True, None):  # pyright: ignore[reportAttributeAccessIssue]
        return table  # None: there is nothing to compare
    return table.take(pc.sort_indices(ids))  # pyright: ignore[reportAttributeAccessIssue]


def read_labels(root: Place, name: str, image_ids: Collection[str] | None = None) -> pa.Table:
    """Return the table, or the rows of these images.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with root.open(name) as file:
            plain_footer(file)
            return pq.read_table(file, filters=_only(image_ids))
    except UnreachableError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{root}/{name} cannot be read ({error}): run the recipe again, which writes it"
        ) from None


class LabelPages:
    """A table of labels that is read page by page: as many row groups as a page touches."""

    def __init__(self, root: Place, name: str) -> None:
        self._root, self._name = root, name
        with open_parquet(root, name) as file:
            groups = [file.metadata.row_group(k) for k in range(file.metadata.num_row_groups)]
        self._ends = np.cumsum([group.num_rows for group in groups])

    def __len__(self) -> int:
        """Rows of all."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def rows(self, start: int, count: int) -> pa.Table:
        """Return some rows, by their places; fewer at the end."""
        first, last = np.searchsorted(self._ends, [start, start + max(count, 1) - 1], side="right")
        groups = list(range(first, min(last + 1, len(self._ends))))
        with open_parquet(self._root, self._name) as file:
            table = file.read_row_groups(groups)
        before = int(self._ends[first - 1]) if first else 0
        return table.slice(start - before, count)

    def place_of(self, image_id: str) -> int:
        """Return the place of an image, or of the first one behind it; of the last, at the end."""
        if not len(self):
            return 0
        with open_parquet(self._root, self._name) as file:
            # Halved until one row group is left, of which the ids are read.
            low, high = 0, len(self._ends) - 1
            while low < high:
                middle = (low + high) // 2
                ids = file.read_row_group(middle, columns=["image_id"])["image_id"]
                low, high = (low, middle) if ids[-1].as_py() >= image_id else (middle + 1, high)
            ids = file.read_row_group(low, columns=["image_id"])["image_id"].to_pylist()
        place = (int(self._ends[low - 1]) if low else 0) + bisect_left(ids, image_id)
        return max(0, min(place, len(self) - 1))


def _only(image_ids: Collection[str] | None) -> pc.Expression | None:
    if image_ids is None:
        return None
    field = pc.field("image_id")
    if not image_ids:
        return pc.scalar(False)
    # The range is what row groups are skipped by.
    within = (field >= min(image_ids)) & (field <= max(image_ids))
    return within & field.isin(pa.array(image_ids, pa.string()))
