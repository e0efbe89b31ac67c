"""The job server's edge without a cluster: scripted answers, and places that are no job server."""

import http.server
import socketserver
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from jobs import ray_jobs
from jobs.parcel import Parcel, load_for_cluster
from jobs.ray_jobs import JobServer
from pipeline.errors import InputError


def details(status: str, code: int | None = None, name: str = "spp-a-12") -> JobDetails:
    return JobDetails(
        type=JobType.SUBMISSION,
        submission_id=name,
        status=JobStatus(status),
        entrypoint="",
        driver_exit_code=code,
        message="It did.\nMore, last available logs",
    )


class Scripted:
    """A client that answers what it is told to."""

    def __init__(self, logs: list[Any] | None = None, states: list[JobDetails] | None = None):
        self.logs, self.states = logs or [], states or []
        self.submitted: list[str] = []

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        del job_id
        for each in self.logs.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each

    def get_job_info(self, job_id: str) -> JobDetails:
        del job_id
        return self.states.pop(0)

    def list_jobs(self) -> list[JobDetails]:
        return self.states

    def submit_job(self, *, submission_id: str, **_: Any) -> None:
        self.submitted.append(submission_id)
        if submission_id.endswith("-2"):
            raise RuntimeError("Request failed with status code 500: …\nJob x already exists.\n.")
        if submission_id.endswith("-3"):
            raise RuntimeError("Request failed with status code 500: …\\nno room\\n.")


def server(client: Scripted) -> JobServer:
    return JobServer("http://head:8265", client)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("status", "driver", "code", "done"),
    [
        ("SUCCEEDED", 0, 0, True),
        ("FAILED", 1, 1, False),
        ("FAILED", 2, 2, False),
        ("FAILED", 3, 3, True),  # finished, with quarantined images
        ("FAILED", 137, 1, False),
        ("FAILED", None, 1, False),  # it never ran
        ("STOPPED", None, 130, False),
    ],
)
def test_a_jobs_exit_code(status: str, driver: int | None, code: int, done: bool) -> None:
    ended = details(status, driver)
    assert (ray_jobs.exit_code(ended), ray_jobs.is_done(ended)) == (code, done)


def test_what_runs_is_not_done() -> None:
    assert not ray_jobs.is_done(details("RUNNING"))


def test_attempts_are_in_their_order_and_of_this_job_alone() -> None:
    names = ["spp-a-12-10", "spp-b-12", "spp-a-12", "spp-a-123", "spp-a-12-2", "x-spp-a-12"]
    found = server(Scripted(states=[details("FAILED", name=each) for each in names]))
    listed = [each.submission_id for each in found.attempts("spp-a-12")]
    assert listed == ["spp-a-12", "spp-a-12-2", "spp-a-12-10"]


def test_a_log_that_breaks_off_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_jobs, "POLL_S", 0)
    logs = [
        ["ab", "cde", RuntimeError("closed")],
        [OSError("away")],
        ["a", "bcd"],  # less than before: the end has not come yet
        ["abcd", "efg"],
    ]
    states = [details(each) for each in ("RUNNING", "RUNNING", "RUNNING", "SUCCEEDED")]
    said: list[str] = []
    assert server(Scripted(logs, states)).follow("x", said.append).status == "SUCCEEDED"
    assert said == ["ab", "cde", "fg"]


def test_a_cluster_that_goes_away_ends_the_following() -> None:
    class Gone(Scripted):
        def get_job_info(self, job_id: str) -> JobDetails:
            raise ConnectionError(f"refused {job_id}")

    with pytest.raises(InputError, match="lost the cluster at http://head:8265: refused x"):
        server(Gone([[]])).follow("x", print)


