"""A store of maps gives what a store of windows gives."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline import spp, store
from pipeline.config import Features
from pipeline.errors import InputError
from pipeline.store import MapSpec, ShardWriter, VectorSpec, maps_table, vectors
from pipeline.store import maps as maps_module
from pipeline.store.map_spec import read_map_spec
from pipeline.store.maps import ShardMaps
from pipeline.store.place import place
from pipeline.store.scan import scan_shard

SPEC = MapSpec(8.0, 3.5, 1.5, 5, (3, 1), "float16")


def same(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.schema.equals(other.schema, check_metadata=True)
        assert one.equals(other)
    return len(ours)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layout", ["binary", "list"])
@pytest.mark.parametrize("levels", [(3, 1), (6, 3, 2, 1), (4,)])
def test_all_rows_are_equal_to_the_bit(make_both, dtype, layout, levels):
    windows, held = make_both(MapSpec(8.0, 3.5, 1.5, 5, levels, dtype), layout, 10**6)
    assert same(held.scan(), windows.scan()) == 2
    (first, _) = held.scan(["vector"])
    (expected, _) = windows.scan(["vector"])
    assert vectors(first).tobytes() == vectors(expected).tobytes()
    assert vectors(first).any()


@pytest.mark.parametrize(
    ("asked", "tables"),
    [
        ({}, 3),
        ({"columns": ["vector"]}, 3),
        ({"columns": ["source", "vector", "image_id"]}, 3),
        ({"columns": ["x_max", "image_id"]}, 3),
        ({"columns": []}, 3),
        ({"where": "scale_px = 110"}, 3),
        ({"where": "image_id = 'c' AND window_id > 2", "columns": ["window_id", "vector"]}, 1),
        ({"classes": ["cat"]}, 2),
        ({"classes": ["cat", "dog"], "where": "x_min < 5", "columns": ["vector"]}, 1),
        ({"where": "false"}, 0),
    ],
)
def test_conditions_and_columns_give_equal_tables(both, asked, tables):
    windows, held = both
    assert same(held.scan(**asked), windows.scan(**asked)) == tables


def test_both_kinds_say_the_same_of_themselves(both):
    windows, held = both
    assert (windows.kind, held.kind) == ("windows", "maps")
    assert held.spec == windows.spec == VectorSpec(50)
    assert len(held) == len(windows) == 26
    assert held.made_from["features"] == {"store": "maps"}
    assert held.verify() == []
    assert [held.record(entry.shard_id).images for entry in held.shards] == [
        {"a": 6, "b": 0, "c": 7},
        {"d": 13},
    ]


def test_a_vector_by_hand(tmp_path):
    """SPEC §4's map 1..16, pooled at a scale that doubles the image."""
    spec = MapSpec(2.0, 0.5, 0.0, 1, (1, 2, 3), "float32")
    vector = VectorSpec(14, "float32")
    row = {"image_id": ["a"], "window_id": [0], "scale_px": [8], "source": ["grid"]}
    box = {"x_min": [0.0], "y_min": [0.0], "x_max": [4.0], "y_max": [4.0]}
    schema = pa.schema(list(vector.schema())[:-1])
    rows = pa.table({**row, **box, "split": ["test"]}).select(schema.names).cast(schema)
    whole = torch.arange(1.0, 17.0).reshape(1, 4, 4)
    with ShardWriter(place(tmp_path), "s", vector.schema(), 1, spec) as writer:
        writer.write_maps(maps_table("a", 8, (2.0, 2.0), whole, spec))
        writer.write(rows)
        writer.commit("test", {"a": 1}, {}, "")
    (table,) = scan_shard(store.Store(place(tmp_path)), "s", ["vector"])
    expected = [16, 6, 8, 14, 16, 6, 7, 8, 10, 11, 12, 14, 15, 16]
    assert vectors(table).tolist() == [expected]


def test_only_the_rows_that_match_are_pooled_from_the_maps_they_need(held, monkeypatch):
    pooled, loaded = [], []
    pool, load = spp.pool, ShardMaps._load
    monkeypatch.setattr(
        maps_module.spp,
        "pool",
        lambda m, cells, *a, **k: (pooled.append(len(cells)), pool(m, cells, *a, **k))[1],
    )
    monkeypatch.setattr(
        ShardMaps, "_load", lambda self, place: (loaded.append(place.group), load(self, place))[1]
    )
    list(held.scan(["image_id", "scale_px", "x_min"]))
    assert (pooled, loaded) == ([], [])
    (table,) = held.scan(where="image_id = 'c' AND scale_px = 110")
    assert pooled == [len(table)]
    assert loaded == [5]  # two maps of a, two of b, and the second of c
    loaded.clear()
    list(held.scan())
    assert sorted(loaded) == [0, 0, 1, 1, 4, 5]  # each once a shard; b has no window


def test_row_groups_hold_whole_images_and_few_vectors(make_both):
    def groups(row_group_bytes):
        _, held = make_both(row_group_bytes=row_group_bytes)
        return [len(table) for table in held.scan(["image_id"])]

    assert groups(1) == [6, 7, 13]
    assert groups(601) == [13, 13]  # a's 6 vectors of 100 bytes leave room for c's
    assert groups(600) == [6, 7, 13]


