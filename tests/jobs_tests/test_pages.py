"""What the pages answer, asked without a browser."""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from starlette.testclient import TestClient

from jobs.asked import ask
from jobs.serve import command, teaching
from jobs.serve.app import build
from jobs.serve.looking import Looking
from pipeline.errors import InputError
from pipeline.store.place import place
from pipeline.teaching import Shelf, key_of
from pipeline.teaching.versioning import save

CHANGE = {"x-spp": "1"}
PAGE = {"accept": "text/html"}
WINDOWS = "SELECT * FROM windows"


def test_images_come_page_by_page(person: TestClient) -> None:
    page = person.get("/").text
    assert "8 images" in page
    assert page.count("<li><a href=") == 8
    assert "/image?id=test_00004" in page
    last = person.get("/?start=7").text
    assert (last.count("<li><a href="), "8–8" in last, "earlier" in last) == (1, True, True)
    at = person.get("/?at=test_00005").text
    assert "1–8" in at


def test_an_image_has_its_objects_and_detections(person: TestClient) -> None:
    page = person.get("/image?id=test_00004").text
    assert 'class="object"' in page
    assert person.get("/windows?id=test_00004").json()[0].keys() >= {"window_id", "box", "source"}


def test_detections_are_drawn_that_the_recipe_s_pictures_show(
    tiny_run: Path, tmp_path: Path
) -> None:
    held = ask(f"{tiny_run.parent / 'tiny.toml'}:test", tiny_run)
    assert held.recipe is not None
    found = Looking(held).detections("test_00004")
    judged = held.recipe.evaluation.model_copy(update={"picture_score": found[4]["score"]})
    recipe = held.recipe.model_copy(update={"evaluation": judged})
    held = replace(held, recipe=recipe, shelf=place(tmp_path))
    with TestClient(build(held), base_url="http://127.0.0.1", headers=PAGE) as person:
        page = person.get("/image?id=test_00004").text
    assert page.count('class="detection"') == 4
    assert len(found) == page.count('<button class="take"') - page.count('class="object"') == 30


@pytest.mark.parametrize("more", ["", "&side=99", "&box=3,4,30,50.5&side=64"])
def test_pictures_are_jpegs(person: TestClient, more: str) -> None:
    answer = person.get(f"/picture?id=test_00004{more}")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content.startswith(b"\xff\xd8")


def test_a_query_for_windows_shows_them_and_any_other_a_table(person: TestClient) -> None:
    page = person.get(f"/search?q={quote(WINDOWS)}").text
    assert page.count('class="hit "') == 60
    assert f"/search?q={quote(WINDOWS)}&amp;start=60" in page
    last = person.get(f"/search?q={quote(WINDOWS)}&start=100000").text
    assert "windows nothing" in last
    assert "later" not in last
    table = person.get(f"/search?q={quote('SELECT count(*) AS n FROM images -- all')}").text
    assert "<td>8</td>" in table


@pytest.mark.parametrize(
    ("address", "status", "text"),
    [
        ("/image?id=nothere", 400, "has no image nothere"),
        ("/image", 400, "the address lacks id="),
        ("/picture?id=nothere", 400, "has no image nothere"),
        ("/picture?id=test_00004&box=1,2,3", 400, "box=1,2,3 is not x_min"),
        ("/picture?id=test_00004&box=1,2,3,nan", 400, "is not x_min"),
        ("/picture?id=test_00004&side=wide", 400, "side=wide is no whole number"),
        ("/picture?id=test_00004&box=5000,1,6000,9", 400, "is empty or not on the image"),
        ("/picture?id=../../etc/passwd", 400, "has no image ../../etc/passwd"),
        ("/search?q=DROP TABLE windows", 400, "That could not be done"),
        ("/search?q=SELECT nothing", 400, "nothing"),
        ("/near?id=test_00004", 400, "give the box"),
        ("/near?id=nothere&box=0,0,1,1", 400, "has no image nothere"),
        ("/near?id=/etc/passwd&box=0,0,1,1", 400, "has no image /etc/passwd"),
        ("/near?id=test_00004&box=0,0,1,1000", 400, "not inside image test_00004"),
        (f"/?start={10**30}", 200, "8 images"),
        (f"/search?q=SELECT 1&start={10**30}", 400, "That could not be done"),
        ("/nothing", 404, "Not Found"),
        ("/static/../app.py", 404, "Not Found"),
    ],
)
def test_what_cannot_be_is_said(person: TestClient, address: str, status: int, text: str) -> None:
    answer = person.get(address)
    assert answer.status_code == status
    assert text in answer.text


