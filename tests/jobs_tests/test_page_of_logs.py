"""What the page about a run says of its jobs, from logs and records that are given."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import page
from jobs.context import DONE
from jobs.events import time_text
from jobs.job import Job, Step
from jobs.options import load
from jobs.paper import BACKGROUND, mean_reference, reference
from pipeline.config import Recipe
from pipeline.datasets import VOC_CLASSES

T = 1_800_000_000.0  # some time
MINE, THEIRS = ("here", 7), ("there", 7)  # two machines, on which processes have equal numbers
Told = list[tuple[float, str, tuple[str, int] | None]]


@pytest.fixture
def steps(tmp_path: Path) -> dict[str, Step]:
    """Three done jobs, each after the one before; they took 5 s by their records."""
    made: dict[str, Step] = {}
    for name in ("extract", "train", "evaluate"):
        made[name] = Step(Job(name, lambda _: {}, tuple(made)[-1:]), tmp_path / name)
        made[name].folder.mkdir()
        (made[name].folder / DONE).write_text(json.dumps({"seconds": 5.0, "summary": {}}))
    return made


def log(step: Step, told: Told) -> None:
    """Write a log: seconds after `T`, what happened, and to whom."""
    lines = []
    for after, kind, by in told:
        event: dict[str, Any] = {"time": time_text(T + after), "kind": kind}
        if by is not None:
            event |= {"host": by[0], "pid": by[1]}
        lines.append(json.dumps(event))
    (step.folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))


def ran(first: float, last: float, by: tuple[str, int]) -> Told:
    return [(first, "job_started", by), (last, "job_finished", None)]


def told(steps: dict[str, Step]) -> dict[str, tuple[Any, ...]]:
    return {each.name: (each.spans, each.seconds, each.attempts) for each in page.times(steps)}


def test_jobs_lie_between_their_first_and_last_word(steps: dict[str, Step]) -> None:
    for first, step in zip((10.0, 20.0, 40.0), steps.values(), strict=True):
        log(step, ran(first, first + 5.0, MINE))
    assert told(steps) == {
        "extract": (((0.0, 5.0),), 5.0, 1),
        "train": (((10.0, 5.0),), 5.0, 1),
        "evaluate": (((30.0, 5.0),), 5.0, 1),
    }
    assert [each.needs for each in page.times(steps)] == [(), ("extract",), ("train",)]


def test_what_another_run_did_is_not_this_run_s_time(steps: dict[str, Step]) -> None:
    log(steps["extract"], ran(-90_000.0, -80_000.0, THEIRS))
    log(steps["train"], ran(0.0, 5.0, MINE))
    log(steps["evaluate"], ran(5.0, 11.0, MINE))
    assert told(steps) == {
        "extract": ((), 10_000.0, 1),
        "train": (((0.0, 5.0),), 5.0, 1),
        "evaluate": (((5.0, 6.0),), 6.0, 1),
    }
    assert page.times(steps)[0].is_earlier


def test_all_attempts_count(steps: dict[str, Step]) -> None:
    killed = [(0.0, "job_started", THEIRS), (60.0, "shard_committed", None)]
    log(steps["extract"], [*killed, *ran(1000.0, 1030.0, MINE)])
    log(steps["train"], [(1030.0, "job_started", MINE), (1034.0, "job_failed", None),
                         *ran(1040.0, 1046.0, MINE)])  # fmt: skip
    log(steps["evaluate"], ran(1046.0, 1051.0, MINE))
    assert told(steps) == {
        "extract": (((0.0, 30.0),), 90.0, 2),
        "train": (((30.0, 4.0), (40.0, 6.0)), 10.0, 2),
        "evaluate": (((46.0, 5.0),), 5.0, 1),
    }


def test_without_logs_the_records_say_how_long(steps: dict[str, Step]) -> None:
    assert told(steps) == dict.fromkeys(steps, ((), 5.0, 1))
    (steps["evaluate"].folder / "events.jsonl").write_text('{"kind": "job_started"}\n\0\n{"ki')
    assert told(steps)["evaluate"] == ((), 5.0, 1)


def test_bytes_are_those_of_the_store_and_of_what_lies_beside_it(steps: dict[str, Step]) -> None:
    before = {each.name: each.bytes for each in page.times(steps)}
    folder = steps["extract"].folder
    (folder / DONE).write_text(json.dumps({"seconds": 5.0, "summary": {"bytes": 10_000}}))
    (folder / "store").mkdir()
    (folder / "store" / "shard").write_bytes(bytes(10_000))  # counted by the job itself
    (folder / "pictures").mkdir()
    (folder / "pictures" / "one.png").write_bytes(bytes(300))
    beside = (folder / DONE).stat().st_size + 300
    after = {each.name: each.bytes for each in page.times(steps)}
    assert after == before | {"extract": 10_000 + beside}


def test_the_speed_is_a_worker_s() -> None:
    stores = [
        {"images": 30, "rows": 700, "worker": {"seconds_per_image": 0.5}},
        {"images": 10, "rows": 300, "worker": {"seconds_per_image": 2.5}},
    ]
    figure = page.speed(stores)
    assert figure.value == "1.0"  # 40 images in 15 s and 25 s
    assert "40 images, 1,000 windows" in figure.note
    assert page.speed([stores[0], {"images": 10, "rows": 1}]).value == "–"
    assert page.speed([]).value == "–"
    taken = {"images": 50, "rows": 900, "taken_over": 48, "worker": {"seconds_per_image": None}}
    figure = page.speed([*stores, taken])
    assert figure.value == "1.0"
    assert "90 images, 48 of them taken over from an earlier run, 1,900 windows" in figure.note
    assert page.speed([taken]).value == "–"


def charts(summaries: dict[str, Any]) -> dict[str, list[tuple[str, tuple[Any, ...]]]]:
    found = page.learning(summaries)
    return {each.title: [(line.name, line.points) for line in each.lines] for each in found}


def test_how_it_learnt() -> None:
    history = [
        {"step": 1, "loss": 2.0, "held_loss": 2.5, "held_accuracy": 0.1},
        {"step": 9, "loss": 1.0, "held_loss": None, "held_accuracy": float("nan")},
    ]
    mining = [{"gained": 9, "evicted": 0}, {"gained": 2, "evicted": 5}]
    drawn = charts({"finetune": {"history": history, "chosen_step": 9}, "mine": {"history": mining},
                    "pretrain": {"losses": [3.0, 2.0]}})  # fmt: skip
    assert drawn == {
        "Fine-tuning: cross-entropy": [
            ("batches", ((1.0, 2.0), (9.0, 1.0))),
            ("held out", ((1.0, 2.5),)),
        ],
        "Fine-tuning: share right of what is held out": [("held out", ((1.0, 0.1),))],
        "Training from nothing: cross-entropy": [("mean of an epoch", ((1.0, 3.0), (2.0, 2.0)))],
        "Mining": [
            ("hard negatives found", ((1.0, 9.0), (2.0, 2.0))),
            ("easy ones dropped", ((1.0, 0.0), (2.0, 5.0))),
        ],
    }
    assert charts({"finetune": {"history": history[:1]}, "mine": {"history": mining[:1]}}) == {}


def test_names_of_files_are_short_enough() -> None:
    runs = Path("runs")
    assert page.page_file(runs, ["a"]) == runs / "a" / "report.html"
    assert page.page_file(runs, ["a", "b"]) == runs / "a-and-b.html"
    long = ["a" * 99, "b" * 99]
    assert len(page.page_file(runs, long).name) < 40
    assert page.page_file(runs, long) != page.page_file(runs, long[::-1])


def recipe(name: str = "mine", **evaluation: Any) -> Recipe:
    told = {"name": name, "dataset": {"kind": "digits"}, "evaluation": evaluation}
    return Recipe.model_validate(told)


def test_the_paper_stands_beside_what_is_measured_like_it() -> None:
    aps, told = reference(recipe(), VOC_CLASSES)
    assert 100 * sum(aps.values()) / 20 == pytest.approx(59.2, abs=0.05)  # as the paper has it
    assert (aps["aeroplane"], aps["pottedplant"]) == pytest.approx((0.686, 0.297))
    assert "Table 8" in told
    own, told = reference(recipe("voc07_zf5_5scale_ftfc7"), VOC_CLASSES)  # a row of the table
    assert (own["aeroplane"], "55.2" in told) == (pytest.approx(0.655), True)
    for other in (recipe(method="area"), recipe(iou=0.7)):
        assert reference(other, VOC_CLASSES) == ({}, "")
    assert reference(recipe(), VOC_CLASSES[:3]) == ({}, "")


def test_of_whole_images_the_paper_has_means() -> None:
    classes = [BACKGROUND, *map(str, range(101))]
    value, told = mean_reference(load("caltech101", None, None), classes)
    assert (value, "Table 4, “SPP, full 224, SPP pool5”" in told) == (pytest.approx(0.9144), True)
    fc7 = load("caltech101", ["features.layer=fc7"], None)  # another row
    assert mean_reference(fc7, classes)[0] == pytest.approx(0.8708)
    other = load("caltech101", ["features.scales=[320]"], None)  # no row: the best
    assert mean_reference(other, classes)[0] == pytest.approx(0.9144)
    voc = load("voc07_classification", None, None)
    value, told = mean_reference(voc, VOC_CLASSES)
    assert (value, "VOC 2007 (Table 3, “SPP, full 392, fc7”" in told) == (
        pytest.approx(0.801),
        True,
    )
    for known, of in ((voc, classes[:3]), (load("caltech101", None, None), classes[:3])):
        assert mean_reference(known, of) == (None, "")
    unlike = load("voc07_classification", ["evaluation.method=area"], None)
    assert mean_reference(unlike, VOC_CLASSES) == (None, "")
