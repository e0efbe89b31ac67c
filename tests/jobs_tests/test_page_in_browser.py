"""The page as people use it, in a browser: one of them, two at once, and with a killed server."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.asked import ask
from pipeline.teaching import Shelf

sync_api = pytest.importorskip("playwright.sync_api")
PROJECT = Path(__file__).parents[2]
CUT_OFF = (
    "net::ERR_CONNECTION",
    "net::ERR_EMPTY_RESPONSE",
    "net::ERR_INCOMPLETE_CHUNKED",
    "ERR_CONTENT_LENGTH_MISMATCH",
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ODD = 'a <b>zebra</b> "quoted" & \'; DROP -- 🦓'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of these browsers is here: {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def runs(tiny_run: Path, tmp_path: Path) -> Path:
    """A run directory of this test's own, for the page writes into it."""
    shutil.copytree(tiny_run.parent, tmp_path / "own")
    return tmp_path / "own" / "runs"


@contextmanager
def served(runs: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of the test images, and its address."""
    command = [sys.executable, "-m", "jobs", "serve", f"{runs.parent / 'tiny.toml'}:test"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--runs", str(runs), "--port", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/", said)
            assert address, said + server.stdout.read()
            yield server, address[0]
        finally:
            server.kill()


@pytest.fixture
def person(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a window for somebody; nothing may be wrong on the console."""
    faults: list[str] = []
    contexts = []

    def enter(address: str, **options: Any) -> Any:
        contexts.append(context := browser.new_context(**options))
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if _is_fault(line) else None)
        page.goto(address)
        return page

    yield enter
    for context in contexts:
        context.close()
    assert faults == []


def _is_fault(line: Any) -> bool:
    """Whether the page is to blame: a server that is killed cuts off what it was sending."""
    return line.type == "error" and not any(each in line.text for each in CUT_OFF)


def begin_class(page: Any, name: str) -> None:
    page.once("dialog", lambda dialog: dialog.accept(name))
    with page.expect_navigation():
        page.select_option("#class", "+")
    assert page.eval_on_selector("#class", "it => it.selectedOptions[0].label") == name


def search(page: Any, query: str) -> None:
    page.keyboard.press("/")
    page.fill("#q", query)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def expect_said(page: Any, text: str | re.Pattern[str]) -> None:
    # A mark on a drawn box runs the network, which is loaded first.
    sync_api.expect(page.locator("#said")).to_have_text(text, timeout=30_000)


def mark(page: Any, keys: str) -> None:
    """Go through the hits with the arrow, and give each a key."""
    for number, key in enumerate(keys):
        page.keyboard.press("ArrowRight")
        page.keyboard.press(key)
        verdict = {"y": "yes", "n": "no"}[key]
        page.wait_for_selector(f".hits .hit.{verdict} >> nth={keys[: number + 1].count(key) - 1}")


LARGE = "SELECT * FROM windows WHERE x_max - x_min > 60 ORDER BY image_id, window_id"
# Of three images: a classifier is judged by those that it has not seen.
MIXED = (
    "SELECT * FROM windows WHERE x_max - x_min > 60 AND image_id < 'test_00003' "
    "ORDER BY window_id, image_id"
)


