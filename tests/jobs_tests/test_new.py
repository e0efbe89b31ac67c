"""`spp new`, and `spp detect` of what was taught, on a small run."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.asked import ask
from jobs.learnt import next_command
from pipeline.learning.labelling import is_ground_truth
from pipeline.store.schema import vectors
from pipeline.teaching import Shelf, key_of, newest

NAME = "<b>'three'</b> 🦓/.."
Run = Callable[..., Any]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path, spp: Run) -> Run:
    """Run a command on the training images' store; and read its answer, if it is JSON."""

    def said(command: str, *arguments: str | Path, split: str = "train") -> Any:
        store = f"{tiny_run.parent / 'tiny.toml'}:{split}"
        named = (NAME, store) if command == "new" else (store, "--class", NAME)
        places = ("--runs", tiny_run, "--shelf", tmp_path / "shelf")
        answer = spp(command, *named, *places, *arguments)
        return json.loads(answer.out) if "--json" in arguments else answer

    return said


def objects(tiny_run: Path, count: int) -> list[dict[str, Any]]:
    store = ask(f"{tiny_run.parent / 'tiny.toml'}:train", tiny_run).store
    rows = [row for row in store.objects.to_pylist() if row["class"] == "three"]
    return list({row["image_id"]: row for row in rows}.values())[:count]


def box_of(row: dict[str, Any], shift: float = 0.0) -> str:
    x_min, y_min, x_max, y_max = (row[name] for name in ("x_min", "y_min", "x_max", "y_max"))
    return f"{row['image_id']}:{x_min},{y_min},{x_max - shift},{y_max - shift}"


