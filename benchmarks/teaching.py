"""Teaching a class by examples: how good by how many, how long that takes, and by all labels.

Classes are held out in turn: what is taught are boxes of some of their objects, drawn thrice, and
average precision is that on the recipe's test images, beside what all boxes of the class give.
Seconds are those of `teach`: vectors, fit, cross-validation and a pass over the store, against one
reading of the store's vectors by Parquet on one thread. With their labels (and hard negatives from
the whole store) all classes must come out as the recipe's own, bit for bit. A mining pass for one
class over all shards stands against the same reading; one thread, page cache.

On the photographs of `../shared/data` with the recipe `voc_squeezenet` (10 GB in the temporary
folder) where these are there, else on the embedded digits.
"""

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import Row, main, median_s
from mining import read

from jobs import steps
from jobs.asked import Asked, ask
from jobs.execution import DONE, execute
from jobs.new import settings_of
from jobs.options import load
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.evaluation import evaluate_detections
from pipeline.learning.mining import MiningSpec, mine_shard, start_shard
from pipeline.store.identity import images_digest
from pipeline.store.schema import BOX_COLUMNS
from pipeline.teaching import Mark, Shelf, Taught, teach
from pipeline.teaching.detecting import detect_taught
from pipeline.threads import torch_threads

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COUNTS, DRAWS = (1, 5, 20), 3
HELD_OUT = ("car", "person", "dog", "bicycle", "aeroplane", "horse")
TINY = (
    *("dataset.train_images=12", "dataset.test_images=8", "windows.method=grid"),
    *("windows.max_windows=60", "network.width=0.1", "network.fc_units=16"),
    *("features.scales=[160]", "features.levels=[2, 1]", "features.shard_bytes=40_000"),
    "svm.negatives=5",
)
LEAST_AP = 1e-6  # a tiny store may find nothing, and a ratio needs a number


@dataclass(frozen=True)
class Ground:
    """A run with mined classifiers and both stores, and what is held out of it."""

    recipe: Recipe
    train: Asked
    test: Asked
    held_out: Sequence[str]
    classes: Sequence[str]
    """Taught by labels."""
    draws: int


def make(root: Path, quick: bool) -> Ground:
    """Extract and mine a recipe."""
    name, overrides, data = "digits", [], None
    if quick:
        name, overrides = "digits_untrained", list(TINY)
    elif DATA.is_dir():
        name, data = "voc_squeezenet", DATA
    recipe = load(name, overrides, data)
    with contextlib.redirect_stdout(sys.stderr):
        target = (*steps.TARGETS["mine"], *steps.TARGETS["extract"])
        assert execute([recipe], [target], root, serial=True) == DONE
    train, test = (ask(f"{name}:{split}", root, data, overrides) for split in ("train", "test"))
    known = class_names(recipe.dataset)
    held_out = [each for each in HELD_OUT if each in known] or known
    if quick:
        return Ground(recipe, train, test, held_out[:1], known[-2:], 1)
    return Ground(recipe, train, test, held_out, known, DRAWS)


def marks_of(held: Asked, class_: str) -> list[Mark]:
    """The objects of a class that are not difficult."""
    rows = [row for row in held.store.objects.to_pylist() if row["class"] == class_]
    corners = [tuple(row[name] for name in BOX_COLUMNS) for row in rows]
    each = zip(rows, corners, strict=True)
    return [Mark(row["image_id"], box) for row, box in each if not row["difficult"]]


def taught(ground: Ground, shelf: Shelf, class_: str) -> Taught:
    """Train what is marked on the training images."""
    return teach(shelf, ground.train.store, class_, settings_of(ground.train))


def precision(ground: Ground, shelf: Shelf, class_: str) -> float:
    """Average precision on the test images."""
    store, settings = ground.test.store, ground.test.detection_settings
    (found,) = detect_taught(shelf, store, [class_], settings)
    images = store.images["image_id"].to_pylist()
    judged = evaluate_detections(found.table, store.objects, classes=[class_], image_ids=images)
    return float(judged.ap[class_])


