"""Box regression in a whole run, beside classifiers that read pool5 and such that read fc7."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import dag, options, steps
from pipeline.detection import read_detections
from pipeline.learning import box_regressors
from pipeline.store.schema import box_array

REGRESSED = ("--set", "regression.enabled=true")
FC7 = ("--set", "features.layer=fc7")


@pytest.fixture
def folders(tiny: Path) -> Callable[..., dict[str, Path]]:
    def plan(*changes: str) -> dict[str, Path]:
        """Where the jobs of the changed recipe leave what they make."""
        recipe = options.load(str(tiny), [each for each in changes if each != "--set"], None)
        planned = dag.plan(steps.jobs_of(recipe), recipe, tiny.parent / "runs")
        return {name: step.folder for name, step in planned.items()}

    return plan


def test_detections_move_and_pool5_is_extracted_once(
    tiny: Path, spp: Callable[..., Any], folders: Callable[..., dict[str, Path]]
) -> None:
    run = ("run", tiny, "--serial", "--runs", tiny.parent / "runs")
    for changes in ((), REGRESSED, (*FC7, *REGRESSED)):
        assert spp(*run, *changes).code == 0, changes
    plain, moved, fc7 = folders(), folders(*REGRESSED), folders(*FC7, *REGRESSED)

    # The store of pool5 and the regressors are those of the recipe for pool5.
    assert fc7["pool5_train"] == plain["extract_train"]
    assert fc7["pool5_test"] == plain["extract_test"]
    assert fc7["regress"] == moved["regress"]
    assert fc7["extract_train"] != plain["extract_train"]
    assert "regress" not in plain
    known = box_regressors.load(moved["regress"])
    # A class whose objects no window covers has learnt from the objects alone, which stay.
    learnt = {k for k, own in zip(known.classes, known.weights, strict=True) if own.any()}
    assert len(learnt) > 1
    summary = json.loads((moved["regress"] / "done.json").read_text())["summary"]
    assert summary["error_after"] < summary["error_before"]

    # Windows are whole pixels; what was moved is not, and lies within its image.
    tables = [read_detections(each["detect"] / "detections") for each in (plain, moved, fc7)]
    boxes = [box_array(table) for table in tables]
    images = pq.read_table(plain["dataset_test"] / "images.parquet").to_pylist()
    sizes = {image["image_id"]: (image["width"], image["height"]) for image in images}
    assert (boxes[0] == np.round(boxes[0])).all()
    for table, each in zip(tables[1:], boxes[1:], strict=True):
        taught = np.array([name in learnt for name in table["class"].to_pylist()])
        went = (each != np.round(each)).any(axis=1)
        assert went[taught].mean() > 0.9
        assert not went[~taught].any()
        assert each.min() >= 0
        assert (
            each[:, 2:] <= [sizes[image_id] for image_id in table["image_id"].to_pylist()]
        ).all()
        assert (each[:, 2:] > each[:, :2]).all()
    # Suppressed once more, so never more than before.
    assert len(boxes[1]) <= len(boxes[0])
    diagnosis = json.loads((moved["evaluate"] / "diagnosis.json").read_text())
    assert set(diagnosis) == set(known.classes)