def test_from_one_drawn_box_to_detections(
    run: Run, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = objects(tiny_run, 2)
    one = run("new", "--box", box_of(first, 1.25), "--why", "drawn", "--json")
    assert (one["class"], one["version"], one["positives"], one["instead"]) == (NAME, 1, 1, [])
    assert one["ap"] is None
    assert first["image_id"] not in {hit["image_id"] for hit in one["top"]}
    # The vector of the drawn box is kept: the network is not needed again.
    loads: list[int] = []
    monkeypatch.setattr("jobs.asked.Asked.network", lambda self: loads.append(1))
    wrong = one["borderline"][0]
    no = f"{wrong['image_id']}/{wrong['window_id']}"
    two = run("new", "--box", box_of(second), "--no", no, "--json")
    assert (two["version"], two["yes"], two["no"], two["positives"]) == (2, 2, 1, 2)
    assert (two["judged"]["images"] >= 2, loads) == (True, [])
    batches = Shelf(tmp_path / "shelf").batches(NAME)
    assert [each.source for each in batches] == ["box", "box", "window"]
    assert batches[0].why == "drawn"

    (found,) = run("detect", "--out", tmp_path / "all.parquet", "--json", split="test")
    table = pq.read_table(tmp_path / "all.parquet")
    assert (found["version"], found["detections"]) == (2, len(table))
    assert set(table["class"].to_pylist()) == {NAME}
    assert found["best"][0]["score"] == max(table["score"].to_pylist())
    assert pq.read_table(found["file"]).equals(table)
    # It is not computed again, unless it is torn.
    Path(found["file"]).write_bytes(b"torn")
    assert run("detect", "--json", split="test") == [found]
    shown = run("detect", split="test").out
    assert f'"{NAME}", version 2: {len(table):,} detections' in shown


def test_undo_export_and_history(run: Run, spp: Run, tiny_run: Path, tmp_path: Path) -> None:
    first, second = objects(tiny_run, 2)
    for row in (first, second):
        said = run("new", "--box", box_of(row), "--pictures", tmp_path / "hits.png", "--who", "ann")
        assert said.code == 0, said.err
    assert "cross-validation over 2 images with marks" in said.out
    assert (tmp_path / "hits.png").read_bytes().startswith(b"\x89PNG")
    command = shlex.split(said.out.splitlines()[-1].removeprefix("next: "))
    assert (command[:2], spp(*command[1:]).code) == (["spp", "detect"], 0)
    csv, coco = tmp_path / "marks.csv", tmp_path / "marks.json"
    assert "2 marks of" in run("new", "--marks", csv).err
    assert run("new", "--marks", coco).code == 0
    assert csv.read_text().splitlines()[1].split(",")[5:8] == ["yes", "box", "ann"]
    assert run("new", "--undo", "--who", "ann", "--json")["positives"] == 1
    assert "has no marks any more" in run("new", "--undo", "--who", "ann").out
    assert "there are no marks of" in run("new", "--undo").err
    assert newest(Shelf(tmp_path / "shelf"), NAME).number == 3
    again = run("new", "--csv", csv, "--coco", coco, "--why", "both\nof them", "--json")
    assert (again["positives"], again["negatives"] > 10) == (2, True)
    assert len(Shelf(tmp_path / "shelf").batches(NAME)) == 2
    told = run("new", "--history", "--json")
    assert [each["source"] for each in told] == ["box", "box", "csv", "coco"]
    assert [each["withdrawn"] is None for each in told] == [False, False, True, True]
    assert (told[0]["withdrawn"]["who"], told[2]["yes"], told[2]["no"]) == ("ann", 2, 0)
    head, first, _, third, _, last = run("new", "--history").out.splitlines()
    assert head.split() == [
        "when",
        "who",
        "source",
        "yes",
        "no",
        "all",
        "known",
        "by",
        "why",
        "taken",
        "back",
    ]
    minute = told[0]["withdrawn"]["when"][:16].replace("T", " ")
    assert (first.split()[2:6], f"{minute} by ann" in first) == (["ann", "box", "1", "0"], True)
    assert third.rstrip().endswith("both of them")
    assert last.startswith("2 of 4 batches of ")


def test_labels_teach_what_the_pipeline_learns(spp: Run, tiny_run: Path, tmp_path: Path) -> None:
    asked = ask(f"{tiny_run.parent / 'tiny.toml'}:train", tiny_run)
    named = str(tiny_run.parent / "tiny.toml") + ":train"
    places = ("--runs", tiny_run, "--shelf", tmp_path)
    said = spp("new", "three", named, "--labelled", *places, "--json")
    told = json.loads(said.out)
    assert told["complete"] is True
    whole = asked.classifiers()[0]  # the run's own
    k = whole.classes.index("three")
    version = newest(Shelf(tmp_path), "three").classifiers
    assert version.weights[0].tolist() == whole.weights[k].tolist()
    assert version.intercepts[0] == whole.intercepts[k]


def test_windows_are_selected_in_sql(run: Run) -> None:
    condition = (
        "(image_id, x_min, y_min, x_max, y_max) IN (SELECT (image_id, x_min, y_min, x_max, y_max) "
        "FROM objects WHERE class = 'three') AND source = 'ground_truth'"
    )
    told = run("new", "--where", condition, "--complete", "--json")
    assert told["complete"] is True
    assert told["positives"] == told["yes"] > 3


def test_what_is_wrong_is_said_and_nothing_is_kept(
    run: Run, spp: Run, refused: Run, tiny_run: Path, tmp_path: Path
) -> None:
    (row,) = objects(tiny_run, 1)
    bad = tmp_path / "bad.csv"
    bad.write_text("image_id,x_min,y_min,x_max,y_max\na,1,x,3,4\n")
    for arguments, says in (
        (("--box", "nothere:1,2,3,4"), "has no image nothere"),
        (("--box", f"{row['image_id']}:1,2,3000,4"), "is not inside image"),
        (("--csv", bad), "bad.csv, line 2: y_min is 'x'"),
        (("--window", f"{row['image_id']}/99999"), "has no window 99999"),
        (("--where", "1 = 0"), "satisfies '1 = 0'"),
        ((), "and none says yes"),
    ):
        refused(run("new", *arguments), 1, says)
    # By its folder alone no network is known for a box that no window is near.
    root = ask(f"{tiny_run.parent / 'tiny.toml'}:train", tiny_run).store.root
    box = ("--box", f"{row['image_id']}:0,0,1,1", "--shelf", tmp_path / "shelf")
    refused(spp("new", NAME, str(root), *box), 1, "is no window of", "name the store by its recipe")
    assert Shelf(tmp_path / "shelf").classes() == []
    refused(run("new", "--no", f"{row['image_id']}/0"), 1, "has 1 marks", "none says yes")
    refused(run("detect"), 1, "has no classifier of", "teach it with spp new")
    for unclear in (("--undo", "--labelled"), ("--undo", "--history"), ("--history", "--complete")):
        assert run("new", *unclear).code == 2


def test_a_file_of_marks_is_looked_at_before_they_are_kept(
    run: Run, tiny_run: Path, tmp_path: Path
) -> None:
    (row,) = objects(tiny_run, 1)
    said = run("new", "--box", box_of(row), "--marks", tmp_path / "x.txt")
    assert (said.code, "that ends in .csv or .json" in " ".join(said.err.split())) == (2, True)
    assert Shelf(tmp_path / "shelf").classes() == []


def test_the_next_command_has_the_options_that_it_needs() -> None:
    bare = next_command("digits:train", "a b", None, Path("runs"), None, None)
    assert bare == "spp detect digits:train --class 'a b'"
    given = next_command("x:test", "c", "s3://b/s", Path("r"), Path("d"), ["svm.C=1", "seed=7"])
    assert given == (
        "spp detect x:test --class c --shelf s3://b/s --runs r --data d --set svm.C=1 --set seed=7"
    )


def test_detect_tells_a_recipe_from_a_store(spp: Run, tiny_run: Path, tmp_path: Path) -> None:
    recipe = tiny_run.parent / "tiny.toml"
    assert spp("detect", recipe, "--runs", tiny_run, "--serial").code == 0
    said = spp("detect", recipe, "--out", tmp_path / "x.parquet")
    assert (said.code, "go with --class" in said.err) == (2, True)


def test_classes_of_several_scales_are_detected_together(
    spp: Run, tiny_run: Path, tmp_path: Path
) -> None:
    places = ("--runs", tiny_run, "--shelf", tmp_path, "--json")
    store = str(tiny_run.parent / "tiny.toml")
    (row,) = objects(tiny_run, 1)
    for name in ("three", "drei"):
        assert spp("new", name, f"{store}:train", "--box", box_of(row), *places).code == 0
    both = ("--class", "three", "--class", "drei")
    together = json.loads(spp("detect", f"{store}:test", *both, *places).out)
    assert [each["class"] for each in together] == ["three", "drei"]
    assert together[0]["best"][0]["score"] == together[1]["best"][0]["score"]
    assert key_of("three") in together[0]["file"]
    held = ask(f"{store}:test", tiny_run).store
    known = newest(Shelf(tmp_path), "three").classifiers
    scores = [known.score(vectors(table))[~is_ground_truth(table)].max() for table in held.scan()]
    assert together[0]["best"][0]["score"] == pytest.approx(max(scores), rel=1e-4)


def test_of_several_sources_all_are_kept_or_none(run: Run, tiny_run: Path, tmp_path: Path) -> None:
    (first,) = objects(tiny_run, 1)
    table = tmp_path / "marks.csv"
    table.write_text("image_id,x_min,y_min,x_max,y_max\nnothere,1,2,30,40\n")
    said = run("new", "--box", box_of(first), "--csv", table)
    assert (said.code, "has no image nothere" in said.err) == (1, True)
    assert Shelf(tmp_path / "shelf").classes() == []
