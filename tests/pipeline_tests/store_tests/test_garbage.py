"""Only what nothing names, and no attempt can still need, is removed."""

import os
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import replace

import pytest

from pipeline import store
from pipeline.errors import InputError, SppError
from pipeline.store import garbage, uploads
from pipeline.store.objects import PART_BYTES
from pipeline.store.place import place
from tests import small_store
from tests.s3 import BUCKET, Failing

OLD = -60  # seconds: everything is older than that
ORPHAN = "shards/00000-0123456789ab.parquet"
LEFT = {
    "store.json.tmp.0123456789ab": "left by an attempt that was killed",
    "shards/00000.tmp.0123456789ab": "left by an attempt that was killed",
    "records/00000.json.tmp.0123456789ab": "left by an attempt that was killed",
    ORPHAN: "written by an attempt that was not committed",
    "maps/00000-0123456789ab.parquet": "written by an attempt that was not committed",
    "shards/00009-0123456789ab.parquet": "written by an attempt that was not committed",
}


@pytest.fixture
def littered(root, files):
    small_store.make(root)
    before = files(root)
    for name in LEFT:
        root.replace(name, b"seven")
    return before


def test_what_nothing_names_is_listed_and_removed_when_told(root, files, littered):
    found = store.gc(root, older_than_s=OLD)
    assert {each.name: each.why for each in found} == LEFT
    assert {each.bytes for each in found} == {5}
    assert set(files(root)) == set(littered) | set(LEFT)
    assert store.gc(root, remove=True, older_than_s=OLD) == found
    assert files(root) == littered
    assert store.open(root).verify() == []
    assert store.gc(root, older_than_s=OLD) == []


def test_what_is_young_is_left_in_peace(root, files, littered):
    assert store.gc(root, remove=True) == []
    assert set(files(root)) == set(littered) | set(LEFT)


def test_age_is_told_in_seconds(tmp_path):
    root = store.open(small(tmp_path)).root
    day = 24 * 3600
    for name, age_s in (("young", day - 100), ("old", day + 100)):
        path = tmp_path / f"shards/{name}.tmp.0123456789ab"
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age_s,) * 2)
    (found,) = store.gc(root)
    assert found.name == "shards/old.tmp.0123456789ab"


def small(folder):
    small_store.make(place(folder))
    return folder


@pytest.mark.parametrize("name", ["shards/notes.txt", "shards/00000.parquet", "notes.txt", "x/y"])
def test_what_others_put_there_is_none_of_ours(root, littered, name):
    root.replace(name, b"x")
    assert name not in {each.name for each in store.gc(root, older_than_s=OLD)}


def test_before_a_store_is_finished_records_name_what_stays(root, files, littered):
    root.remove("manifest.json")
    root.replace("records/00007.json", b"")
    assert {each.name for each in store.gc(root, remove=True, older_than_s=OLD)} == set(LEFT)
    small_store.make(root)
    assert files(root) == littered | {"records/00007.json": b""}
    # Once there is a manifest, it alone says which shards there are.
    (found,) = store.gc(root, older_than_s=OLD)
    assert (found.name, found.why) == (
        "records/00007.json",
        "a record of a shard that the store no longer has",
    )


def test_a_record_goes_before_the_rows_that_it_names(root):
    small_store.make(root)
    shards = store.open(root).shards
    store.finish(root, [shards[0].shard_id])
    found = [each.name for each in store.gc(root, older_than_s=OLD)]
    assert found == ["records/00001.json", shards[1].name("shards")]


def test_what_is_committed_meanwhile_stays(root, files, monkeypatch):
    """An attempt commits its rows between the listing and the removal."""
    record = small_store.write_shard(root, "00000", False)
    data = root.read("records/00000.json")
    root.remove("records/00000.json")
    named = garbage._named

    def commit_then(*arguments):
        names = named(*arguments)
        root.replace("records/00000.json", data)
        return names

    monkeypatch.setattr(garbage, "_named", commit_then)
    assert store.gc(root, remove=True, older_than_s=OLD) == []
    assert set(files(root)) == {record.name("shards"), "records/00000.json"}


@pytest.fixture
def brought(root):
    """The rows of an attempt that was killed before it made its record, long ago."""
    record = small_store.write_shard(root, "00000", False)
    root.remove("records/00000.json")
    return record.name("shards")


def when(patch, root, method, name, act):
    """Act once, just before the place is asked this of a file."""
    original, left = getattr(type(root), method), [act]

    def call(self, asked, *more):
        if asked == name and left:
            left.pop()()
        return original(self, asked, *more)

    patch.setattr(type(root), method, call)


