"""Maps that cannot be written, are damaged, or do not belong to their windows."""

from contextlib import suppress

import pyarrow as pa
import pytest
import torch

from pipeline import store
from pipeline.errors import InputError
from pipeline.store import MapSpec, ShardWriter, VectorSpec, maps_table
from pipeline.store.place import place
from pipeline.store.scan import scan_shard

SPEC = MapSpec(8.0, 3.5, 1.5, 5, (3, 1), "float16")


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_failure_leaves_neither_file(tmp_path, image_rows, begun, one_map):
    with suppress(KeyError), begun(tmp_path) as writer:
        writer.write(image_rows("a", SPEC, VectorSpec(50)).drop_columns("vector"))
        writer.write_maps(one_map())
        raise KeyError
    assert files(tmp_path) == []


@pytest.mark.parametrize("folder", ["shards", "maps"])
def test_a_file_that_cannot_be_put_in_its_place_leaves_no_commit(tmp_path, folder, begun, one_map):
    with begun(tmp_path) as writer:  # to learn its name
        writer.write_maps(one_map())
        path = tmp_path / writer.commit("test", {"a": 0}, {}, "").name(folder)
    path.unlink()
    path.mkdir()
    (tmp_path / "records/s.json").unlink()
    with begun(tmp_path) as writer:
        writer.write_maps(one_map())
        with pytest.raises(OSError, match="directory"):
            writer.commit("test", {"a": 0}, {}, "")
    assert list((tmp_path / "records").iterdir()) == []
    assert all(".tmp." not in name for name in files(tmp_path))


def problems(held):
    return [(fault.shard_id, fault.problem) for fault in held.verify()]


def test_faults_of_the_maps_file(held):
    name = held.shards[0].name("maps")
    path = held.root.path / name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    says = f"{name} has {len(data) - 1:,} bytes, its record says {len(data):,}"
    assert problems(held) == [("00000", says)]
    path.write_bytes(bytes([*data[:999], data[999] ^ 1, *data[1000:]]))
    says = f"{name} has other bytes than were written: its sha256 differs"
    assert problems(held) == [("00000", says)]
    path.unlink()
    assert problems(held) == [("00000", f"{name} is missing")]


@pytest.mark.parametrize("name", ["00002.parquet", "00000.parquet.tmp.12ab"])
def test_a_foreign_file_among_the_maps(both, name):
    windows, held = both
    for each in (held, windows):
        each.root.replace(f"maps/{name}", b"x")
        ((file, problem),) = problems(each)
        assert file == name
        assert problem.startswith("is not named by the manifest")


@pytest.mark.parametrize(
    ("maps", "says"),
    [
        ([("a", 50), ("a", 110)], None),
        ([("a", 50)], "has windows of image a at scale 110, but no such map"),
        ([("a", 110), ("a", 50), ("a", 50)], "holds a map twice, or fewer than its record says"),
        ([("a", 50), ("a", 110), ("z", 50)], "holds a map of image z, which its record does not"),
    ],
)
def test_maps_and_windows_that_do_not_belong_together(
    tmp_path, held, image_rows, maps, says, one_map
):
    held.root.remove("records/00000.json")
    held.root.remove(held.shards[0].name("maps"))
    held.root.remove(held.shards[0].name("shards"))
    with ShardWriter(held.root, "00000", VectorSpec(50).schema(), 1, SPEC) as writer:
        for key in maps:
            writer.write_maps(one_map(*key))
        writer.write(image_rows("a", SPEC, VectorSpec(50)).drop_columns("vector"))
        writer.commit("test", {"a": 6, "b": 0, "c": 0}, {}, "")
    store.finish(held.root, ["00000", "00001"])
    found = problems(store.open(held.root))
    if says is None:
        assert found == []
    else:
        ((shard_id, problem),) = found
        assert shard_id == "00000"
        assert problem.startswith(says)


def test_a_missing_map_is_named_when_it_is_needed(tmp_path, image_rows, begun, one_map):
    with begun(tmp_path) as writer:
        writer.write_maps(one_map("a", 110))
        writer.write(image_rows("a", SPEC, VectorSpec(50)).drop_columns("vector"))
        writer.commit("test", {"a": 6}, {}, "")
    held = store.Store(place(tmp_path))
    assert len(list(scan_shard(held, "s", ["image_id"]))) == 1
    with pytest.raises(
        InputError, match=r"s-.*.parquet has no map of image a at scale 50: see spp"
    ):
        list(scan_shard(held, "s"))


def test_a_map_of_another_size_than_its_row_says(tmp_path, image_rows, begun, one_map):
    tables = [one_map("a", 50), one_map("a", 110)]
    column = pa.array([7], pa.int32())
    tables[0] = tables[0].set_column(5, tables[0].schema.field("cols"), column)
    with begun(tmp_path) as writer:
        for table in tables:
            writer.write_maps(table)
        writer.write(image_rows("a", SPEC, VectorSpec(50)).drop_columns("vector"))
        writer.commit("test", {"a": 6}, {}, "")
    with pytest.raises(InputError, match=r"holds a map of 360 bytes where 6×7×5 numbers"):
        list(scan_shard(store.Store(place(tmp_path)), "s"))


@pytest.mark.parametrize("change", [{"channels": 6}, {"levels": (2, 1)}, {"dtype": "float32"}])
def test_maps_that_give_other_vectors_are_refused(tmp_path, change):
    spec = MapSpec(**{**SPEC.__dict__, **change})
    with pytest.raises(InputError, match="only layer pool5 can be kept as maps"):
        ShardWriter(place(tmp_path), "s", VectorSpec(50).schema(), 1, spec)


def test_a_map_that_is_not_narrowed_is_refused():
    with pytest.raises(ValueError, match=r"image a at scale 50: a map of 5 channels of torch.flo"):
        maps_table("a", 50, (1.0, 1.0), torch.zeros(5, 2, 2), SPEC)
    with pytest.raises(ValueError, match=r"4 channels of torch.float16; the store keeps 5 of"):
        maps_table("a", 50, (1.0, 1.0), torch.zeros(4, 2, 2, dtype=torch.float16), SPEC)
