"""The two tables of labels beside the shards, `images` and `objects`, read by the image."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError, UnreachableError
from pipeline.store.place import Place

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
            return pq.read_table(file, filters=_only(image_ids))
    except UnreachableError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{root}/{name} cannot be read ({error}): run the recipe again, which writes it"
        ) from None


def _only(image_ids: Collection[str] | None) -> pc.Expression | None:
    if image_ids is None:
        return None
    field = pc.field("image_id")
    if not image_ids:
        return pc.scalar(False)
    # The range is what row groups are skipped by.
    within = (field >= min(image_ids)) & (field <= max(image_ids))
    return within & field.isin(pa.array(image_ids, pa.string()))
