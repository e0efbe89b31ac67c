"""Vectors in columns and back."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.store import VectorSpec, vectors
from pipeline.store.schema import METADATA_KEY, box_array, image_slices, read_spec

SPECS = [
    VectorSpec(3, dtype, layout)
    for dtype in ("float16", "float32")
    for layout in ("binary", "list")
]
FOUR = np.array([[1, 2, 3], [-4.5, 5, 6], [7, 65504, -0.0], [0.1, 10, 11]])


def table(spec, array):
    schema = pa.schema([spec.schema().field("vector")], metadata=spec.schema().metadata)
    return pa.table([spec.to_arrow(array)], schema=schema)


@pytest.mark.parametrize("spec", SPECS)
def test_vectors_come_back_bit_by_bit(spec):
    array = FOUR.astype(spec.dtype)
    held = table(spec, array)
    assert vectors(held).dtype == spec.dtype
    assert vectors(held).tobytes() == array.tobytes()
    assert held["vector"].null_count == 0
    assert vectors(held.slice(1, 2)).tolist() == array[1:3].tolist()
    assert vectors(pa.concat_tables([held, held.slice(3)])).tolist() == [
        *array.tolist(),
        array[3].tolist(),
    ]
    assert vectors(held.slice(0, 0)).shape == (0, 3)
    assert vectors(table(spec, np.zeros((0, 3)))).shape == (0, 3)


@pytest.mark.parametrize("spec", SPECS)
def test_the_spec_travels_in_the_schema(spec):
    assert read_spec(spec.schema()) == spec
    assert spec.row_bytes == 3 * int(spec.dtype[-2:]) // 8


def test_one_chunk_is_not_copied():
    held = table(SPECS[0], FOUR)
    assert np.shares_memory(vectors(held), vectors(held))


def test_list_items_are_never_null():
    assert (
        str(VectorSpec(3, "float16", "list").arrow_type)
        == "fixed_size_list<element: halffloat not null>[3]"
    )


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {METADATA_KEY: b"{"}, {METADATA_KEY: b'{"size": 3}'}, {METADATA_KEY: b"3"}],
)
def test_a_table_that_is_no_shard(metadata):
    schema = SPECS[0].schema().with_metadata(metadata)
    with pytest.raises(InputError, match=r"x\.parquet has no readable vector column"):
        read_spec(schema, "x.parquet")


def test_metadata_of_another_column():
    schema = VectorSpec(3).schema().with_metadata(VectorSpec(4).schema().metadata)
    with pytest.raises(InputError, match=r"holds vectors as fixed_size_binary\[6\].*\[8\]"):
        read_spec(schema)


def test_boxes_and_slices_of_a_table():
    held = pa.table(
        {
            "image_id": ["a", "a", "b"],
            "x_min": [1, 2, 3],
            "y_min": [4, 5, 6],
            "x_max": [7, 8, 9],
            "y_max": [10, 11, 12],
        }
    )
    assert box_array(held).tolist() == [[1, 4, 7, 10], [2, 5, 8, 11], [3, 6, 9, 12]]
    assert list(image_slices(held)) == [("a", slice(0, 2)), ("b", slice(2, 3))]
    assert list(image_slices(held.slice(0, 0))) == []
