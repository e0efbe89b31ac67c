"""The two tables of labels beside the shards, `images` and `objects`, read by the image."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.store.files import written_aside

GROUP_ROWS = 20_000  # about 1 MB: what is read at least, for the few images of one shard


def write_labels(path: Path, table: pa.Table) -> None:
    """Write a table sorted by image, in small row groups.

    A shard holds neighbours among the sorted ids, so that reading its labels touches one or two
    groups, however many images there are. Rows of one image keep their order.
    """
    order = pc.sort_indices(table["image_id"])  # pyright: ignore[reportAttributeAccessIssue]
    with written_aside(path) as aside:
        pq.write_table(table.take(order), aside, row_group_size=GROUP_ROWS)


def read_labels(path: Path, image_ids: Collection[str] | None = None) -> pa.Table:
    """Return the table, or the rows of these images.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return pq.read_table(path, filters=_only(image_ids))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): remove the job's done.json and run the recipe again"
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