def test_the_spec_travels_in_both_files(held):
    for folder in ("shards", "maps"):
        path = held.root.path / held.shards[0].name(folder)
        assert read_map_spec(pq.read_schema(path)) == SPEC
    assert read_map_spec(VectorSpec(50).schema()) is None


def test_one_record_names_both_files(held):
    content = json.loads(held.root.read("records/00000.json"))
    assert sorted(content["files"]) == ["maps", "shards"]
    assert {name: each["rows"] for name, each in content["files"].items()} == {
        "maps": 6,
        "shards": 13,
    }
    sizes = [path.stat().st_size for path in held.root.path.glob("[sm]*s/*.parquet")]
    assert held.totals.bytes == sum(sizes)
    assert [sorted(entry.files) for entry in held.shards] == [["maps", "shards"]] * 2


def test_maps_are_packed_and_vectors_absent(held):
    metadata = pq.read_metadata(held.root.path / held.shards[0].name("maps"))
    assert metadata.num_row_groups == metadata.num_rows == 6
    column = metadata.row_group(0).column(6)
    assert (column.path_in_schema, column.compression) == ("map", "ZSTD")
    assert column.statistics is None
    assert "vector" not in pq.read_schema(held.root.path / held.shards[0].name("shards")).names


def test_maps_written_together_have_groups_of_their_own(tmp_path, begun, one_map):
    with begun(tmp_path) as writer:
        writer.write_maps(pa.concat_tables([one_map("a", 50), one_map("a", 110)]))
        record = writer.commit("test", {"a": 0}, {}, "")
    assert pq.read_metadata(tmp_path / record.name("maps")).num_row_groups == 2


def test_equal_maps_give_equal_bytes(make_both, files):
    (_, one), (_, other) = make_both(), make_both()
    assert one.root != other.root
    assert files(one.root) == files(other.root)


def test_a_map_whose_channel_is_fastest_is_not_copied():
    whole = torch.zeros(3, 4, 5, dtype=torch.float16).permute(2, 0, 1)
    column = maps_table("a", 50, (1.0, 1.0), whole, SPEC)["map"].chunk(0)
    assert column.buffers()[2].address == whole.data_ptr()


def test_sql_answers_as_of_a_store_of_windows(both):
    windows, held = both
    for query in (
        "SELECT image_id, count(*) AS n FROM windows GROUP BY ALL ORDER BY 1",
        "SELECT * FROM windows ORDER BY image_id, window_id",
        "SELECT dot(vector, (SELECT vector FROM windows WHERE image_id = 'c' LIMIT 1)) AS d "
        "FROM windows WHERE window_id % 2 = 1 ORDER BY d",
    ):
        assert held.sql(query).equals(windows.sql(query))


def test_a_shard_without_rows(tmp_path, begun):
    with begun(tmp_path) as writer:
        record = writer.commit("test", {}, {"a": "torn"}, "")
    assert {name: file.rows for name, file in record.files.items()} == {"shards": 0, "maps": 0}
    assert sum(map(len, scan_shard(store.Store(place(tmp_path)), "s"))) == 0


def test_a_store_that_was_sent_reads_its_own_shard_alone(both):
    for held in both:
        classes = ["dog"]
        expected = list(scan_shard(held, "00001", classes=classes))
        _ = held.manifest, held.objects
        sent = pickle.dumps(held)
        there = pickle.loads(sent)
        # With everything of the other shard gone, nothing but the shard's own files can be read.
        held.root.remove("manifest.json")
        held.root.remove("records/00000.json")
        assert len(there) == 26
        assert there.totals == held.totals
        assert there.spec == held.spec
        assert there.record("00001").images == {"d": 13}
        assert there.objects_of("00001")["image_id"].to_pylist() == ["d", "d"]
        assert there.images_of("00001")["image_id"].to_pylist() == ["d"]
        assert same(scan_shard(there, "00001", classes=classes), expected) == 1
        with pytest.raises(InputError, match="has no record of shard 00000: see spp verify"):
            there.record("00000")
        assert not {"manifest", "objects"} & there.__dict__.keys()
        assert np.isfinite(vectors(expected[0])).all()


@pytest.mark.parametrize("layer", ["fc6", "fc7"])
def test_a_recipe_keeps_maps_of_pool5_only(layer):
    with pytest.raises(ValueError, match=f'{layer} would run .*: set layer = "pool5", or store'):
        Features(store="maps", layer=layer)
    assert Features(store="maps").layer == "pool5"
    assert Features(layer=layer).store == "windows"


def test_images_without_windows_have_maps_and_no_rows(tmp_path, image_rows, begun, one_map):
    with begun(tmp_path) as writer:
        writer.write_maps(one_map("b", 50))
        writer.write(image_rows("b", SPEC, VectorSpec(50)).drop_columns("vector"))
        writer.commit("test", {"b": 0}, {}, "")
    tables = list(scan_shard(store.Store(place(tmp_path)), "s"))
    assert [vectors(table).shape for table in tables] == [(0, 50)] * len(tables)
