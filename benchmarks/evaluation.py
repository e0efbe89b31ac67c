"""Average precision of many detections, against pycocotools.

Images of 500×375 px with a few objects that do not overlap, and detections of which half lie near
an object. Ours reads the Arrow table that `spp evaluate` reads, names as text; VOC's rule at IoU
0.5. pycocotools gets the same work: one IoU, one area range, at most 100 detections of a class in
an image. It is timed twice: from records that were loaded beforehand (`evaluate` and `accumulate`
alone), and from the same table (its list of records and `loadRes` as well). Where objects of a
class do not overlap, both rules agree: the same detections must be true, and our curves read at
COCO's 101 recalls must give its average precision for every class.
"""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import Row, main, median_s, peak_of
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.evaluation import Evaluation, evaluate_coco, evaluate_detections
from pipeline.evaluation.matching import TRUE
from pipeline.evaluation.tables import SIDES

CLASSES = [f"class{number:02d}" for number in range(20)]
CELL, COLUMNS, CELLS = 125, 4, 12  # px; an image is 4 × 3 cells, and an object lies within one


@dataclass(frozen=True)
class Scenes:
    """Tables of detections and objects, and all images."""

    found: pa.Table
    truth: pa.Table
    image_ids: list[str]


def make(images: int, each: int, seed: int = 0) -> Scenes:
    """`each` detections of every class in every image."""
    rng = np.random.default_rng(seed)
    image, cell = np.nonzero(rng.random((images, CELLS)) < 0.3)
    pair = image * len(CLASSES) + rng.integers(0, len(CLASSES), len(image))
    corner = CELL * np.stack([cell % COLUMNS, cell // COLUMNS], axis=1)
    margins = rng.integers(0, CELL // 4, (2, len(image), 2))
    order = np.argsort(pair, kind="stable")
    pair = pair[order]
    boxes = np.hstack([corner + margins[0], corner + CELL - margins[1]])[order].astype(np.float32)
    counts = np.bincount(pair, minlength=images * len(CLASSES))
    found_pair = np.repeat(np.arange(len(counts)), each)
    rows = len(found_pair)
    # half of them near one of the objects of their class, where there is one
    near = (rng.random(rows) < 0.5) & (counts[found_pair] > 0)
    chosen = rng.integers(0, np.maximum(counts, 1)[found_pair])
    target = np.where(near, np.searchsorted(pair, found_pair) + chosen, 0)
    low = rng.random((rows, 2), dtype=np.float32) * np.array([450, 325], np.float32)
    anywhere = np.hstack([low, low + 20 + 30 * rng.random((rows, 2), dtype=np.float32)])
    moved = boxes[target] + 40 * (rng.random((rows, 4), dtype=np.float32) - np.float32(0.5))
    score = rng.random(rows, dtype=np.float32)
    names = [f"{number:06d}" for number in range(images)]
    return Scenes(
        _table(names, found_pair, np.where(near[:, None], moved, anywhere), score=score),
        _table(names, pair, boxes),
        names,
    )


def _table(names: list[str], pair: np.ndarray, boxes: np.ndarray, **more: np.ndarray) -> pa.Table:
    def text(codes: np.ndarray, words: list[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(codes.astype(np.int32), words).cast(pa.string())

    image, kind = np.divmod(pair, len(CLASSES))
    sides = {side: pa.array(boxes[:, k].copy()) for k, side in enumerate(SIDES)}
    return pa.table({"image_id": text(image, names), "class": text(kind, CLASSES), **more, **sides})


def ours(scenes: Scenes) -> Evaluation:
    """What is measured."""
    return evaluate_detections(scenes.found, scenes.truth, image_ids=scenes.image_ids)


def records(table: pa.Table) -> list[dict[str, Any]]:
    """A table as pycocotools takes it."""
    boxes = np.stack([table[side].to_numpy() for side in SIDES], axis=1).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    number = {name: code for code, name in enumerate(CLASSES, start=1)}
    image_ids, names = table["image_id"].to_pylist(), table["class"].to_pylist()
    rows = [
        {"image_id": int(image), "category_id": number[name], "bbox": box}
        for image, name, box in zip(image_ids, names, boxes.tolist(), strict=True)
    ]
    if "score" in table.column_names:
        for row, score in zip(rows, table["score"].to_pylist(), strict=True):
            row["score"] = score
    return rows


def labelled(scenes: Scenes) -> COCO:
    """The ground truth as pycocotools holds it."""
    coco: Any = COCO()  # its stubs want records of their own type
    rows = records(scenes.truth)
    for number, row in enumerate(rows, start=1):
        row |= {"id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
    coco.dataset = {
        "images": [{"id": int(name)} for name in scenes.image_ids],
        "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES, start=1)],
        "annotations": rows,
    }
    coco.createIndex()
    return coco


def judged(truth: COCO, found: COCO, full: bool = False) -> COCOeval:
    """Evaluate by pycocotools: all its ten IoUs and four areas, or one of each."""
    judge = COCOeval(truth, found, "bbox")
    if not full:
        judge.params.iouThrs = np.array([0.5])
        judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], ["all"]
        judge.params.maxDets = [100]
    judge.evaluate()
    judge.accumulate()
    return judge


def assert_equal(scenes: Scenes, judge: COCOeval) -> None:
    """The same detections are true, and every class has the same average precision."""
    evaluation = ours(scenes)
    true = np.zeros(len(scenes.found), bool)
    for image in filter(None, judge.evalImgs):
        true[np.array(image["dtIds"], int) - 1] = image["dtMatches"][0] > 0
    assert np.array_equal(evaluation.matches.codes == TRUE, true)
    for k, name in enumerate(CLASSES):
        curve = evaluation.curves[name]
        envelope = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0)
        at_recalls = envelope[np.searchsorted(curve.recall, judge.params.recThrs)]
        theirs = judge.eval["precision"][0, :, k, 0, -1]
        if name in evaluation.without_positives:
            at_recalls = np.full(len(theirs), -1)  # as pycocotools writes it
        assert np.allclose(at_recalls, theirs, rtol=0, atol=1e-9), name


def quiet(function: Callable[[], Any]) -> Callable[[], Any]:
    """The function without what it prints."""

    def call() -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            return function()

    return call


def against_pycocotools(scenes: Scenes, what: str, runs: int) -> list[Row]:
    """Rows of one size: a table to curves and average precisions."""
    alone_s: list[float] = []

    def theirs() -> COCOeval:
        found = truth.loadRes(records(scenes.found))
        start = time.perf_counter()
        judge = judged(truth, found)
        alone_s.append(time.perf_counter() - start)
        return judge

    truth = quiet(lambda: labelled(scenes))()
    assert_equal(scenes, quiet(theirs)())
    alone_s.clear()
    spent_s = median_s(lambda: ours(scenes), runs)
    whole_s = median_s(quiet(theirs), runs)
    loaded_s = statistics.median(alone_s[1:])  # less the call that warms up
    return [
        Row(what, spent_s, "pycocotools, records loaded beforehand", loaded_s, 1),
        Row(what, spent_s, "pycocotools, from the same table", whole_s, 1),
    ]


def coco_figures(scenes: Scenes, what: str, runs: int) -> Row:
    """COCO's six average precisions, ours through faster-coco-eval."""

    def theirs() -> COCOeval:
        return judged(labelled(scenes), truth.loadRes(records(scenes.found)), full=True)

    truth = quiet(lambda: labelled(scenes))()
    judge = quiet(theirs)()
    quiet(judge.summarize)()
    figures = evaluate_coco(scenes.found, scenes.truth, scenes.image_ids)
    wanted = np.where(judge.stats[:6] < 0, np.nan, judge.stats[:6])  # -1 where nothing is to find
    assert np.allclose(list(figures.values()), wanted, rtol=0, atol=1e-9, equal_nan=True)
    spent_s = median_s(lambda: evaluate_coco(scenes.found, scenes.truth, scenes.image_ids), runs)
    return Row(what, spent_s, "pycocotools, from the same table", median_s(quiet(theirs), runs), 1)


def large(folder: str, runs: int) -> tuple[float, int, int]:
    """Seconds, bytes taken and the table's bytes, in a process that has done nothing else."""
    found, truth = (pq.read_table(Path(folder) / name) for name in ("found", "truth"))
    scenes = Scenes(found, truth, pq.read_table(Path(folder) / "images")["image_id"].to_pylist())
    ours(Scenes(found.slice(0, 1000), truth, scenes.image_ids))  # loads the compiled code
    taken = peak_of(lambda: ours(scenes))
    return median_s(lambda: ours(scenes), runs), taken, found.nbytes


def apart(scenes: Scenes, runs: int) -> tuple[float, int, int]:
    """Call `large` in a fresh process, as `spp evaluate` is one: tables come from Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        images = pa.table({"image_id": scenes.image_ids})
        tables = {"found": scenes.found, "truth": scenes.truth, "images": images}
        for name, table in tables.items():
            pq.write_table(table, Path(folder) / name)
        with get_context("spawn").Pool(1) as pool:
            return pool.apply(large, (folder, runs))


def run(quick: bool) -> list[Row]:
    """Three sizes and COCO's figures."""
    images, runs = (50, 1) if quick else (5000, 5)
    some = make(images, 5)
    what = f"AP of {len(some.found):,}: {images:,} images × 20 classes × 5"
    rows = against_pycocotools(some, what, runs)
    dense = make(images // 10, 100)
    what = f"AP of {len(dense.found):,}: {images // 10:,} images × 20 classes × 100"
    rows += against_pycocotools(dense, what, runs)
    few = make(images // 5, 5)
    what = f"COCO's AP of {len(few.found):,}: 10 IoUs, 4 areas"
    rows.append(coco_figures(few, what, runs))
    return rows + all_of_it(images, rows[2].ours_s, runs)


def all_of_it(images: int, tenth_s: float, runs: int) -> list[Row]:
    """The full size: 100 detections of each class in each image; ten times the dense one."""
    every = make(images, 100)
    spent_s, taken, held = apart(every, runs)
    what = f"{len(every.found):,}: {images:,} images × 20 classes × 100"
    note = (
        "pycocotools is not run on 10 million: its records alone, at 0.96 kB each, are 9.6 GB; "
        "ours is compared with ten times a tenth of it, its memory with its own table's"
    )
    return [
        Row(f"AP of {what}", spent_s, "10 × ours of a tenth of them", 10 * tenth_s, None, note),
        Row(f"memory for {what}", taken, "their table", held, None, note, unit="B"),
    ]


if __name__ == "__main__":
    main(run)
