"""Classes on the page: who has said what, what counts after undo, how good a class has become."""

import re
import time
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from jobs.asked import Asked
from jobs.serve import class_page
from jobs.serve.app import build
from jobs.serve.class_page import _path
from pipeline.teaching import Mark, Shelf

CHANGE = {"x-spp": "1", "accept": "*/*"}
ODD = 'a <b>zebra</b> "quoted" & \'; DROP -- 🦓'
BOX = [1, 2, 30, 40.1]
KEPT = [1, 2, 30, 40.099998474121094]  # the float32 next to it


def send(person: TestClient, address: str, **content: Any) -> dict[str, Any]:
    answer = person.post(address, json=content, headers=CHANGE)
    assert answer.status_code == 200, answer.text
    return answer.json()


def begin(person: TestClient, name: str) -> str:
    return send(person, "/classes", name=name)["key"]


def mark(person: TestClient, key: str, verdict: str, box: list[float] = BOX, **more: Any) -> None:
    send(person, "/mark", **{"key": key, "image_id": "test_00004"} | more, box=box, verdict=verdict)


def visitor(asked: Asked) -> TestClient:
    return TestClient(build(asked), base_url="http://127.0.0.1", headers={"accept": "text/html"})


def test_two_without_a_name_do_not_undo_each_other(asked: Asked) -> None:
    one, other = visitor(asked), visitor(asked)
    for person in (one, other, one):  # coming back changes nothing
        person.get("/")
    key = begin(one, "thing")
    mark(one, key, "yes")
    mark(other, key, "no", [5, 6, 20, 21])
    assert send(one, "/undo", key=key) == {
        "yes": 0,
        "no": 1,
        "taken": [["test_00004", KEPT, ""]],
    }
    refused = one.post("/undo", json={"key": key}, headers=CHANGE)
    assert refused.status_code == 400
    (batch,) = Shelf(asked.shelf).batches("thing")
    assert re.fullmatch("somebody-[0-9a-f]{6}", batch.who)
    assert f"by {batch.who}" not in refused.text
    assert send(other, "/undo", key=key)["taken"] == [["test_00004", [5, 6, 20, 21], ""]]


def test_a_made_up_browser_is_none(asked: Asked) -> None:
    person = visitor(asked)
    person.cookies.set("spp_browser", "<script>")
    mark(person, key := begin(person, "thing"), "yes")
    assert [each.who for each in Shelf(asked.shelf).batches("thing")] == ["somebody"]
    assert "spp_browser" in person.get(f"/class?key={key}").headers["set-cookie"]


def test_after_undo_an_earlier_word_counts_again(person: TestClient) -> None:
    key = begin(person, "thing")
    mark(person, key, "yes")
    mark(person, key, "no")
    assert send(person, "/undo", key=key) == {
        "yes": 1,
        "no": 0,
        "taken": [["test_00004", KEPT, "yes"]],
    }