def test_a_query_that_failed_stays_in_its_field(person: TestClient) -> None:
    page = person.get("/search?q=SELECT nothing").text
    assert 'value="SELECT nothing"' in page


def test_what_comes_from_outside_is_no_markup(person: TestClient) -> None:
    odd = "<img src=x onerror=alert(1)>"
    for address in (f"/image?id={quote(odd)}", f"/search?q={quote(odd)}", f"/?at={quote(odd)}"):
        assert odd not in person.get(address).text
    told = person.get(f"/search?q={quote(f'SELECT $${odd}$$ AS a')}").text
    assert "&lt;img src=x" in told
    assert odd not in told


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS image_id, 1 AS x_min, 1 AS y_min, 2 AS x_max, 3 AS y_max",
        "SELECT 'a' AS image_id, 'x' AS x_min, 1 AS y_min, 2 AS x_max, 3 AS y_max",
        "SELECT 'a' AS image_id, DATE '2000-01-01' AS x_min, 1 AS y_min, 2 AS x_max, 3 AS y_max",
        "SELECT 'a' AS image_id, NULL::FLOAT AS x_min, 1 AS y_min, 2 AS x_max, 3 AS y_max",
    ],
)
def test_rows_that_only_look_like_windows_are_a_table(person: TestClient, query: str) -> None:
    answer = person.get(f"/search?q={quote(query)}")
    assert (answer.status_code, "<td>" in answer.text) == (200, True)


def test_marks_that_cannot_be_are_refused(person: TestClient) -> None:
    key = person.post("/classes", json={"name": "thing"}, headers=CHANGE).json()["key"]
    good = {"key": key, "image_id": "test_00004", "box": [1, 2, 30, 40], "verdict": "yes"}
    told = person.post("/mark", json=good, headers=CHANGE)
    assert (told.status_code, told.json()) == (200, {"yes": 1, "no": 0})
    for change in (
        {"verdict": []},
        {"verdict": "maybe"},
        {"image_id": "nothere"},
        {"image_id": "\ud800"},
        {"box": "1,2,3,4"},
        {"box": [1, 2, 1, 4]},
        {"box": [1, 2, 3000, 4]},
        {"box": [1, 2, 10**400, 4]},
        {"box": [1, 2, 1e300, 4]},
        {"box": [1, 2, float("nan"), 4]},
        {"from": "x" * 101},
        {"key": "none"},
    ):
        data = json.dumps(good | change)
        answer = person.post("/mark", content=data, headers=CHANGE | {"accept": "*/*"})
        assert answer.status_code == 400, change
        assert answer.json()["error"], change
    assert person.post("/undo", json={"key": key}, headers=CHANGE).json()["taken"] == [
        ["test_00004", [1, 2, 30, 40], ""]
    ]
    assert person.post("/undo", json={"key": key}, headers=CHANGE).status_code == 400


