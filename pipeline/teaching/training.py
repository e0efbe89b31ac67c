"""From the marks on a shelf to a classifier: vectors, a fit, a judgement, a pass over the store."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Mining, Svm
from pipeline.errors import InputError
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.mining import MiningSpec
from pipeline.networks import Network
from pipeline.store.blocks import query
from pipeline.store.identity import images_digest, store_digest
from pipeline.store.reader import Store
from pipeline.store.records import to_json
from pipeline.store.rows import Vectors
from pipeline.teaching import complete, few, versioning
from pipeline.teaching.judging import Judged, Problem, cross_validate, truth_of
from pipeline.teaching.locating import Held, Located, locate
from pipeline.teaching.marks import Mark, plain, shown
from pipeline.teaching.ranking import Ranking, rank
from pipeline.teaching.shelf import Shelf
from pipeline.teaching.versioning import Version
from pipeline.teaching.view import (
    TaughtStore,
    keep_examples,
    read_examples,
    write_examples,
)

JUDGED_IMAGES = 2_000  # without the class, by which it is judged where all objects are known


@dataclass(frozen=True)
class Settings:
    """How to train: a recipe's, or the defaults."""

    svm: Svm = Svm()  # noqa: RUF009 - frozen
    mining: Mining = Mining()  # noqa: RUF009 - frozen
    seed: int = 0


@dataclass(frozen=True)
class Taught:
    """What came of the marks."""

    version: Version
    ranking: Ranking
    seconds: Mapping[str, float]
    """By step."""
    nearest: tuple[Located, ...]
    """Marks for which a stored window was taken that is not quite their box."""


def teach(
    shelf: Shelf,
    store: Store,
    class_: str,
    settings: Settings,
    network: Callable[[], Network | None] = lambda: None,
    count: int = 12,
) -> Taught:
    """Train a classifier of the marks that a shelf has of a class, and keep it there.

    Args:
        shelf: has the marks.
        store: the marks are on its images, and negatives come from it.
        class_: its name.
        settings: of the SVM and of mining.
        network: gives that which made the store, if it is known; asked for where a box is no stored
            window.
        count: hits to return of each kind.

    Raises:
        InputError: no mark says yes, or a mark does not fit the store.
    """
    clock = _Clock()
    said = shelf.lesson(class_, images_digest(store))
    if not said.labelled and not any(mark.yes for mark in said.marks):
        raise InputError(
            f"{shown(class_)} has {len(said.marks)} marks in {shelf.root}, and none says yes: mark "
            "a window that shows it"
        )
    held = _held(shelf, store, class_)
    located = _located(store, said.marks, network, held, settings.svm.negative_iou)
    if not said.labelled and not any(each.mark.yes for each in located):
        raise InputError(
            f"no mark of {shown(class_)} with a yes is on an image of {store.root}: train on the "
            "store of those images first, which keeps their vectors, or mark a window here"
        )
    folder = versioning.new_folder()
    root = shelf.of_class(class_) / versioning.VERSIONS / folder
    keep_examples(root, store, located)
    drawn = root if write_examples(root, store.spec, located) else None
    clock.lap("vectors")
    with tempfile.TemporaryDirectory(prefix="spp-new-") as aside:
        view = TaughtStore(store.root, class_, tuple(located), said.labelled, drawn)
        spec = MiningSpec(view, (class_,), settings.svm, settings.mining, settings.seed, view.told)
        if said.complete:
            known, problem = _complete(spec, Path(aside))
        else:
            known, problem = _few(spec, store, located)
        clock.lap("training")
        judged = _judge(store, view, problem, said.complete)
        clock.lap("judging")
    ranking = rank(store, known, count, {mark.image_id for mark in said.marks})
    clock.lap("ranking")
    told = _told(store, said.marks, said.complete, known, judged, ranking, clock.laps)
    told["left_out"] = len(said.marks) - len(located)
    version = versioning.save(shelf, class_, known, told, folder)
    nearest = tuple(each for each in located if each.vector is None and each.iou < 1)
    return Taught(version, ranking, clock.laps, nearest)


def _held(shelf: Shelf, store: Store, class_: str) -> Held:
    """Return the vectors that were kept by the newest version of such vectors as the store's."""
    before = versioning.newest_on(shelf, class_, store)
    return {} if before is None else read_examples(before.root, store.spec)