def test_who_comes_second_finds_the_job_there() -> None:
    parcel = Parcel(load_for_cluster("digits", None, None), "run", Path("/r"))
    client = Scripted()
    assert server(client).start(parcel, after=None) == parcel.name
    first = details("FAILED", 1, parcel.name)
    assert server(client).start(parcel, after=first) == f"{parcel.name}-2"
    second = details("FAILED", 1, f"{parcel.name}-2")
    with pytest.raises(InputError, match=r"http://head:8265 refused: no room$"):
        server(client).start(parcel, after=second)
    assert client.submitted == [parcel.name, f"{parcel.name}-2", f"{parcel.name}-3"]


def test_a_head_that_takes_no_jobs_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Starting(Scripted):
        def submit_job(self, *, submission_id: str, **_: Any) -> None:
            self.submitted.append(submission_id)
            if len(self.submitted) < 3:
                raise RuntimeError("Request failed with status code 500: No available agent to …")

    monkeypatch.setattr(ray_jobs, "POLL_S", 0)
    parcel = Parcel(load_for_cluster("digits", None, None), "run", Path("/r"))
    client = Starting()
    assert server(client).start(parcel, after=None) == parcel.name
    assert client.submitted == [parcel.name] * 3
    monkeypatch.setattr(ray_jobs, "AGENT_S", -1)
    with pytest.raises(InputError, match="No available agent"):
        server(Starting()).start(parcel, after=None)


def test_a_job_that_does_not_stop_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(Scripted):
        def stop_job(self, job_id: str) -> None:
            self.submitted.append(job_id)

    monkeypatch.setattr(ray_jobs, "STOP_S", -1)
    client = Deaf(states=[details("RUNNING")])
    with pytest.raises(InputError, match="spp-a-12 was told to stop, and after -1 s it still runs"):
        server(client).stop(details("RUNNING"))
    assert client.submitted == ["spp-a-12"]


def test_a_sentence_and_a_row_leave_the_log_out() -> None:
    ended = details("FAILED", 3)
    assert ray_jobs.sentence(ended) == "spp-a-12: failed. It did."
    row = ray_jobs.row(ended, "http://head:8265")
    assert (row["message"], row["exit_code"], row["status"]) == ("It did.", 3, "FAILED")


ANSWERS = {
    "/a": (404, b"no"),
    "/b": (200, b"<html>"),
    "/c": (200, b"{}"),
    "/d": (500, b""),
    "/e": (200, b"3"),
}


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """A web server that is no dashboard."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, said = ANSWERS[self.path.removesuffix("/api/version")]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ANSWERS)
def test_what_is_no_job_server_is_told(
    elsewhere: str, path: str, spp: Callable[..., Any], refused: Callable[..., None]
) -> None:
    said = spp("submit", "digits", "--runs", "/r", "--address", elsewhere + path)
    refused(said, 1, f"{elsewhere}{path} answers, but not as a Ray dashboard", "ray[default]")


def test_another_port_of_the_head_is_told(
    spp: Callable[..., Any], refused: Callable[..., None]
) -> None:
    """What Ray's own address, host:6379, leads to: a server that does not speak HTTP/1."""

    class Binary(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"\x00\x00\x18\x04\x00")

    with socketserver.TCPServer(("127.0.0.1", 0), Binary) as served:
        thread = threading.Thread(target=served.handle_request)
        thread.start()
        address = f"127.0.0.1:{served.server_address[1]}"
        said = spp("submit", "digits", "--runs", "/r", "--address", address)
        thread.join()
    refused(said, 1, f"http://{address} answers, but not as a Ray dashboard", "HEAD:8265")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("http://127.0.0.1:1", ["no Ray dashboard answers at http://127.0.0.1:1 (", "HEAD:8265"]),
        ("127.0.0.1:1", ["no Ray dashboard answers at http://127.0.0.1:1 ("]),
        ("ray://127.0.0.1:1", ["ray://127.0.0.1:1 is no address", "http://HEAD:8265"]),
        ("http://", ["http:// is no address"]),
    ],
)
def test_where_nothing_answers_is_told(
    address: str, parts: list[str], spp: Callable[..., Any], refused: Callable[..., None]
) -> None:
    refused(spp("submit", "digits", "--runs", "/r", "--address", address), 1, *parts)
