"""An object store that is slow, refuses, or whose answers are lost."""

import pickle
import uuid

import fsspec
import numpy as np
import pytest

from pipeline import store
from pipeline.errors import InputError, UnreachableError
from pipeline.store import objects
from pipeline.store.place import place, probe
from tests import small_store
from tests.s3 import BUCKET, Failing


@pytest.fixture
def root(s3_server):
    yield place(f"s3://{BUCKET}/{uuid.uuid4().hex}")
    s3_server.failing.clear()


@pytest.fixture
def impatient(monkeypatch):
    """Two tries of half a second each."""
    options = {"retries": {"mode": "standard", "total_max_attempts": 2}, "read_timeout": 0.5}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": options})
    objects._filesystem.cache_clear()
    yield
    objects._filesystem.cache_clear()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    root = place(tmp_path_factory.mktemp("undisturbed") / "store")
    small_store.make(root)
    return {
        f"{folder}/{name}".lstrip("/"): root.read(f"{folder}/{name}".lstrip("/"))
        for folder in ("", "shards", "records")
        for name in root.listing(folder)
    }


def test_a_store_there_has_the_bytes_of_one_here(root, files, expected):
    small_store.make(root)
    assert files(root) == expected
    assert store.open(root).verify() == []
    sent = pickle.loads(pickle.dumps(store.open(root)))
    assert len(sent) == sent.totals.rows == 3 + 4 + 5
    assert sent.record("00001").quarantined == {"d": "torn"}


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_a_request_that_is_refused_is_made_again(root, files, expected, s3_server, method):
    small_store.make(root)
    s3_server.failing.append(Failing(method, root.uri.rpartition("/")[2], 2, "503"))
    held = store.open(root)
    root.remove("records/00001.json")
    assert small_store.make(root) == ["00001"]
    assert held.verify() == []
    assert files(root) == expected
    assert s3_server.failing[0].seen == (2 if method != "HEAD" else s3_server.failing[0].seen)


STEPS = {
    "store.json": 0,
    "images.parquet": 0,
    "shards/00000-": 0,
    "records/00000.json": 0,
    "shards/00001-": 1,
    "manifest.json": 2,
}


@pytest.mark.parametrize(("part", "committed"), STEPS.items())
def test_a_store_that_keeps_refusing(root, files, expected, s3_server, part, committed, impatient):
    s3_server.failing.append(Failing("PUT", f"/{part}", 1000, "503"))
    says = (
        f"{root}/{part}.* could not be .* after several tries .*run the same command again: what is"
    )
    with pytest.raises(UnreachableError, match=says):
        small_store.make(root)
    assert len(store.committed(root)) == committed
    assert not any(part in name for name in files(root))
    s3_server.failing.clear()
    assert len(small_store.make(root)) == 2 - committed
    assert files(root) == expected


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_store_that_does_not_answer(root, files, expected, s3_server, method, impatient):
    part = {"PUT": "/records/00001.json", "GET": "prefix="}[method]  # a listing
    s3_server.failing.append(Failing(method, part, 1000, "hang", late_s=10))
    with pytest.raises(UnreachableError, match=r"after several tries \(.*[Tt]imeout"):
        small_store.make(root)
    s3_server.failing.clear()
    small_store.make(root)
    assert files(root) == expected


def test_no_put_asks_for_leave_to_send_its_bytes(root, s3_server):
    """It would wait for an answer for ever: aiohttp then forgets its timeout."""
    before = len(s3_server.asked_leave)
    small_store.make(root)
    with root.spool("shards/x") as aside:
        aside.write_bytes(bytes(40_000_000))  # three parts
        root.bring(aside, "shards/x")
    assert s3_server.asked_leave[before:] == []


def test_an_answer_that_comes_too_late(root, files, expected, s3_server, impatient):
    """The record is written, its writer does not hear of it, and asks again: it is its own."""
    s3_server.failing.append(Failing("PUT", "/records/00000.json", 1, "late", late_s=1))
    assert small_store.make(root) == ["00000", "00001"]
    assert s3_server.failing[0].seen == 1
    assert len([each for each in s3_server.requests if "/records/00000.json" in each[1]]) >= 2
    assert files(root) == expected


def test_an_upload_that_fails_is_taken_back(root, s3_server, impatient):
    with root.spool("shards/x") as aside:
        aside.write_bytes(bytes(40_000_000))  # three parts
        s3_server.failing.append(Failing("PUT", "partNumber=3", 1000, "503"))
        with pytest.raises(
            UnreachableError, match=r"shards/x could not be uploaded after several tries"
        ):
            root.bring(aside, "shards/x")
        ours = root.uri.removeprefix(f"s3://{BUCKET}/")  # other tests leave uploads on purpose
        begun = root.filesystem.call_s3("list_multipart_uploads", Bucket=BUCKET, Prefix=ours)
        assert begun.get("Uploads", []) == []
        assert root.listing("shards") == {}
        s3_server.failing.clear()
        root.bring(aside, "shards/x")
    assert root.listing("shards")["x"].bytes == 40_000_000