def _located(
    store: Store,
    marks: Sequence[Mark],
    network: Callable[[], Network | None],
    held: Held,
    negative_iou: float,
) -> list[Located]:
    """Return where the vectors of marks are, by image.

    A shelf may serve several stores. Marks on images of another one count by the vectors that a
    training there has kept; those without are left out.
    """
    here = {name: store.shard_of(name) is not None for name in {mark.image_id for mark in marks}}
    own = [mark for mark in marks if here[mark.image_id]]
    found = locate(store, own, network, held, negative_iou)
    # Of two boxes for which one window stands, the later word counts.
    of = {(each.shard_id, each.row) if each.vector is None else each.mark: each for each in found}
    found = list(of.values())
    for mark in marks:
        if not here[mark.image_id] and (kept := held.get(plain(mark))) is not None:
            found.append(Located(mark, vector=kept[0], scale_px=kept[1]))
    return sorted(found, key=lambda each: (each.mark.image_id, each.mark.box))


def _complete(spec: MiningSpec, folder: Path) -> tuple[Classifiers, Problem]:
    trained, _ = complete.train(spec, folder)
    return trained.classifiers, complete.problem(spec, trained)


def _few(spec: MiningSpec, store: Store, located: Sequence[Located]) -> tuple[Classifiers, Problem]:
    """Fit the examples against a sample of the store."""
    vectors, how = Vectors(store), spec.svm
    number = {entry.shard_id: k for k, entry in enumerate(store.shards)}
    near = [
        vectors.first[number[each.shard_id]] + each.near
        for each in located
        if each.mark.yes and each.shard_id
    ]
    rows = few.sampled(vectors, spec.seed, np.concatenate([np.zeros(0, np.int64), *near]))
    if not len(rows):
        raise InputError(f"{store.root} has no window that is not near a marked one: mark a no")
    negatives = vectors.take(rows)
    squares = vectors.measure(rows, query(np.zeros(store.spec.length, np.float32)))[1]
    mean_norm = float(np.sqrt(squares).mean(dtype=np.float64))
    scale = how.target_norm / mean_norm if mean_norm else 1.0
    own = [
        each.vector
        if each.vector is not None
        else vectors.take(np.array([vectors.first[number[each.shard_id]] + each.row]))[0]
        for each in located
    ]
    labels = np.array([1 if each.mark.yes else -1 for each in located], np.int8)
    images = vectors.scalars(rows, ["image_id"])["image_id"].to_pylist()
    background = few.background(negatives, scale)
    said = int((labels < 0).sum())
    problem = Problem(
        np.concatenate([np.stack(own), negatives]),
        np.concatenate([labels, np.full(len(rows), -1, np.int8)]),
        np.array([*(each.mark.image_id for each in located), *images], object),
        partial(few.fit, background, how, spec.classes[0], scale, said=said),
    )
    known = problem.of(np.ones(len(problem.labels), bool))
    training = {
        "svm": how.model_dump(mode="json"),
        "classes": [
            {
                "positives": int((labels > 0).sum()),
                "negatives": len(rows) + said,
            }
        ],
    }
    return replace(known, made_from=store.made_from, training=training), problem


def _judge(store: Store, view: TaughtStore, problem: Problem, is_complete: bool) -> Judged | None:
    """Cross-validate over the images with marks; over others, too, where all objects are known."""
    truth = truth_of(view)
    others: list[str] = []
    if is_complete:
        every = [name for name in view.images["image_id"].to_pylist() if name not in truth]
        others = every[:: max(1, -(-len(every) // JUDGED_IMAGES))]
    return cross_validate(store, problem, truth, others)


def _told(
    store: Store,
    marks: Sequence[Mark],
    is_complete: bool,
    known: Classifiers,
    judged: Judged | None,
    ranking: Ranking,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return what a version says of itself."""
    digest = sha256(to_json([asdict(mark) for mark in marks])).hexdigest()
    return {
        "store": str(store.root),  # for people: it may be mounted elsewhere tomorrow
        "store_digest": store_digest(store),
        "marks": digest,
        "yes": sum(mark.yes for mark in marks),
        "no": sum(not mark.yes for mark in marks),
        "complete": is_complete,
        **known.training["classes"][0],
        "windows": ranking.windows,
        "above": ranking.above,
        "seconds": round(sum(seconds.values()), 3),
        "ap": None if judged is None else round(judged.ap, 4),
        "judged": None if judged is None else asdict(judged),
        "top": [asdict(hit) for hit in ranking.top],
        "borderline": [asdict(hit) for hit in ranking.borderline],
    }


class _Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Give the time since the last step to this one."""
        now = time.perf_counter()
        self.laps[step], self._last = now - self._last, now