@pytest.mark.parametrize("fails", [False, True])
def test_a_training_asked_for_while_one_runs_is_done_after_it(
    person: TestClient, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    # The first may have begun before the last mark, and fail for want of it.
    key = person.post("/classes", json={"name": "thing"}, headers=CHANGE).json()["key"]
    begun, gate, calls = threading.Event(), threading.Event(), []

    def teach(*given: object) -> SimpleNamespace:
        calls.append(given[2])
        begun.set()
        assert gate.wait(20)
        if fails and len(calls) == 1:
            raise InputError("one example is no class")
        return SimpleNamespace(version=SimpleNamespace(number=len(calls)))

    monkeypatch.setattr(teaching, "teach", teach)
    asked = {"json": {"key": key}, "headers": CHANGE}
    assert person.post("/train", **asked).json() == {"state": "running"}
    assert begun.wait(20)
    assert person.post("/train", **asked).json() == {"state": "running"}
    gate.set()
    end = time.monotonic() + 20
    while (told := person.get(f"/training?key={key}").json())["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.01)
    assert (told, calls) == ({"state": "done", "text": "version 2"}, ["thing", "thing"])


def test_pictures_of_another_store_have_other_addresses(person: TestClient, tiny_run: Path) -> None:
    other = ask(f"{tiny_run.parent / 'tiny.toml'}:train", tiny_run)
    pages = [person.get("/").text]
    with TestClient(build(other), base_url="http://127.0.0.1", headers=PAGE) as client:
        pages.append(client.get("/").text)
    found = [re.findall(r"/picture\?v=([0-9a-f]{16})&amp;id=", page) for page in pages]
    assert [len(set(each)) for each in found] == [1, 1]
    assert found[0][0] != found[1][0]


def test_a_class_taught_on_other_vectors_closes_no_page(tiny_run: Path, tmp_path: Path) -> None:
    held = ask(f"{tiny_run.parent / 'tiny.toml'}:test", tiny_run)
    held = replace(held, shelf=place(tmp_path))
    (known,) = held.classifiers()
    one = {"weights": known.weights[:1], "intercepts": known.intercepts[:1]}
    other = replace(known, classes=("x",), made_from={"network": "another"}, **one)
    save(Shelf(tmp_path), "x", other, {"store": "elsewhere", "yes": 1, "no": 0, "seconds": 1.0})
    Shelf(tmp_path).begin("x")
    key = key_of("x")
    with TestClient(build(held), base_url="http://127.0.0.1", headers=PAGE) as person:
        person.cookies.set("spp_class", key)
        image = person.get("/image?id=test_00004")
        assert (image.status_code, "Best for this class" in image.text) == (200, False)
        page = person.get(f"/class?key={key}")
        assert "version trained on elsewhere: retrain" in page.text


def test_a_blank_token_is_refused(spp: Callable[..., Any], tiny_run: Path) -> None:
    said = spp("serve", f"{tiny_run.parent / 'tiny.toml'}:test", "--runs", tiny_run, "--token", "")
    assert (said.code, "--token is blank" in said.err) == (2, True)


def test_a_store_of_others_shows_images_of_named_folders_only(
    tiny_run: Path, tmp_path: Path
) -> None:
    own = ask(f"{tiny_run.parent / 'tiny.toml'}:test", tiny_run)
    photographs, secret, link = (tmp_path / name for name in ("own", "secret.png", "own/link.png"))
    photographs.mkdir()
    for path in (photographs / "a.png", secret):
        Image.new("RGB", (9, 9)).save(path)
    link.symlink_to(secret)
    copy = tmp_path / "store"
    shutil.copytree(str(own.store.root), copy)
    rows = pq.read_table(copy / "images.parquet").slice(0, 4)
    named = [str(photographs / "a.png"), str(secret), str(link), f"{photographs}/../secret.png"]
    rows = rows.set_column(rows.column_names.index("file"), "file", pa.array(named))
    pq.write_table(rows, copy / "images.parquet")
    held = ask(str(copy), tiny_run)
    for folders, shown in ((None, 4), ((), 0), ((photographs,), 1), ((tmp_path,), 4)):
        others = build(held, shown_from=folders)
        with TestClient(others, base_url="http://127.0.0.1", headers=PAGE) as person:
            ids = rows["image_id"].to_pylist()
            answers = [person.get(f"/picture?id={image_id}") for image_id in ids]
            assert ("No picture is shown" in person.get("/").text) == (folders == ())
        assert [each.status_code for each in answers] == [200] * shown + [400] * (4 - shown)
        assert all("is not shown" in each.text for each in answers[shown:])


def test_a_store_that_was_moved_finds_its_images_in_a_named_folder(
    tiny_run: Path, tmp_path: Path
) -> None:
    own = ask(f"{tiny_run.parent / 'tiny.toml'}:test", tiny_run)
    shutil.copytree(str(own.store.root), tmp_path / "moved")
    held = ask(str(tmp_path / "moved"), tiny_run)
    image_id = held.store.images["image_id"][0].as_py()
    (photographs,) = {Path(own.file_of(image_id)).parent.resolve()}
    assert photographs.name == "JPEGImages"
    rows = pq.read_table(tmp_path / "moved/images.parquet")
    gone = [file.replace("JPEGImages", "gone/JPEGImages") for file in rows["file"].to_pylist()]
    gone[1] = f"/gone/{'a' * 300}.png"
    rows = rows.set_column(rows.column_names.index("file"), "file", pa.array(gone))
    pq.write_table(rows, tmp_path / "moved/images.parquet")
    held = ask(str(tmp_path / "moved"), tiny_run)
    other = tmp_path / "other"
    other.mkdir()
    (other / Path(gone[0]).name).write_bytes(b"another image of that name")
    # By its name, and by its folder's, too; a file of another size is another image.
    for folders in ([photographs], [photographs.parent], [other, photographs]):
        others = build(held, shown_from=folders)
        with TestClient(others, base_url="http://127.0.0.1", headers=PAGE) as person:
            assert person.get(f"/picture?id={image_id}").status_code == 200
            long = person.get(f"/picture?id={rows['image_id'][1].as_py()}")
            assert (long.status_code, "is not shown" in long.text) == (400, True)
    with TestClient(build(held, shown_from=[other]), base_url="http://127.0.0.1") as person:
        answer = person.get(f"/picture?id={image_id}", headers=PAGE)
        assert (answer.status_code, "is not shown" in answer.text) == (400, True)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """From which folders the command shows pictures, instead of serving them."""
    seen: list[Any] = []

    def built(*arguments: Any) -> None:
        seen.append(arguments[3])
        raise InputError("seen")

    monkeypatch.setattr(command, "build", built)
    apart = SimpleNamespace(sql=None, close=lambda: None)
    monkeypatch.setattr(command, "Apart", lambda *_: apart)
    return seen


def test_pictures_of_stores_that_were_made_elsewhere_are_shown_from_named_folders(
    spp: Callable[..., Any], served: list[Any], tiny_run: Path, tmp_path: Path
) -> None:
    recipe = f"{tiny_run.parent / 'tiny.toml'}:test"
    own = Path(str(ask(recipe, tiny_run).store.root))
    runs = tmp_path / "runs"
    shutil.copytree(own, runs / "theirs")  # brought into the folder of runs, and made by none
    (tmp_path / "link").symlink_to(own)
    shutil.copytree(own, tmp_path / "far")
    record = tiny_run / "jobs" / "extract_test-told" / "done.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"summary": {"store": str(tmp_path / "far")}}))
    asked: list[tuple[Any, Path, list[Any], Any]] = [
        (recipe, tiny_run, [], None),
        (own, tiny_run, [], None),
        (own.parent, tiny_run, [], None),
        (tmp_path / "link", tiny_run, [], None),
        (tmp_path / "far", tiny_run, [], None),  # made with --stores
        (own, runs, [], []),
        (runs / "theirs", runs, [], []),
        (own, tiny_run, [tmp_path], [tmp_path]),
        (own, runs, [tmp_path, runs], [tmp_path, runs]),
    ]
    try:
        for named, made_in, folders, shown in asked:
            options = [word for each in folders for word in ("--images", each)]
            said = spp("serve", named, "--runs", made_in, "--port", 0, *options)
            assert said.code == 1, said.err
            assert (named, made_in, served.pop()) == (named, made_in, shown)
    finally:
        shutil.rmtree(record.parent)


def test_folders_of_images_are_there(spp: Callable[..., Any], tiny_run: Path) -> None:
    named = f"{tiny_run.parent / 'tiny.toml'}:test"
    said = spp("serve", named, "--runs", tiny_run, "--images", tiny_run / "none")
    assert (said.code, "does not exist" in said.err) == (2, True)