def test_a_mark_that_is_made_while_one_is_taken_back(
    person: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, withdraw = begin(person, "thing"), Shelf.withdraw
    mark(person, key, "yes")

    def late(shelf: Shelf, name: str, who: str) -> Any:
        shelf.mark(name, [Mark("test_00005", (0.0, 0.0, 5.0, 7.0), yes=False)], who=who)
        return withdraw(shelf, name, who=who)

    monkeypatch.setattr(Shelf, "withdraw", late)
    assert send(person, "/undo", key=key)["taken"] == [["test_00005", [0, 0, 5, 7], ""]]


def test_a_box_of_doubles_is_the_window_that_was_marked(person: TestClient) -> None:
    key = begin(person, "thing")
    mark(person, key, "yes")
    person.cookies.set("spp_class", key)
    corners = "1 AS x_min, 2 AS y_min, 30 AS x_max, 40.1::DOUBLE AS y_max"
    query = f"SELECT 'test_00004' AS image_id, {corners}"
    page = person.get(f"/search?q={quote(query)}")
    assert page.text.count('class="hit yes"') == 1


def test_a_name_with_markup_is_shown_as_it_is(person: TestClient) -> None:
    key = begin(person, ODD)
    for address in ("/", f"/class?key={key}"):
        page = person.get(address).text
        assert ODD in unescape(page)
        assert "<b>zebra" not in page
        assert '"quoted"' not in page
    assert f"<h1>{ODD}</h1>" in unescape(page)


def test_who_said_what_when_and_why(
    asked: Asked, person: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, key = Shelf(asked.shelf), begin(person, "thing")
    shelf.mark(
        "thing",
        [Mark("elsewhere", (0.0, 0.0, 2.0, 3.0))],
        source="csv",
        who="<i>ann</i>",
        why="<u>",
    )
    shelf.mark("thing", source="labels", labelled=True, store="a store", who="cy")
    person.cookies.set("spp_who", quote("bob <b>"))
    mark(person, key, "yes", **{"from": "similar"})
    mark(person, key, "no", **{"from": "drawn"})
    # A minute may end in between.
    first, second, *_, last = [each.when[:16].replace("T", " ") for each in shelf.batches("thing")]
    rows = _rows(person.get(f"/class?key={key}").text)
    assert rows == [
        f"no|test_00004 1,2,30,40.0999985|bob &lt;b&gt;|{last}|page|drawn",
        f"the labels|a store|cy|{second}|labels|",
        f"yes|elsewhere 0,0,2,3|&lt;i&gt;ann&lt;/i&gt;|{first}|csv|&lt;u&gt;",
    ]
    monkeypatch.setattr(class_page, "SAID_A_PAGE", 2)
    page = person.get(f"/class?key={key}").text
    assert (_rows(page), f"/class?key={key}&amp;start=2" in page) == (rows[:2], True)
    page = person.get(f"/class?key={key}&start=2").text
    assert (_rows(page), "later" in page) == (rows[2:], False)


def _rows(page: str) -> list[str]:
    """Return the lines of who said what, cells parted by |."""
    body = page.partition('class="words"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    lines = [line.partition("</tr>")[0] for line in body.split("<tr>")[1:]]
    cells = [re.split("<td>", line)[1:] for line in lines]
    return [
        "|".join(" ".join(re.sub("<[^>]*>", "", cell).split()) for cell in row) for row in cells
    ]


def test_a_curve_is_a_path_in_a_square() -> None:
    nan = float("nan")
    assert _path([0, 0.5, 0.75, 1], [1, 0.25, nan, 0]) == "M0.0 0.0L100.0 150.0L200.0 200.0"
    assert _path([nan], [1]) == ""


def test_the_curve_moves_with_each_training(asked: Asked, person: TestClient) -> None:
    key = begin(person, "thing")
    for number in (0, 1):  # at least two images: one is judged by what the other has taught
        image = asked.store.image(f"test_0000{number}")
        assert image is not None
        whole = [0, 0, image["width"], image["height"]]
        mark(person, key, "yes", whole, image_id=image["image_id"])
    (curve,), aps = _trained(person, key)
    # Each finds the other first, and whatever it finds after both is wrong: precision 1, then 2/3.
    assert curve.startswith("M100.0 0.0L200.0 0.0L200.0 66.7L200.0 100.0")
    assert aps == ["1.000"]
    for number in (2, 3):
        corner = [0, 0, 20, 20]  # nothing like the whole
        mark(person, key, "yes", corner, image_id=f"test_0000{number}")
    (now, before), aps = _trained(person, key)
    assert before == curve != now
    assert now.startswith("M0.0 200.0L")  # what is found first is none of them
    assert (aps[1], float(aps[0]) < 0.9) == ("1.000", True)


def _trained(person: TestClient, key: str) -> tuple[list[str], list[str]]:
    """Train; return the paths that are drawn and the AP of each version, newest first."""
    send(person, "/train", key=key)
    end = time.monotonic() + 60
    while (told := person.get(f"/training?key={key}").json())["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.02)
    assert told["state"] == "done"
    page = person.get(f"/class?key={key}").text
    drawn = re.findall(r'<path class="(now|before)" d="([^"]*)"', page)
    return (
        [path for kind in ("now", "before") for drawn_as, path in drawn if drawn_as == kind],
        re.findall(r"<tr><td>\d+<td>\d+<td>\d+\s*<td>([^<]*)<td>", page),
    )