def by_examples(ground: Ground, root: Path, read_s: float) -> list[Row]:
    """AP and seconds of some boxes, beside those of all."""
    rows: list[Row] = []
    draws: dict[int | None, list[tuple[float, float]]] = {}  # by how many: AP and seconds
    for class_ in ground.held_out:
        marks = marks_of(ground.train, class_)
        for count in (*COUNTS, None):
            for draw in range(1 if count is None else ground.draws):
                random = np.random.default_rng([draw, count or 0])
                chosen = random.permutation(len(marks))[:count]
                shelf = Shelf(root / f"{count}-{draw}")
                shelf.mark(class_, [marks[place] for place in chosen])
                seconds = sum(taught(ground, shelf, class_).seconds.values())
                draws.setdefault(count, []).append((precision(ground, shelf, class_), seconds))
    what = f"{len(ground.held_out)} held out, {ground.draws} draws, {ground.recipe.name}"
    means = {
        count: (max(statistics.mean(ap for ap, _ in held), LEAST_AP), [s for _, s in held])
        for count, held in draws.items()
    }
    best, _ = means[None]
    windows = f"a pass over {len(ground.train.store):,} windows is part of it"
    for count, (ap, seconds) in means.items():
        of = "all boxes" if count is None else f"{count} box{'es' * (count > 1)}"
        if count is not None:
            rows.append(Row(f"AP by all boxes, {what}", best, of, ap, None, unit="AP"))
        taken = statistics.median(seconds)
        rows.append(Row(f"teaching by {of}", taken, "reading the vectors", read_s, None, windows))
    return rows


def by_labels(ground: Ground, root: Path) -> Row:
    """All classes by their labels, against the recipe's classifiers."""
    shelf, classes = Shelf(root / "labels"), ground.classes
    whole, equal, seconds = ground.train.classifiers()[0], 0, []
    said = images_digest(ground.train.store)
    for class_ in classes:
        shelf.mark(class_, labelled=True, source="labels", images_digest=said)
        made = taught(ground, shelf, class_)
        known, own = made.version.classifiers, whole.only(class_)
        same = np.array_equal(known.weights, own.weights) and known.scale == own.scale
        equal += same and np.array_equal(known.intercepts, own.intercepts)
        seconds.append(sum(made.seconds.values()))
    assert equal == len(classes), f"{len(classes) - equal} classes differ from the recipe's"
    note = f"median of {statistics.median(seconds):.1f} s a class by its labels, mining included"
    peer = "those that are the recipe's, bit for bit"
    return Row("classes by labels", len(classes), peer, equal, 1.0, note, unit="classes")


def mining_pass(ground: Ground, root: Path, read_s: float, runs: int) -> Row:
    """One class's pass over the whole store, against reading it."""
    store, class_ = ground.train.store, ground.held_out[0]
    how = settings_of(ground.train)
    spec = MiningSpec(store, (class_,), how.svm, how.mining, how.seed)
    known = ground.train.classifiers()[0].only(class_)
    caches = [root / "start", root / "mined"]
    shard_ids = [entry.shard_id for entry in store.shards]
    for shard_id in shard_ids:
        start_shard(spec, shard_id, caches[0])

    def mine() -> None:
        for shard_id in shard_ids:
            mine_shard(spec, shard_id, caches, known)

    what = f"mining pass of one class over {len(store):,} windows"
    return Row(what, median_s(mine, runs), "reading the vectors", read_s, 1 / 1.3)


def run(quick: bool) -> list[Row]:
    """One recipe; every way to teach it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ground = make(root / "runs", quick)
        runs = 1 if quick else 5
        with torch_threads(1):
            read_s = median_s(lambda: read(ground.train.store), runs)
            mined = mining_pass(ground, root / "caches", read_s, runs)
        return [*by_examples(ground, root, read_s), by_labels(ground, root), mined]


if __name__ == "__main__":
    main(run)
