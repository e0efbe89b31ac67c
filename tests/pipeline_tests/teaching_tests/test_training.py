"""From marks to a classifier: the pipeline's where all is known, and by few examples."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Detection, Mining, Svm
from pipeline.datasets.records import Object
from pipeline.errors import InputError
from pipeline.learning import rounds
from pipeline.learning.cache import read_members
from pipeline.learning.classifiers import Classifiers
from pipeline.learning.mining import MiningSpec
from pipeline.store import Store
from pipeline.store import open as store_of
from pipeline.store.identity import images_digest, store_digest
from pipeline.store.place import place
from pipeline.store.rows import Vectors
from pipeline.store.schema import BOX_COLUMNS
from pipeline.teaching import Mark, Settings, Shelf, newest, teach
from pipeline.teaching.complete import train
from pipeline.teaching.detecting import detect_taught
from pipeline.teaching.judging import Problem, cross_validate, truth_of
from pipeline.teaching.locating import Located, locate, require_teachable
from pipeline.teaching.ranking import rank, scores_of
from pipeline.teaching.view import EXAMPLES, TaughtStore, read_examples, write_examples
from tests import small_store

SETTINGS = Settings(Svm(negatives=10), Mining(rounds=2), 3)


@pytest.fixture(scope="module")
def scenes(made: Any) -> dict[str, Any]:
    """Eight images of 30 windows; a cat's vectors, and the first windows', lean one way."""
    random = np.random.default_rng(11)
    lean = 6 * random.normal(size=16)
    images = {}
    for number in range(8):
        cat = Object("cat", (7.0 * number, 10.0, 7.0 * number + 31.0, 37.0))
        corners = random.integers(0, 60, (30, 2))
        windows = np.hstack([corners, corners + random.integers(15, 40, (30, 2))]).astype(float)
        vectors = random.normal(size=(31, 16))
        windows[0] = [7 * number, 11, 7 * number + 31, 37]  # IoU 26 / 27 with the cat
        vectors[[0, 30]] += lean
        images[f"{number:02d}"] = made(vectors * 3, windows.tolist(), (cat,))
    return images


@pytest.fixture
def held(make_store: Callable[..., Store], scenes: dict[str, Any], tmp_path: Any) -> Store:
    ids = list(scenes)
    shards = [{k: scenes[k] for k in part} for part in (ids[:4], ids[4:])]
    return make_store(tmp_path / "store", shards, 16)


@pytest.fixture
def shelf(tmp_path: Any) -> Shelf:
    return Shelf(tmp_path / "shelf")


def cats(held: Store, count: int = 8) -> list[Mark]:
    rows = held.objects.to_pylist()[:count]
    return [Mark(row["image_id"], tuple(row[name] for name in BOX_COLUMNS)) for row in rows]


def each(label, function, items, result):
    return {key: function(item) for key, item in items.items()}


def test_labels_give_the_pipeline_s_classifier(held, shelf, tmp_path):
    shelf.mark("cat", labelled=True, source="labels")
    taught = teach(shelf, held, "cat", SETTINGS)
    spec = MiningSpec(held, ("cat",), SETTINGS.svm, SETTINGS.mining, SETTINGS.seed)
    first, _ = rounds.start(spec, each, tmp_path / "run", 1)
    trained, _ = rounds.mine(spec, first, each, tmp_path / "run", 1)
    known = taught.version.classifiers
    assert np.array_equal(known.weights, trained.classifiers.weights)
    assert np.array_equal(known.intercepts, trained.classifiers.intercepts)
    assert (known.scale, known.training) == (
        trained.classifiers.scale,
        trained.classifiers.training,
    )
    assert taught.version.told["judged"]["images"] == 8


def test_marks_that_are_complete_are_as_good_as_labels(held, shelf):
    shelf.mark("cat", labelled=True, source="labels")
    shelf.mark("tom", cats(held), complete=True)
    by_labels, by_marks = (teach(shelf, held, name, SETTINGS) for name in ("cat", "tom"))
    assert np.array_equal(
        by_labels.version.classifiers.weights, by_marks.version.classifiers.weights
    )


def test_a_store_is_the_same_however_it_is_spelt(held, shelf, tmp_path, monkeypatch):
    said = {"store": str(held.root), "images_digest": images_digest(held)}
    shelf.mark("cat", labelled=True, source="labels", **said)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tmp_path / "store", tmp_path / "mounted")
    for where in ("store", "mounted"):
        told = teach(shelf, store_of(where), "cat", SETTINGS).version.told
        assert (told["complete"], told["store_digest"]) == (True, store_digest(held))


def test_a_class_is_taught_again_on_other_vectors(make_store, scenes, shelf, tmp_path):
    """New weights: what was kept of old vectors does not count, and the marks do."""
    old = make_store(tmp_path / "old", [scenes], 16)
    drawn = Mark("00", (0.0, 10.0, 31.0, 36.0))  # no stored window
    shelf.mark("tom", [drawn, *cats(old, 3)[1:]])
    first = teach(shelf, old, "tom", SETTINGS).version
    turned = {
        k: replace(one, vectors=-np.roll(one.vectors, 1, axis=1)) for k, one in scenes.items()
    }
    new = make_store(tmp_path / "new", [turned], 16)
    settings = place(tmp_path / "new") / "store.json"
    Path(str(settings)).write_text('{"network": "another", "layer": "pool5"}')
    new = store_of(tmp_path / "new")
    second = teach(shelf, new, "tom", SETTINGS, count=5).version
    assert (second.number, second.told["positives"]) == (2, 3)
    # As if it had never been taught before.
    shelf.mark("fresh", [drawn, *cats(old, 3)[1:]])
    fresh = teach(shelf, new, "fresh", SETTINGS).version
    assert np.array_equal(second.classifiers.weights, fresh.classifiers.weights)
    # And what was kept of old vectors counts in the old store, though it is not the newest.
    for held, version in ((old, first), (new, second)):
        (found,) = detect_taught(shelf, held, ["tom"], Detection())
        assert found.version.number == version.number


def test_one_example_finds_the_others(held, shelf):
    shelf.mark("tom", cats(held, 1))
    taught = teach(shelf, held, "tom", SETTINGS, count=5)
    told, (mark,) = taught.version.told, cats(held, 1)
    # Of 8 · 31 rows, those are no negatives that overlap the example by 0.3 or more.
    (only,) = locate(held, [mark])
    assert len(only.near) > 1
    assert (told["positives"], told["negatives"]) == (1, 248 - len(only.near))
    assert told["ap"] is None
    assert {hit.window_id for hit in taught.ranking.top} <= {0, 30}
    assert len({hit.image_id for hit in taught.ranking.top}) == 5
    assert mark.image_id not in {hit.image_id for hit in taught.ranking.top}
    score = scores_of(Vectors(held), np.array([only.row]), taught.version.classifiers)
    assert score == pytest.approx([1.0], abs=1e-4)
    assert newest(shelf, "tom").told == told


def test_more_marks_refine_and_are_judged(held, shelf):
    shelf.mark("tom", cats(held, 1))
    first = teach(shelf, held, "tom", SETTINGS, count=3)
    wrong = first.ranking.borderline[0]
    shelf.mark("tom", [*cats(held, 4), Mark(wrong.image_id, wrong.box, yes=False)])
    second = teach(shelf, held, "tom", SETTINGS, count=3)
    told = second.version.told
    assert (second.version.number, told["yes"], told["no"], told["positives"]) == (2, 4, 1, 4)
    # Each of the four is found in an image that its classifier did not see, and nothing above it.
    assert (told["ap"], told["judged"]["folds"]) == (1.0, 4)
    assert told["judged"]["recall"][-1] == 1.0
    marked = {mark.image_id for mark in shelf.marks_of("tom")}
    assert not marked & {hit.image_id for hit in (*second.ranking.top, *second.ranking.borderline)}
    assert second.version.classifiers.weights.tolist() != first.version.classifiers.weights.tolist()


def test_an_object_that_two_people_marked_is_one(held, shelf):
    """Detections keep one window of it: counted twice, half of the objects could not be found."""
    marks = cats(held, 4)
    beside = [Mark(each.image_id, window_0(each)) for each in marks]  # IoU 26 / 27
    shelf.mark("tom", marks)
    shelf.mark("tom", beside)
    assert teach(shelf, held, "tom", SETTINGS).version.told["ap"] == 1.0
    shelf.mark("cat", labelled=True, source="labels")
    assert teach(shelf, held, "cat", SETTINGS).version.told["ap"] == 1.0
    shelf.mark("cat", beside)
    told = teach(shelf, held, "cat", SETTINGS).version.told
    assert (told["ap"], told["judged"]["images"]) == (1.0, 8)


def window_0(cat: Mark) -> tuple[float, float, float, float]:
    x_min, _, x_max, y_max = cat.box
    return x_min, 11.0, x_max, y_max


def test_what_counts_as_an_object(held):
    marks = cats(held, 3)
    no = replace(marks[0], yes=False)
    elsewhere = Mark(marks[2].image_id, (70.0, 70.0, 90.0, 90.0))
    said = [no, Mark(marks[1].image_id, window_0(marks[1])), elsewhere]
    located = tuple(Located(mark, "00000", 0) for mark in said)
    truth = truth_of(TaughtStore(held.root, "cat", located, True))
    # Labels: none where a person says no, one where one says yes, too, and all others.
    assert [len(truth[name]) for name in sorted(truth)] == [0, 1, 2, 1, 1, 1, 1, 1]
    alone = truth_of(TaughtStore(held.root, "cat", located))
    assert {name: len(rows) for name, rows in alone.items()} == {"00": 0, "01": 1, "02": 1}


def test_a_yes_counts_though_the_label_is_difficult(make_store, made, tmp_path):
    cat = Object("cat", (0.0, 0.0, 20.0, 30.0), difficult=True)
    held = make_store(tmp_path / "store", [{"a": made(np.zeros((1, 16)), [], (cat,))}], 16)
    (row,) = truth_of(TaughtStore(held.root, "cat", (), True))["a"]
    assert row["difficult"]
    yes = Located(Mark("a", (0.0, 0.0, 20.0, 29.0)), "00000", 0)
    (row,) = truth_of(TaughtStore(held.root, "cat", (yes,), True))["a"]
    assert (row["y_max"], "difficult" in row) == (29.0, False)


def test_an_image_is_judged_by_who_has_not_seen_it(held):
    seen = []

    def solve(vectors, labels):
        seen.append(set(vectors[:, 0].tolist()))
        return Classifiers(("tom",), np.zeros((1, 16), np.float32), np.zeros(1, np.float32), 1.0)

    images = np.array(sorted(held.images["image_id"].to_pylist()) * 2, object)
    problem = Problem(
        np.arange(16.0)[:, None] % 8, np.repeat([1, -1], 8).astype(np.int8), images, solve
    )
    truth = {row["image_id"]: [row] for row in held.objects.to_pylist()}
    judged = cross_validate(held, problem, truth)
    # Eight images dealt to five folds.
    left_out = [{0, 5}, {1, 6}, {2, 7}, {3}, {4}]
    assert seen == [set(range(8)) - fold for fold in left_out]
    assert (judged.images, judged.folds) == (8, 5)
    assert cross_validate(held, problem, {"00": truth["00"]}) is None


def test_a_no_counts_whatever_it_scores(held, shelf, tmp_path):
    """Also where it overlaps an example, is drawn by no sample, and is easy."""
    (yes,) = cats(held, 1)
    (near,) = locate(held, [yes])
    (entry, _) = held.shards
    beside = next(row for row in near.near.tolist() if row != near.row)
    located = (near, Located(replace(yes, yes=False), entry.shard_id, beside))
    view = TaughtStore(held.root, "tom", located)
    mining = Mining(rounds=1, hard_score=1e6, easy_score=1e5)  # all are easy, and none is hard
    spec = MiningSpec(view, ("tom",), Svm(negatives=1), mining, 0, view.told)
    trained, _ = train(spec, tmp_path / "run")
    members = read_members(trained.caches[0], entry.shard_id, 1)
    assert beside in members.row[members.negative[:, 0]]
    members = read_members(trained.caches[-1], entry.shard_id, 1)
    assert members.row[members.negative[:, 0]].tolist() == [beside]
    assert members.row[members.positive[:, 0]].tolist() == [near.row]


def test_drawn_boxes_are_rows_of_their_own(held, shelf, tmp_path):
    random = np.random.default_rng(5)
    drawn = [
        Located(Mark("02", (1.5, 2.5, 9.5, 8.5)), vector=random.normal(size=16), scale_px=480),
        Located(Mark("05", (0.0, 0.0, 9.0, 9.0), yes=False), vector=random.normal(size=16)),
    ]
    root = place(tmp_path / "kept")
    assert write_examples(root, held.spec, drawn)
    assert not write_examples(place(tmp_path / "none"), held.spec, locate(held, cats(held, 1)))
    kept = read_examples(root, held.spec)
    assert np.array_equal(kept[drawn[0].mark][0], drawn[0].vector.astype(np.float32))
    view = TaughtStore(held.root, "tom", (*locate(held, cats(held, 2)), *drawn), False, root)
    spec = MiningSpec(view, ("tom",), Svm(negatives=5), Mining(rounds=1), 0, view.told)
    trained, _ = train(spec, tmp_path / "run")
    members = read_members(trained.caches[-1], EXAMPLES, 1)
    assert members.positive[:, 0].tolist() == [True, False]
    assert members.negative[:, 0].tolist() == [False, True]
    assert trained.stats[0].positives == 3


def test_a_box_beside_all_windows_needs_a_network(held):
    near, far = Mark("00", (0.0, 10.0, 31.0, 36.0)), Mark("00", (90.0, 90.0, 99.0, 99.0))
    (found,) = locate(held, [near])
    assert (found.row, found.iou) == (30, pytest.approx(31 * 26 / (31 * 27)))
    with pytest.raises(InputError, match=r"\[90.0, 90.0, 99.0, 99.0\] on image 00 is no window"):
        require_teachable(held, [near, far], lambda: None)
    with pytest.raises(InputError, match="has no windows of an image nothere"):
        locate(held, [Mark("nothere", near.box)])


def test_what_cannot_be_learnt_is_refused(held, shelf):
    shelf.mark("tom", [replace(cats(held, 1)[0], yes=False)])
    with pytest.raises(InputError, match=r"'tom' has 1 marks in .*, and none says yes"):
        teach(shelf, held, "tom", SETTINGS)
    shelf.mark("rex", labelled=True, source="labels")
    with pytest.raises(InputError, match="have no positive window"):
        teach(shelf, held, "rex", SETTINGS)


def test_threads_change_no_score(held, shelf, monkeypatch):
    shelf.mark("tom", cats(held, 2))
    known = teach(shelf, held, "tom", SETTINGS).version.classifiers
    found = []
    for cpus in (1, 3):
        monkeypatch.setattr("pipeline.machine.cpus", lambda cpus=cpus: cpus)
        found.append(rank(held, known, 9))
    assert found[0] == found[1]
    assert found[0].windows == 248
    scores = scores_of(Vectors(held), np.arange(248), known)
    assert found[0].above == int((scores > 0).sum())


@pytest.mark.parametrize("maps", [False, True])
def test_a_store_of_either_kind(tmp_path, shelf, maps):
    small_store.make(place(tmp_path / "store"), maps)
    from pipeline import store

    held = store.open(tmp_path / "store")
    shelf.mark("tom", [Mark("a", (7.0, 8.0, 9.0, 10.0)), Mark("c", (7.0, 8.0, 9.0, 10.0))])
    told = teach(shelf, held, "tom", Settings()).version.told
    # Each image has one box several times: "b" has 4 windows, and all of the others are near.
    assert (told["positives"], told["negatives"], told["windows"]) == (2, 4, 12)


@pytest.fixture
def two_stores(make_store, scenes, tmp_path):
    """The first four images in one store, and the others in another."""
    ids = list(scenes)
    parts = [{k: scenes[k] for k in part} for part in (ids[:4], ids[4:])]
    return [make_store(tmp_path / f"store {n}", [part], 16) for n, part in enumerate(parts)]


def test_marks_on_another_store_count_once_their_vectors_are_kept(two_stores, shelf):
    one, two = two_stores
    shelf.mark("tom", cats(one, 2))
    with pytest.raises(
        InputError, match=r"no mark of 'tom' with a yes is on an image of .*store 1"
    ):
        teach(shelf, two, "tom", SETTINGS)
    teach(shelf, one, "tom", SETTINGS)
    shelf.mark("tom", cats(two, 1))
    both = teach(shelf, two, "tom", SETTINGS, count=3)
    told = both.version.told
    assert (told["positives"], told["left_out"]) == (3, 0)
    assert {hit.image_id for hit in both.ranking.top} == {"05", "06", "07"}  # not 04: it is marked
    # Back in the first store, with a mark that has no vector here.
    shelf.mark("tom", cats(two, 2)[1:])
    back = teach(shelf, one, "tom", SETTINGS)
    assert (back.version.told["positives"], back.version.told["left_out"]) == (3, 1)
    assert back.version.told["judged"]["images"] == 2


def test_so_many_marks_that_they_are_not_kept(two_stores, shelf, monkeypatch):
    one, two = two_stores
    monkeypatch.setattr("pipeline.teaching.view.MOST_KEPT", 1)
    shelf.mark("tom", cats(one, 2))
    teach(shelf, one, "tom", SETTINGS)
    with pytest.raises(InputError, match="train on the store of those images first"):
        teach(shelf, two, "tom", SETTINGS)


def test_hits_are_there_though_the_best_images_are_all_marked(held, shelf, monkeypatch):
    monkeypatch.setattr("pipeline.teaching.ranking.ROWS_PER_HIT", 1)
    monkeypatch.setattr("pipeline.teaching.ranking.LEAST_ROWS", 1)
    shelf.mark("tom", cats(held, 3))
    known = teach(shelf, held, "tom", SETTINGS, count=2).version.classifiers
    (best,) = rank(held, known, 1).top
    (next_,) = rank(held, known, 1, {best.image_id}).top
    assert next_.image_id != best.image_id


def test_of_two_boxes_of_one_window_the_later_word_counts(held, shelf):
    mark = cats(held, 1)[0]
    near = (mark.box[0], mark.box[1], mark.box[2], mark.box[3] - 0.25)  # no stored window
    shelf.mark("tom", [*cats(held, 2), Mark(mark.image_id, near, yes=False)])
    told = teach(shelf, held, "tom", SETTINGS).version.told
    assert (told["yes"], told["no"], told["positives"]) == (2, 1, 1)


def test_an_image_without_windows_is_no_place_for_a_mark(make_store, made, tmp_path):
    shards = [
        {"a": made(np.zeros((2, 16)), [[0, 0, 9, 9], [0, 0, 5, 5]], ()), "b": made([], [], ())}
    ]
    empty = make_store(tmp_path / "empty", shards, 16)
    with pytest.raises(InputError, match=r"overlaps it by 0\.00, less than 0\.5"):
        require_teachable(empty, [Mark("b", (0.0, 0.0, 5.0, 5.0))], lambda: None)


def test_a_quarantined_image_is_no_place_for_a_mark_whatever_is_known(tmp_path):
    small_store.make(place(tmp_path / "store"))
    quarantined = Mark(small_store.TORN, (1.0, 2.0, 30.0, 40.0))
    with pytest.raises(InputError, match="has no windows of an image d"):
        require_teachable(store_of(tmp_path / "store"), [quarantined], object)