def test_what_cannot_be_read_is_not_taken_for_damage(root, s3_server, impatient):
    """Half an hour without an answer is no reason to make shards again."""
    small_store.make(root)
    held = store.open(root)
    s3_server.failing.append(Failing("GET", "/shards/", 1000, "503"))
    for read in (held.verify, lambda: store.fsck(root), lambda: list(held.scan())):
        with pytest.raises(UnreachableError, match=r"could not be (read|opened)"):
            read()
    s3_server.failing[0] = Failing("GET", "parquet", 1000, "503")
    with pytest.raises(UnreachableError, match=r"objects.parquet could not be (read|opened)"):
        _ = held.objects
    s3_server.failing.clear()
    assert held.verify() == []


def test_two_that_create_at_once_are_asked_to_try_again(root, files, expected, s3_server):
    """S3 answers 409 where it could not decide; then one of them is first."""
    s3_server.failing.append(Failing("PUT", "/records/00000.json", 2, "409"))
    assert small_store.make(root) == ["00000", "00001"]
    assert s3_server.failing[0].seen == 2
    assert files(root) == expected
    s3_server.failing[:] = [Failing("PUT", "/records/00000.json", 1, "409")]
    assert not root.create("records/00000.json", b"")
    assert files(root) == expected


def test_who_is_asked_to_try_again_for_ever_gives_up(root, s3_server, monkeypatch):
    monkeypatch.setattr(objects, "CONFLICT_S", 0.001)
    s3_server.failing.append(Failing("PUT", "/a", 1000, "409"))
    with pytest.raises(UnreachableError, match=r"/a could not be created: 6 times another request"):
        root.create("a", b"")
    assert s3_server.failing[0].seen == 6


def test_a_store_that_does_not_say_which_condition_failed(root, s3_server):
    """Others than Amazon's leave that away; s3fs then takes it for an error."""
    assert root.create("a", b"first")
    s3_server.failing.append(Failing("PUT", "/a", 1, "412"))
    assert not root.create("a", b"second")
    assert s3_server.failing[0].seen == 1
    s3_server.failing[0].times += 1
    with pytest.raises(UnreachableError, match="It did not hold"):
        root.replace("a", b"third")  # there was no condition


def test_what_is_refused_for_good_is_asked_once_and_not_said_to_have_been_tried(root, s3_server):
    s3_server.failing.append(Failing("PUT", "/a", 1000, "403"))
    with pytest.raises(UnreachableError, match=r"/a could not be created \(PermissionError: Acc"):
        root.create("a", b"")
    assert s3_server.failing[0].seen == 1


def test_a_bucket_that_does_not_exist(s3_server):
    root = place("s3://sqq/run")
    with root.spool("shards/x") as aside:
        aside.write_bytes(b"x")
        for write in (
            lambda: root.create("a", b""),
            lambda: root.replace("a", b""),
            lambda: root.bring(aside, "shards/x"),
            lambda: probe(root),
        ):
            with pytest.raises(InputError, match=r"is there a bucket sqq\? Correct the address"):
                write()
    assert root.listing("records") == {}
    with pytest.raises(InputError, match=r"s3://sqq/run is not a store"):
        store.open(root)


def test_credentials_that_are_missing(root, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 1}})
    objects._filesystem.cache_clear()
    with pytest.raises(UnreachableError, match=r"NoCredentialsError.*the credentials"):
        root.create("a", b"")
    objects._filesystem.cache_clear()


def test_a_query_fetches_the_columns_that_it_names(root, s3_server, make_store, made):
    """Of two shards of 5 MB, nearly all of it vectors; of small files DuckDB reads all."""
    windows, vectors = [[k, 0, k + 5, 9] for k in range(7)], np.ones((7, 59_999), np.float32)
    shards = [{name: made(vectors, windows) for name in names} for names in ("abc", "def")]
    held = make_store(root, shards, 59_999)
    for query, low, high in (
        ("SELECT count(*) AS n FROM windows", 0, 0.1),
        ("SELECT source, avg(x_max - x_min) AS n FROM windows GROUP BY 1", 0, 0.1),
        ("SELECT sum(dot(vector, vector)) AS n FROM windows", 0.95, 1.1),
    ):
        before = s3_server.sent_bytes
        assert len(held.sql(query)) == 1
        assert low < (s3_server.sent_bytes - before) / held.totals.bytes < high, query