def test_what_is_brought_again_meanwhile_stays(root, brought, monkeypatch):
    """Of the same bytes, so of the same name; its record comes in a moment."""

    def again():
        root.replace(brought, root.read(brought))

    listing = type(root).listing
    with monkeypatch.context() as patch:
        patch.setattr(type(root), "listing", lambda *asked: aged(listing(*asked)))
        when(patch, root, "read", "records/00000.json", again)
        assert store.gc(root, remove=True, older_than_s=60) == []
    assert root.read(brought) is not None
    assert [each.name for each in store.gc(root, remove=True, older_than_s=OLD)] == [brought]
    assert root.read(brought) is None


def aged(listed):
    """As if all had been written an hour before."""
    return {name: replace(each, modified_s=each.modified_s - 3600) for name, each in listed.items()}


def commit(root):
    small_store.write_shard(root, "00000", False)


def test_a_record_made_while_its_rows_are_removed_does_not_stand(root, brought, monkeypatch):
    """The attempt ends just before the removal: too late for `gc` to see it, too early for it."""
    when(monkeypatch, root, "remove", brought, lambda: commit(root))
    assert [each.name for each in store.gc(root, remove=True, older_than_s=OLD)] == [brought]
    assert store.committed(root) == set()


def test_rows_removed_before_their_record_is_made_are_missed(root, brought, files, monkeypatch):
    """`gc` is done before the record; the attempt takes it back and says so."""

    def collect():
        assert len(store.gc(root, remove=True, older_than_s=OLD)) == 1

    with monkeypatch.context() as patch:
        when(patch, root, "create", "records/00000.json", collect)
        with pytest.raises(SppError, match=rf"{brought}, written with [\d,]+ bytes, is gone; its"):
            commit(root)
    assert files(root) == {}
    commit(root)
    assert set(files(root)) == {brought, "records/00000.json"}


def test_nothing_is_judged_by_a_damaged_manifest(root, files):
    small_store.make(root)
    root.replace("manifest.json", b"{")
    root.replace("records/00000.json", b"{")
    before = files(root)
    with pytest.raises(InputError, match=r"manifest.json cannot be read, .* run spp fsck first"):
        store.gc(root, remove=True, older_than_s=OLD)
    assert files(root) == before


def test_rows_of_a_torn_record_stay_for_it_to_be_rebuilt(root, files):
    small_store.make(root)
    root.remove("manifest.json")
    root.replace("records/00000.json", b"{")
    before = files(root)
    assert store.gc(root, remove=True, older_than_s=OLD) == []
    assert files(root) == before
    store.fsck(root)
    assert store.open(root).verify() == []


LARGE = 2 * PART_BYTES  # bytes: goes up in parts


@pytest.fixture
def cut_off(s3_server):
    """A store on S3 that a killed process had begun to upload a large file to."""
    root = place(f"s3://{BUCKET}/{uuid.uuid4().hex}")
    small_store.make(root)
    s3_server.failing.append(Failing("PUT", "partNumber=2", 9, "hang", 60))
    code = f"""
import pathlib, sys
from pipeline.store.place import place
spooled = pathlib.Path(sys.argv[1])
spooled.write_bytes(bytes({LARGE}))
place({str(root)!r}).bring(spooled, {ORPHAN!r})
"""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", code, f"{folder}/x"],
            env={**os.environ, **s3_server.environment()},
        )
        while s3_server.failing[-1].seen == 0 or not root.uploads() or not root.uploads()[0].bytes:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
    s3_server.failing.clear()
    return root


def test_parts_of_an_upload_that_was_killed(cut_off, files):
    before, decade = files(cut_off), 10 * 365 * 24 * 3600  # the server dates all of them 2010
    beside = cut_off.filesystem.call_s3
    where = {"Bucket": BUCKET, "Key": f"{str(cut_off).rpartition('/')[2]}/notes.txt"}
    beside("create_multipart_upload", **where)
    beside("create_multipart_upload", **where | {"Key": where["Key"].replace("/", "2/shards/")})
    assert store.gc(cut_off, remove=True, older_than_s=3 * decade) == []
    garbage = store.Garbage(ORPHAN, PART_BYTES, "an upload in parts that never ended")
    assert store.gc(cut_off) == [garbage]
    assert store.gc(cut_off, remove=True) == [garbage]
    assert store.gc(cut_off) == []
    assert files(cut_off) == before
    assert [upload.name for upload in cut_off.uploads()] == ["notes.txt"]


def test_uploads_are_listed_to_the_last_page():
    """S3 lists a thousand at a time. The server here lists all at once, so this is its answer."""
    marked = {"IsTruncated": True, "NextKeyMarker": "k", "NextUploadIdMarker": "u"}
    answers, asked = [{"Uploads": [1], **marked}, {"Uploads": [2], "IsTruncated": False}], []

    def call(operation, **request):
        asked.append(request)
        return answers[len(asked) - 1]

    markers = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
    assert list(uploads.pages(call, "list_multipart_uploads", markers, Prefix="p/")) == [1, 2]
    assert asked == [{"Prefix": "p/"}, {"Prefix": "p/", "KeyMarker": "k", "UploadIdMarker": "u"}]