def test_search_mark_train_look_undo(runs: Path, person: Callable[..., Any]) -> None:
    with served(runs) as (_, address):
        page = person(address)
        begin_class(page, ODD)
        search(page, MIXED)
        mark(page, "yyyyynnnnn")
        assert page.inner_text("#said") == "no: 5 yes, 5 no"
        with page.expect_navigation(timeout=60_000):
            page.keyboard.press("r")
        assert page.inner_text("h1") == ODD
        assert page.inner_text("tbody tr td >> nth=0") == "1"
        assert page.locator("path.now").bounding_box()["height"] > 10
        best = page.locator(".hits >> nth=0").locator(".hit")
        assert best.count() > 3
        marked = {
            each.get_attribute("data-image") for each in page.locator(".hit.yes, .hit.no").all()
        }
        assert not marked & {each.get_attribute("data-image") for each in best.all()}

        page.locator(".hit >> nth=0").focus()
        page.keyboard.press("y")
        expect_said(page, "yes: 6 yes, 5 no")
        page.keyboard.press("u")
        expect_said(page, re.compile("^taken back; 5"))
        assert page.locator(".hits >> nth=0").locator(".hit.yes").count() == 0

        with page.expect_download() as saved:
            page.click("text=CSV")
        lines = Path(saved.value.path()).read_text().splitlines()
        assert lines[0] == "image_id,x_min,y_min,x_max,y_max,verdict,source,who,when,why"
        assert len(lines) == 11
    shelf = Shelf(ask(f"{runs.parent / 'tiny.toml'}:test", runs).shelf)
    assert shelf.classes() == [ODD]
    assert len(shelf.marks_of(ODD)) == 10


def all_windows_are_drawn(page: Any, address: str) -> None:
    count = len(page.request.get(f"{address}windows?id=test_00004").json())
    page.keyboard.press("w")
    sync_api.expect(page.locator("#how-many")).to_have_text(f"{count} windows")
    assert page.locator("rect.window").count() == count
    assert page.get_attribute("#all-windows", "aria-pressed") == "true"
    page.keyboard.press("w")
    sync_api.expect(page.locator("rect.window")).to_have_count(0)
    page.eval_on_selector("#image", "it => { it.dataset.most = 7; }")
    page.click("#all-windows")
    said = f"the first 7 of {count} windows"
    sync_api.expect(page.locator("#how-many")).to_have_text(said)
    assert page.locator("rect.window").count() == 7


def test_a_box_is_drawn_and_a_window_chosen(runs: Path, person: Callable[..., Any]) -> None:
    with served(runs) as (_, address):
        page = person(f"{address}image?id=test_00004")
        whole = page.locator("#image svg").bounding_box()
        x, y = whole["x"], whole["y"]
        page.mouse.move(x + 40, y + 50)
        page.mouse.down()
        page.mouse.move(x + 160, y + 170, steps=3)
        page.mouse.up()
        drawn = page.get_attribute("#box", "data-box")
        assert len(drawn.split(",")) == 4
        with page.expect_navigation():
            page.keyboard.press("s")
        assert page.inner_text("h1") == "Windows like this one"
        assert page.locator(".hits .hit").count() > 10
        page.goto(f"{address}image?id=test_00004")
        chosen = set()
        for _ in range(3):  # each click takes the next larger window of those that are there
            page.mouse.click(x + whole["width"] / 2, y + whole["height"] / 2)
            sync_api.expect(page.locator("#box output")).to_contain_text("window ")
            chosen.add(page.get_attribute("#box", "data-box"))
            page.wait_for_timeout(50)
        assert len(chosen) > 1
        all_windows_are_drawn(page, address)
        begin_class(page, "thing")
        page.mouse.click(x + whole["width"] / 2, y + whole["height"] / 2)
        page.wait_for_selector("#chosen:not([hidden])")
        page.click("#box .yes")
        expect_said(page, "yes: 1 yes, 0 no")


SLOW = """
const real = window.fetch;
window.fetch = async (address, options) => {
  if (address === "/mark") await new Promise((then) => setTimeout(then, 300));
  if (options?.body?.includes("[5,5,5,5]")) throw new TypeError("cut off");
  return real(address, options);
};
"""


