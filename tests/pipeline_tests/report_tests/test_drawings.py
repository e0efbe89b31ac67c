"""The drawings of the page: as long as they say, and fitting the screen."""

import math
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline.report import page
from pipeline.report.page import charts, time_charts
from pipeline.report.page.svg import LETTER_PX, NARROW, element

HOSTILE = "<script>alert(1)</script>\"'&"


def result(name: str, ap: float = 0.5) -> page.ClassResult:
    return page.ClassResult(name, ap, (), 4, 4, 3)


def test_bars_are_as_long_as_they_say() -> None:
    held = [result("a", 0.5), result("b", math.nan), result("c", 1.0)]
    drawn = ElementTree.fromstring(charts.class_bars([held], [0.75], {"a": 0.25}, 0.6, "the paper"))
    widths = [float(each.get("width", "")) for each in drawn.iter("rect")]
    assert widths[0] == pytest.approx(widths[2] / 2, abs=0.02)
    assert widths[1] == 0
    left = float(next(drawn.iter("rect")).get("x", ""))
    (line,) = [each for each in drawn.iter("line") if each.get("class") == "reference"]
    assert float(line.get("x1", "")) - left == pytest.approx(widths[0] / 2, abs=0.02)
    (whole,) = [each for each in drawn.iter("line") if each.get("class") == "reference whole"]
    assert float(whole.get("x1", "")) - left == pytest.approx(0.6 * widths[2], abs=0.02)
    (mean,) = [each for each in drawn.iter("line") if "mean" in (each.get("class") or "")]
    assert float(mean.get("x1", "")) - left == pytest.approx(0.75 * widths[2], abs=0.02)
    texts = [each.text for each in drawn.iter("text") if each.get("class") == "value"]
    assert texts == ["50.0", "–", "100.0"]


JOBS = [
    page.JobTime("a", (), ((0.0, 10.0),), 10.0, "", stages={"network": 3.0, "write": 1.0}),
    page.JobTime("b", ("a",), ((10.0, 30.0), (50.0, 6.0)), 36.0, "", 2, stages={"write": 2.0}),
    page.JobTime("c", ("a", "b"), (), 5.0, ""),
]


# As long names as there are, four of a rank, and all that is said of any.
SEVERAL = [
    page.JobTime("dataset_train", (), ((0.0, 100.0),), 100.0, "", 3, stages={"network": 9.0}),
    *(
        page.JobTime(name, ("dataset_train",), spans, 3700.0, "", 2, stages={"write": 1e4})
        for name, spans in (
            ("extract_train", ((100.0, 3600.0),)), ("extract_test", ()), ("windows_train", ()),
            ("extract_pool5_train", ((0.0, 3700.0),)),
        )
    ),
]  # fmt: skip


def bars(drawn: Any, kind: str) -> list[Any]:
    """Return x and width of the bars of a kind."""
    held = [each for each in ElementTree.fromstring(drawn).iter("rect")]
    return [
        (float(each.get("x", "")), float(each.get("width", "")))
        for each in held
        if each.get("class") == kind
    ]


@pytest.mark.parametrize(
    "draw",
    [time_charts.graph, time_charts.timeline, time_charts.byte_bars,
     lambda jobs, wide: time_charts.stage_bars(jobs, ["network", "write"], wide),
     lambda _, wide: charts.class_bars([[result("long" * 20)]], [0.5], {}, None, "", wide=wide)],
)  # fmt: skip
def test_on_a_phone_drawings_fit(draw: Any) -> None:
    drawn = ElementTree.fromstring(draw(SEVERAL, wide=NARROW))
    _, _, wide, high = map(float, drawn.get("viewBox", "").split())
    assert wide <= NARROW
    for each in drawn.iter("rect"):
        x, y, width, height = (float(each.get(side, "")) for side in ("x", "y", "width", "height"))
        assert 0 <= x <= x + width <= wide
        assert 0 <= y <= y + height <= high
    for each in drawn.iter("text"):
        x, long = float(each.get("x", "")), LETTER_PX * len(each.text or "")
        before = {"middle": long / 2, "end": long}.get(each.get("text-anchor", ""), 0.0)
        assert -10 <= x - before <= x - before + long <= wide + 10, each.text


def test_jobs_lie_where_they_ran() -> None:
    drawn = time_charts.timeline(JOBS)
    (x, width), second, third = bars(drawn, "job")
    assert second == pytest.approx((x + width, 3 * width), abs=0.02)
    assert third == pytest.approx((x + 5 * width, 0.6 * width), abs=0.05)
    assert "by another run, in 5.0 s" in drawn
    assert "36 s, 2 attempts" in drawn


def test_stages_have_their_lengths_and_one_colour_each() -> None:
    drawn = time_charts.stage_bars(JOBS, ["network", "write"])
    ((at, width),) = bars(drawn, "stage0")
    after, other = bars(drawn, "stage1")
    assert after == pytest.approx((at + width, width / 3), abs=0.02)
    assert other == pytest.approx((at, 2 * width / 3), abs=0.02)


def test_bytes_have_their_lengths() -> None:
    held = [replace(job, bytes=count) for job, count in zip(JOBS, (3_000, 0, 1_500), strict=True)]
    drawn = time_charts.byte_bars(held)
    (_, whole), (_, none), (_, half) = bars(drawn, "job")
    assert (none, half) == (0, pytest.approx(whole / 2, abs=0.02))
    assert [told in drawn for told in ("3.0 kB", "0 bytes", "1.5 kB")] == [True] * 3


def test_the_graph_draws_no_line_that_others_imply() -> None:
    drawn = ElementTree.fromstring(time_charts.graph(JOBS))
    edges = [each for each in drawn.iter("path") if each.get("class") == "edge"]
    assert len(edges) == 2  # a to b, b to c
    assert [each.get("class") for each in drawn.iter("rect")] == ["node", "node", "node earlier"]


def test_svg_escapes_and_rounds() -> None:
    assert element("text", HOSTILE, x=1 / 3, class_="a") == (
        '<text x="0.33" class="a">&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;</text>'
    )
