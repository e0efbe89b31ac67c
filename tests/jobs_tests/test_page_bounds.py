"""What one visitor may take of the page, so that it is there for the others."""

import asyncio
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from jobs.asked import Asked
from jobs.serve import patience, requests, searching
from jobs.serve.apart import Apart
from jobs.serve.app import build
from jobs.serve.decoded import Decoded
from jobs.serve.searching import AT_ONCE, Found, Searching
from pipeline import machine
from pipeline.errors import InputError
from pipeline.report import crops

CHANGE = {"x-spp": "1", "accept": "*/*"}
ENDLESS = (
    "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE hash(a.range * b.range) = 3"
)


def test_a_search_has_its_time(person: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "SEARCH_S", 0.3)
    answer = person.get(f"/search?q={quote(ENDLESS)}")
    assert answer.status_code == 400
    assert "the query took more than 0.3 s, the limit here: narrow it" in answer.text


def test_a_search_ends_when_its_visitor_leaves(asked: Asked) -> None:
    said: list[bytes] = []
    coming = iter([{"type": "http.request"}, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.2)
        return next(coming)

    async def send(message: Any) -> None:
        said.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/search",
        "query_string": f"q={quote(ENDLESS)}".encode(),
        "headers": [(b"host", b"127.0.0.1")],
    }
    asyncio.run(build(asked)(scope, receive, send))
    assert "nobody waits for its answer" in b"".join(said).decode()


def test_marks_do_not_wait_behind_searches(
    person: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = person.post("/classes", json={"name": "thing"}, headers=CHANGE).json()["key"]
    gate, begun, running = threading.Event(), threading.Semaphore(0), []

    def sql(*given: object) -> Found:
        running.append(given)
        begun.release()
        assert gate.wait(20)
        return Found("rows")

    monkeypatch.setattr(Searching, "sql", sql)
    with ThreadPoolExecutor(50) as many:  # more than there are threads for all that is asked
        answers = [many.submit(person.get, "/search?q=SELECT 1") for _ in range(50)]
        for _ in range(AT_ONCE):
            assert begun.acquire(timeout=20)
        said = {"key": key, "image_id": "test_00004", "box": [1, 2, 30, 40], "verdict": "yes"}
        told = person.post("/mark", json=said, headers=CHANGE).json()
        assert (told, len(running)) == ({"yes": 1, "no": 0}, AT_ONCE)
        gate.set()
        assert {each.result().status_code for each in answers} == {200}
    assert len(running) == 50


def test_what_is_sent_has_an_end(person: TestClient) -> None:
    for data, status in (("x" * 65_537, 413), ("[" * 65_000, 400), ("[]", 400)):
        answer = person.post("/mark", content=data, headers=CHANGE)
        assert answer.status_code == status
        assert answer.json()["error"]
    assert person.post("/classes", json={"name": "x" * 200}, headers=CHANGE).status_code == 200
    refused = person.post("/classes", json={"name": "y" * 201}, headers=CHANGE)
    assert refused.json() == {"error": "the class's name has 201 characters: give at most 200"}
    assert "y" * 201 not in person.get("/").text


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Five images of 300 bytes of pixels, each of one colour."""
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.new("RGB", (10, 10), (number, number, number)).save(file)
    return files


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, as they are."""
    names, read = [], crops.read

    def noted(file: Path) -> np.ndarray:
        names.append(file.stem)
        return read(file)

    monkeypatch.setattr(crops, "read", noted)
    return names


def test_the_last_pixels_are_kept_as_far_as_they_fit(
    photographs: list[Path], decoded: list[str]
) -> None:
    held = Decoded(kept_bytes=700)  # two of them
    seen = [int(held.pixels(photographs[number]).max()) for number in (0, 1, 0, 2, 0, 1, 1)]
    assert seen == [0, 1, 0, 2, 0, 1, 1]
    assert decoded == ["0", "1", "2", "1"]
    none = Decoded(kept_bytes=299)
    for _ in range(2):
        assert none.pixels(photographs[3]).shape == (10, 10, 3)
    assert decoded[4:] == ["3", "3"]


def test_no_more_are_decoded_at_once_than_there_are_cpus(
    photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpus", lambda: 2)
    together, most, read = [], [], crops.read
    both = threading.Barrier(2)

    def slow(file: Path) -> np.ndarray:
        together.append(file)
        most.append(len(together))
        if len(most) <= 2:
            both.wait(20)
        pixels = read(file)
        together.remove(file)
        return pixels

    monkeypatch.setattr(crops, "read", slow)
    held = Decoded()
    with ThreadPoolExecutor(10) as many:
        seen = list(many.map(held.pixels, photographs + photographs))
    assert [int(each.max()) for each in seen] == [0, 1, 2, 3, 4] * 2
    assert max(most) == 2


def test_a_body_is_not_read_to_its_end(asked: Asked) -> None:
    parts, said = iter(range(1000)), []

    async def receive() -> dict[str, Any]:
        next(parts)
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"x-spp", b"1")]
    scope = {"type": "http", "method": "POST", "path": "/mark", "query_string": b""}
    asyncio.run(build(asked)(scope | {"headers": headers}, receive, send))
    assert (said[0]["status"], next(parts)) == (413, 66)
    assert "65,536 bytes" in json.loads(said[1]["body"])["error"]