def test_keys_may_be_faster_than_the_server(runs: Path, person: Callable[..., Any]) -> None:
    with served(runs) as (_, address):
        page = person(address)
        page.add_init_script(SLOW)
        begin_class(page, "thing")
        page.goto(f"{address}image?id=test_00004&box=10.1,10.2,60.30000001,70")
        page.keyboard.press("y")
        page.keyboard.press("u")
        expect_said(page, "taken back; 0 yes, 0 no")
        assert page.locator("#box.yes, #box.no").count() == 0
        for key in "yn":
            page.keyboard.press(key)
        expect_said(page, "no: 0 yes, 1 no")
        page.keyboard.press("u")  # what was said before counts again
        expect_said(page, "taken back; 1 yes, 0 no")
        assert page.locator("#box.yes").count() == 1
        # A mark that never arrived is not there to be taken back, and the one before it stays.
        page.eval_on_selector("#box", "it => { it.dataset.box = '5,5,5,5'; }")
        page.keyboard.press("y")
        page.keyboard.press("u")
        expect_said(page, "the server does not answer: nothing was kept")
        page.eval_on_selector("#box", "it => { it.dataset.box = '5,5,50,50'; }")
        page.keyboard.press("y")
        with page.expect_navigation():
            page.keyboard.press("s")  # the mark is sent before the page is left
        page.goto("about:blank")  # not cut off from its pictures, which would be told as a fault
    shelf = Shelf(ask(f"{runs.parent / 'tiny.toml'}:test", runs).shelf)
    assert [mark.box[0] for mark in shelf.marks_of("thing")] == [10.100000381469727, 5.0]


def test_two_people_and_a_killed_server_lose_no_mark(
    runs: Path, person: Callable[..., Any]
) -> None:
    with served(runs) as (server, address):
        ann, bob = person(address), person(address)
        begin_class(ann, "thing")
        bob.reload()
        with bob.expect_navigation():
            bob.select_option("#class", label="thing")
        for page, name in ((ann, "ann"), (bob, "bob")):
            page.fill("#who", name)
            page.locator("#who").blur()
        search(ann, f"{LARGE} LIMIT 5")
        search(bob, f"{LARGE} DESC LIMIT 5")
        for _ in range(5):
            for page, key in ((ann, "y"), (bob, "n")):
                page.keyboard.press("ArrowRight")
                page.keyboard.press(key)
        ann.wait_for_selector(".hit.yes >> nth=4")
        bob.wait_for_selector(".hit.no >> nth=4")
        bob.keyboard.press("u")  # bob's, and not the last of all
        expect_said(bob, re.compile("^taken back; 5"))
        server.send_signal(signal.SIGKILL)
        server.wait()
    shelf = Shelf(ask(f"{runs.parent / 'tiny.toml'}:test", runs).shelf)
    by = [(each.who, each.marks[0].yes) for each in shelf.batches("thing")]
    assert sorted(by) == [("ann", True)] * 5 + [("bob", False)] * 4


def test_it_can_be_read_on_a_phone(runs: Path, person: Callable[..., Any]) -> None:
    with served(runs) as (_, address):
        page = person(address, viewport={"width": 360, "height": 700}, has_touch=True)
        for where in ("", "image?id=test_00004", "search?q=SELECT * FROM windows"):
            page.goto(address + where)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize(
    "options", [{"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}]
)
def test_the_page_about_a_run_is_shown_whole(
    person: Callable[..., Any], runs: Path, spp: Callable[..., Any], options: dict[str, Any]
) -> None:
    said = spp("report", runs.parent / "tiny.toml", "--runs", runs, "--serial")
    assert said.code == 0, said.err
    page = person((runs / "tiny" / "report.html").as_uri(), **options)
    pictures = "[...document.querySelectorAll('image')]"
    assert page.evaluate(f"{pictures}.length") > 20
    drawn = page.evaluate(f"Promise.all({pictures}.map(it => {LOADED}))")
    assert all(drawn)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("nav a[href='#time']")
    assert (
        page.evaluate("Math.abs(document.querySelector('#time').getBoundingClientRect().top)") < 900
    )
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(23, 24, 27)") == ("color_scheme" in options)


LOADED = (
    "new Promise(done => {const one = new Image(); one.onload = () => done(one.width > 0);"
    "one.onerror = () => done(false); one.src = it.href.baseVal})"
)
