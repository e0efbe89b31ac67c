"""Who may talk to the page, and who may change something."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from jobs.serve.gate import Gate

TOKEN = "a token of 24 characters"


def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} {request.url.query}")


def client(token: str | None = None, host: str = "127.0.0.1:8765") -> TestClient:
    app = Starlette(routes=[Route("/", page, methods=["GET", "POST"])])
    return TestClient(Gate(app, token), base_url=f"http://{host}")


def test_this_machine_needs_nothing() -> None:
    for host in ("127.0.0.1:8765", "localhost", "[::1]:8765"):
        answer = client(host=host).get("/")
        assert (answer.status_code, answer.text) == (200, "GET ")
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_a_foreign_name_for_this_machine_is_refused() -> None:
    answer = client(host="evil.example:8765").get("/")
    assert (answer.status_code, answer.text) == (403, "this page is not called 'evil.example'")


def test_half_a_name_is_refused() -> None:
    assert client().get("/", headers={"host": "[::1"}).status_code == 403


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("cross-site no-cors image", 403),
        ("cross-site navigate iframe", 403),
        ("cross-site navigate document", 200),  # a person follows a link
        ("same-origin no-cors image", 200),
    ],
)
def test_other_pages_cannot_make_it_work(said: str, status: int) -> None:
    names = (f"sec-fetch-{name}" for name in ("site", "mode", "dest"))
    headers = dict(zip(names, said.split(), strict=True))
    assert client().get("/", headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/search", "/near"])
def test_other_pages_cannot_send_visitors_to_search(path: str) -> None:
    sent = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    answer = client().get(path, headers=sent | {"sec-fetch-dest": "document"})
    assert (answer.status_code, "open it yourself" in answer.text) == (403, True)
    assert client().get(path).status_code == 404  # that page has no search; it got so far


@pytest.mark.parametrize("token", ["", " "])
def test_a_blank_token_is_none(token: str) -> None:
    with pytest.raises(ValueError, match="a blank token would let everybody in"):
        client(token)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),  # what a foreign page's form can send
        ({"x-spp": "1"}, 200),
        ({"x-spp": "1", "origin": "http://127.0.0.1:8765"}, 200),
        ({"x-spp": "1", "origin": "http://127.0.0.1:9999"}, 403),
        ({"x-spp": "1", "origin": "null"}, 403),
    ],
)
def test_only_the_page_itself_changes_anything(headers: dict[str, str], status: int) -> None:
    assert client().post("/", headers=headers).status_code == status


def test_a_token_opens_once_and_is_then_a_cookie() -> None:
    person = client(TOKEN, host="10.0.0.7:8765")
    assert person.get("/").status_code == 401
    assert person.get("/?token=another").status_code == 401
    answer = person.get(f"/?start=3&token={TOKEN}", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].endswith("/?start=3")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert person.get("/?start=3").text == "GET start=3"


def test_programs_send_the_token_as_they_do() -> None:
    program = client(TOKEN, host="10.0.0.7:8765")
    assert program.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert program.get("/", headers={"authorization": "Bearer other"}).status_code == 401


def test_a_token_changes_nothing_for_who_may_write() -> None:
    program = client(TOKEN, host="10.0.0.7:8765")
    assert program.post(f"/?token={TOKEN}", headers={"x-spp": "1"}).status_code == 401
    both = {"x-spp": "1", "authorization": f"Bearer {TOKEN}"}
    assert program.post("/", headers=both).status_code == 200
    assert program.post("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 403