def test_a_body_that_does_not_come_is_not_waited_for(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "BODY_S", 0.05)
    said = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError("it was waited for")

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"x-spp", b"1")]
    scope = {"type": "http", "method": "POST", "path": "/mark", "query_string": b""}
    asyncio.run(build(asked)(scope | {"headers": headers}, receive, send))
    assert said[0]["status"] == 408


@pytest.mark.parametrize(
    "address",
    [
        "/search?q=select 'infinity'::date",
        "/search?q=select '294247-01-10 04:00:54'::timestamp",
        "/search?q=" + "(" * 5000,
        "/picture?id=test_00000&box=-1e308,-1e308,1e308,1e308",
        "/picture?id=test_00000&box=1,1,1e999,nan",
    ],
)
def test_what_cannot_be_shown_is_said(person: TestClient, address: str) -> None:
    assert person.get(address).status_code == 400


def test_connections_that_ask_for_nothing_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REQUEST_S", 2.0)
    monkeypatch.setattr(patience.resource, "getrlimit", lambda _: (16, 16))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def play() -> list[bytes]:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=patience.Patient, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        port = listener.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        said = [await reader.readuntil(b"\r\n\r\n")]
        writer.write(b"G")  # of a second request
        more = [await asyncio.open_connection("127.0.0.1", port) for _ in range(11)]
        opened = [(reader, writer), *more]
        more[0][1].write(b"G")  # and no more
        for reader, _ in (opened[0], opened[1], opened[2], opened[11]):
            try:
                said.append(await asyncio.wait_for(reader.read(), 20))
            except ConnectionError:  # the same, as the system says it
                said.append(b"")
        for _, writer in opened:
            writer.close()
        server.should_exit = True
        await serving
        listener.close()
        return said

    answered, *ended = asyncio.run(play())
    assert answered.startswith(b"HTTP/1.1 204")
    assert ended == [b""] * 4


def test_searches_are_in_a_process_that_can_be_ended(
    tiny_run: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    never, left = threading.Event(), threading.Event()
    apart = Apart(f"{tiny_run.parent / 'tiny.toml'}:test", tiny_run, None, None)
    query = "SELECT * FROM windows ORDER BY image_id, window_id"
    with closing(apart):
        assert apart.sql(query, 3, 5, never) == Searching(asked).sql(query, 3, 5, never)
        with pytest.raises(InputError, match="the query failed: Parser Error"):
            apart.sql("SELECT 1) TO 'x'; COPY (SELECT 2", 0, 5, never)
        # One step of DuckDB, which takes half a minute and hardly any memory.
        one_step = "SELECT levenshtein(repeat('a', 90000), repeat('b', 90000))"
        monkeypatch.setattr(searching, "SEARCH_S", 0.5)
        with pytest.raises(InputError, match=r"nothing came for 2\.5 s, in one step of a query"):
            apart.sql(one_step, 0, 5, never)
        monkeypatch.setattr(searching, "SEARCH_S", 60.0)
        left.set()
        with pytest.raises(InputError, match="nobody waits for its answer"):
            apart.sql(one_step, 0, 5, left)
        (child,) = apart._idle
        with ThreadPoolExecutor(1) as one:
            answer = one.submit(apart.sql, one_step, 0, 5, never)
            end_s = time.monotonic() + 60
            while child in apart._idle or not child._is_ready:
                assert time.monotonic() < end_s
                time.sleep(0.01)
            child._process.kill()
            with pytest.raises(InputError, match="may have taken more memory than a search may"):
                answer.result()
        (child,) = apart._idle
        child.end()  # while it waits: the next question finds another
        assert apart.sql("SELECT 1 AS one", 0, 5, never).rows == (["1"],)
