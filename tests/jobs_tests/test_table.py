"""Tables of recipes and combinations: one DAG, each job once, and what is printed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import combine, suite, tables
from jobs.lines import Line, format_table
from jobs.table_file import TableFile
from pipeline.detection import read_detections
from pipeline.errors import RecipeError

TABLE = """
title = "Small"
baseline = "wide"
[[rows]]
name = "narrow"
recipe = "tiny.toml"
paper = 44.9
[[rows]]
name = "wide"
recipe = "tiny.toml"
set = { "network.width" = 0.2 }
[[rows]]
name = "both"
combine = ["narrow", "wide"]
"""


@pytest.fixture
def small(tiny: Path) -> Path:
    path = tiny.with_name("small.toml")
    path.write_text(TABLE)
    return path


def test_rows_share_what_they_have_in_common(
    small: Path, tiny: Path, spp: Callable[..., Any]
) -> None:
    runs = tiny.parent / "runs"
    before = json.loads(spp("status", small, "--runs", runs, "--json").out)
    assert {row["state"] for row in before} == {"waiting"}
    said = spp("table", small, "--serial", "--runs", runs)
    assert said.code == 0, said.err
    after = json.loads(spp("status", small, "--runs", runs, "--json").out)
    assert [row["job"] for row in after] == [row["job"] for row in before]
    assert {row["state"] for row in after} == {"done"}
    kinds = [path.name.rpartition("-")[0] for path in (runs / "jobs").iterdir()]
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    assert counts == {
        **{"dataset": 2, "windows_train": 1, "windows_test": 1},
        **{"extract_train": 2, "extract_test": 2, "train": 2, "mine": 2},
        **{"detect": 4, "combine": 1, "evaluate": 3, "report": 3},
    }
    for word in (
        "Small",
        "narrow",
        "wide",
        "both",
        "44.9",
        "conv s/image",
        "times as fast as wide",
    ):
        assert word in said.out
    assert (runs / "small" / "table.md").read_text() in said.out
    told = json.loads((runs / "small" / "table.json").read_text())
    rows = {row["name"]: row for row in told["rows"]}
    assert rows["both"]["conv_s"] is None
    assert rows["narrow"]["conv_s"] > 0
    # Each row alone is what `spp run` makes of its recipe.
    ran = spp("run", tiny, "--serial", "--runs", runs, "--set", "network.width=0.2", "--json")
    jobs = {row["job"]: row for row in json.loads(ran.out)}
    assert jobs["evaluate"]["summary"]["mAP"] == rows["wide"]["value"]

    # A combination is of the windows before suppression: each model's best is still there.
    planned = suite.plan(*_known(small, tiny), runs)
    # By which later runs, alone or in a table, know what they may take over.
    assert all(each.settings for name, each in planned.steps.items() if "extract" in name)
    found = {
        name: read_detections(planned.step(name, "detect").folder / "detections")
        for name in ("narrow", "wide", "both")
    }
    best = {name: max(table["score"].to_pylist()) for name, table in found.items()}
    assert best["both"] == max(best["narrow"], best["wide"])
    scored = read_detections(planned.step("narrow, scored", "detect").folder / "detections")
    assert len(scored) > len(found["narrow"])

    again = spp("table", small, "--serial", "--runs", runs)
    assert again.code == 0
    assert (runs / "small" / "table.md").read_text() in again.out


def _known(small: Path, tiny: Path) -> Any:
    _, file, folder = tables.read(str(small))
    known = tables.recipes(file, folder, [], None)
    return known, {row.name: row.combine for row in file.rows if row.combine}


def test_two_recipes_are_combined_by_name(tiny: Path, spp: Callable[..., Any]) -> None:
    other = tiny.with_name("other.toml")
    other.write_text('extends = "tiny.toml"\nname = "other"\n[network]\nwidth = 0.15\n')
    runs = tiny.parent / "runs"
    said = spp("combine", tiny, other, "--serial", "--runs", runs, "--name", "two")
    assert said.code == 0, said.err
    assert "combination" in said.out
    assert "| nine" in said.out  # by class
    assert (runs / "two" / "table.json").is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("title", "titel"), "titel: Extra inputs"),
        (('recipe = "tiny.toml"\nset', "set"), "row 'wide' needs a recipe, or rows to combine"),
        (
            ('["narrow", "wide"]', '["narrow", "wire"]'),
            "'both' combines 'wire', which is no recipe",
        ),
        (('name = "wide"', 'name = "narrow"'), "two rows are called 'narrow'"),
        (('baseline = "wide"', 'baseline = "broad"'), "baseline 'broad' is no row"),
        (('"network.width" = 0.2', '"network.with" = 0.2'), "network.with is not a key"),
        (
            ('"network.width" = 0.2', '"detection.nms_iou" = 0.5'),
            "detection.nms_iou = 0.3, and wide",
        ),
        (("[[rows]]", "[rows"), "is not TOML"),
        (('combine = ["n', 'set = { seed = 1 }\ncombine = ["n'), "sets nothing of its own"),
        (('"network.width" = 0.2', '"network" = { width = 1 }'), "network is a table; write its"),
        (("paper = 44.9", "paper_ap = [1.0]"), "paper_ap has 1 numbers, and the recipe 10 classes"),
        (('combine = ["narrow", "wide"]', 'combine = ["narrow"]'), "takes two models or more"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_said_before_anything_runs(
    small: Path, spp: Callable[..., Any], changes: tuple[str, str], said: str
) -> None:
    small.write_text(small.read_text().replace(*changes))
    answer = spp("table", small, "--serial", "--runs", small.parent / "runs")
    assert answer.code == 2
    assert said in answer.err
    assert not (small.parent / "runs" / "jobs").exists()


def test_a_table_is_told_from_a_recipe(small: Path, tiny: Path) -> None:
    assert tables.is_table(str(small))
    assert tables.is_table("table1")
    for other in (str(tiny), "digits", "no_such", str(tiny.parent)):
        assert not tables.is_table(other)
    small.write_text("[[rows")
    assert not tables.is_table(str(small))


def test_no_such_table_names_those_that_there_are(spp: Callable[..., Any], tiny: Path) -> None:
    answer = spp("table", "table7")
    assert answer.code == 2
    assert (
        "no table table7; give a TOML file, or one of scales_caltech_subset, scales" in answer.err
    )
    answer = spp("combine", tiny)
    assert (answer.code, "two models or more" in answer.err) == (2, True)
    answer = spp("combine", tiny, tiny, "--name", "../x")
    assert (answer.code, "--name is '../x'" in answer.err) == (2, True)
    answer = spp("combine", tiny, tiny)
    assert (answer.code, "have one name" in answer.err) == (2, True)


@pytest.mark.parametrize("name", sorted(path.stem for path in tables.TABLES.glob("*.toml")))
def test_shipped_tables_can_be_planned(name: str, tmp_path: Path) -> None:
    _, file, folder = tables.read(name)
    for path in ("zf5", "zf5_2", "plain_zf5", "weights/squeezenet1_1/squeezenet1_1"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{path}.safetensors").touch()
    for root in ("imagenet", "classification/caltech101_subset"):
        for name_ in ("cat", "dog"):
            (tmp_path / root / "train" / name_).mkdir(parents=True)
    known = tables.recipes(file, folder, [], tmp_path)
    assert [*known] == [name for row in file.rows if row.recipe for name in file.members(row)]
    for row in file.rows:
        assert row.paper_ap is None or len(row.paper_ap) == 20
        if row.combine:
            combine.require_alike({member: known[member] for member in row.combine})


def test_a_table_says_what_it_knows_and_no_more() -> None:
    file = TableFile.model_validate(
        {
            "title": "T",
            "baseline": "b",
            "per_class": True,
            "note": "Said below.",
            "rows": [
                {"name": "a", "recipe": "x", "paper": 50, "paper_ap": [60, 40]},
                {"name": "b", "recipe": "x", "paper_s": 0.5},
            ],
        }
    )
    lines = [
        Line("a", 0.5, None, {"cat": 0.61, "dog": 0.39}, 0.02, 0.03),
        Line("b", None, None, {"cat": None, "dog": 0.1}, 0.2, 0.3),
    ]
    text = format_table(file, lines)
    assert "| a   | 50.0 |  50.0 |        0.020 |                0.030 |" in text
    assert "10.0" in text  # times as fast: (0.2 + 0.3) / (0.02 + 0.03)
    assert "| cat   | 61.0 |  60.0 |    – |" in text
    assert text.rstrip().endswith("Said below.")


def test_recipes_beside_the_table_go_first(small: Path, tiny: Path) -> None:
    _, file, folder = tables.read(str(small))
    known = tables.recipes(file, folder, ["seed=5"], None)
    assert {name: (each.seed, each.network.width) for name, each in known.items()} == {
        "narrow": (5, 0.1),
        "wide": (5, 0.2),
    }
    tiny.unlink()
    with pytest.raises(RecipeError, match=r"no recipe tiny\.toml"):
        tables.recipes(file, folder, [], None)
    quoted = tables.TableRow.model_validate(
        {"name": "q", "recipe": "digits", "set": {"dataset.root": 'C:\\data "x"'}}
    )
    one = TableFile(title="T", rows=(quoted,))
    assert tables.recipes(one, folder, [], tiny.parent)["q"].dataset.root is not None
