"""Whole trainings: rounds of hard negatives until nothing is left to find."""

import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import boxes
from pipeline.config import Mining, Svm
from pipeline.errors import InputError
from pipeline.learning import (
    fit_svm,
    overlap,
    rounds,
    sampling,
)
from pipeline.learning.cache import members_path, read_members, vectors_path
from pipeline.learning.fits import FitStats
from pipeline.learning.mining import MiningSpec, mine_shard, require_positives, start_shard

CLASSES = ("cat", "dog")


def spec_of(held, mining=None, svm=None, classes=CLASSES, seed=0):
    return MiningSpec(held, classes, svm or Svm(), mining or Mining(), seed)


def each(label, function, items, result):
    """Run everything here and now."""
    return {key: function(item) for key, item in items.items()}


def train(spec, folder, workers=1):
    """The first classifiers, ready for rounds."""
    started = {}

    def noted(label, function, items, result):
        done = each(label, function, items, result)
        started.setdefault(label, list(done.values()))
        return done

    trained, _ = rounds.start(spec, noted, folder, workers)
    trained.classifiers.save(folder)
    return started["sample"], trained


def converge(spec, folder, workers=1):
    _, trained = train(spec, folder, workers)
    trained, history = rounds.mine(spec, trained, each, folder, workers)
    assert history[-1].gained == 0, f"no end: {history}"
    assert all(done.gained for done in history[:-1])  # and it went no further than the end
    return trained, [done.gained for done in history]


def test_the_first_sample_is_seeded_and_uniform(negatives, make_store, tmp_path, scenes, in_shards):
    held = make_store(tmp_path / "store", in_shards(scenes, 2), 16)
    spec = spec_of(held, svm=Svm(negatives=10))
    # 10 an image of 12 images, among all rows: 12 · 40 windows, 12 cats and 8 dogs
    assert spec.share_of_negatives == 120 / 500
    started, trained = train(spec, tmp_path / "run")
    assert [sum(each) for each in zip(*(s.positives for s in started), strict=True)] == [12, 8]
    found = negatives(trained.caches[-1], held)
    for k, name in enumerate(CLASSES):
        expected = []
        for number, images in enumerate(in_shards(scenes, 2)):
            first = 0
            for image_id, image in images.items():
                labelled = hand_labelled(image_id, image, name)
                wanted = overlap.spread(labelled, 0.7, 0)[:, 0]
                wanted &= sampling.drawn(labelled, 0.24, 0, 1)
                expected += [(f"{number:05d}", first + row) for row in np.flatnonzero(wanted)]
                first += len(labelled.boxes)
        assert found[k] == expected
        assert len(expected) > 20
    other = spec_of(held, svm=Svm(negatives=10), seed=1)
    _, trained = train(other, tmp_path / "other")
    assert negatives(trained.caches[-1], held) != found


def hand_labelled(image_id, image, name):
    """Negatives of one class by SPEC §6, object by object."""
    array = boxes.as_boxes(
        np.array([*image.windows, *(one.box for one in image.objects)], np.float32)
    )
    own = [one.box for one in image.objects if one.class_name == name]
    negative = np.array([all(boxes.iou([box], [o])[0, 0] < 0.3 for o in own) for box in array])
    return sampling.Labelled(image_id, array, np.zeros((len(array), 1), bool), negative[:, None])


def test_vectors_are_scaled_to_a_mean_norm_of_20(make_store, tmp_path, scenes, in_shards):
    held = make_store(tmp_path / "store", in_shards(scenes, 3), 16)
    started, trained = train(spec_of(held), tmp_path)
    norms = np.concatenate([np.linalg.norm(image.vectors, axis=1) for image in scenes.values()])
    assert sum(each.norm_count for each in started) == 500  # the sample is all of them
    assert trained.classifiers.scale == pytest.approx(20 / norms.mean(), rel=1e-6)
    some, _ = train(spec_of(held, svm=Svm(norm_sample=100)), tmp_path / "some")
    assert 70 < sum(each.norm_count for each in some) < 130


@pytest.mark.parametrize("solver", ["liblinear", "dense"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_converged_is_training_on_all_negatives(
    negatives, make_store, tmp_path, scenes, dtype, solver, in_shards
):
    held = make_store(tmp_path / "store", in_shards(scenes, 3), 16, dtype)
    svm = Svm(negatives=1, tolerance=1e-5, solver=solver)
    mining = Mining(rounds="converged", max_per_image=3, max_rounds=60)
    spec = spec_of(held, mining, svm)
    trained, history = converge(spec, tmp_path / "run")
    known = trained.classifiers
    assert len(history) > 3  # it took some rounds, or the test would prove little
    assert sum(map(len, negatives(trained.caches[-1], held))) < 700
    for k, name in enumerate(CLASSES):
        vectors, labels = [], []
        for image_id, image in scenes.items():
            kept = overlap.spread(hand_labelled(image_id, image, name), 0.7, 0)[:, 0]
            positive = np.array([False] * 40 + [one.class_name == name for one in image.objects])
            vectors.append(np.asarray(image.vectors, dtype)[positive | kept])
            labels.append(positive[positive | kept])
        everything = fit_svm(
            np.concatenate(vectors), np.concatenate(labels), tolerance=1e-5, scale=known.scale
        )
        assert trained.stats[k].objective == pytest.approx(everything.objective, rel=1e-3)
        scores = known.score(np.concatenate(vectors))[:, k]
        np.testing.assert_allclose(
            scores, everything.scores(np.concatenate(vectors) * known.scale), atol=0.02
        )


def test_a_round_refits_what_gained_from_where_it_was(make_store, tmp_path, scenes, in_shards):
    held = make_store(tmp_path / "store", in_shards(scenes, 3), 16)
    mining = Mining(rounds="converged", max_per_image=3, max_rounds=60)
    spec = spec_of(held, mining, Svm(negatives=1, solver="dense"))
    _, trained = train(spec, tmp_path)
    gained, refitted, last = [], [], dict.fromkeys(range(2), tmp_path / "fits/fit")

    def watched(label, function, items, result):
        done = each(label, function, items, result)
        if label.endswith("-fit"):
            classes = [k for group in items.values() for k in group]
            refitted.append(classes)
            assert function.keywords["before"] == {k: last[k] for k in classes}
            last.update(dict.fromkeys(classes, function.keywords["folder"]))
        else:
            sums = np.sum([stats.gained for stats in done.values()], axis=0)
            gained.append(np.flatnonzero(sums).tolist())
        return done

    rounds.mine(spec, trained, watched, tmp_path, 1)
    assert gained == refitted
    assert [0] in refitted or [1] in refitted  # one class was done first, or this proves little


def test_the_layout_of_shards_changes_nothing(negatives, make_store, tmp_path, scenes, in_shards):
    results = []
    for count in (1, 3):
        held = make_store(
            tmp_path / f"store-{count}", in_shards(scenes, count), 16, row_group_bytes=9000
        )
        mining = Mining(rounds="converged", max_per_image=5, max_rounds=60)
        spec = spec_of(held, mining, Svm(negatives=2))
        trained, history = converge(spec, tmp_path / f"run-{count}")
        starts = dict(
            zip((each.shard_id for each in held.shards), range(0, 12, 12 // count), strict=True)
        )
        offsets = np.cumsum([0, *(40 + len(image.objects) for image in scenes.values())])
        found = negatives(trained.caches[-1], held)
        rows = [[offsets[starts[s]] + row for s, row in each] for each in found]
        results.append((rows, trained, history))
    (rows, one, history), (other_rows, other, other_history) = results
    assert rows == other_rows
    assert history == other_history
    assert one.classifiers.scale == pytest.approx(other.classifiers.scale, rel=1e-12)
    for stats, other_stats in zip(one.stats, other.stats, strict=True):
        assert stats.objective == pytest.approx(other_stats.objective, rel=1e-6)
        assert stats.negatives == other_stats.negatives


def test_the_number_of_workers_changes_not_a_byte(make_store, tmp_path, scenes, in_shards):
    held = make_store(tmp_path / "store", in_shards(scenes, 3), 16)
    spec = spec_of(held, Mining(rounds=2), Svm(negatives=2))
    found = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        trained, history = rounds.mine(spec, train(spec, folder, workers)[1], each, folder, workers)
        assert len(history) == 2
        trained.classifiers.save(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        found.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert found[0] == found[1]


def test_a_training_is_taken_up_from_its_folder(make_store, tmp_path, scenes, in_shards):
    spec = spec_of(make_store(tmp_path / "store", in_shards(scenes, 2), 16))
    _, trained = train(spec, tmp_path / "run")
    found = rounds.resume(spec, tmp_path / "run")
    assert (found.caches, found.fits, found.stats) == (
        trained.caches,
        trained.fits,
        trained.stats,
    )
    assert (found.classifiers.weights == trained.classifiers.weights).all()
    assert found.classifiers.scale == trained.classifiers.scale


def test_rounds_write_what_they_gain_and_no_vector_twice(make_store, tmp_path, scenes, in_shards):
    held = make_store(tmp_path / "store", in_shards(scenes, 3), 16)
    spec = spec_of(held, Mining(rounds=4, max_per_image=3), Svm(negatives=1))
    _, trained = train(spec, tmp_path)
    trained, history = rounds.mine(spec, trained, each, tmp_path, 1)
    assert len(trained.caches) == 1 + len(history) == 5
    for entry in held.shards:
        members = read_members(trained.caches[-1], entry.shard_id, 2)
        for part, folder in enumerate(trained.caches):
            written = pq.read_table(vectors_path(folder, entry.shard_id))["row"]
            assert written.to_pylist() == members.row[members.part == part].tolist()


def test_what_travels_to_a_task_does_not_grow_with_the_store(make_store, made, tmp_path):
    sizes = []
    for images in (2, 60):
        shards = [{f"{k:03d}": made([[1, 1]], [[0, 0, 9, 9]])} for k in range(images)]
        held = make_store(tmp_path / str(images), shards, 2)
        spec = spec_of(held)
        assert len(held.shards) == images
        sizes.append(len(pickle.dumps((spec, spec.share_of_negatives))))
    assert sizes[1] - sizes[0] < 100


def test_a_task_reads_its_own_shard_alone(make_store, tmp_path, scenes, in_shards):
    spec = spec_of(make_store(tmp_path / "store", in_shards(scenes, 3), 16))
    _, trained = train(spec, tmp_path / "run")
    sent = pickle.loads(pickle.dumps(spec))
    names = ("records/00000.json", "records/00002.json", spec.store.shards[2].name("shards"))
    for file in (*names, "manifest.json"):
        spec.store.root.remove(file)
    start_shard(sent, "00001", tmp_path / "again")
    for path in (vectors_path, members_path):
        again = path(tmp_path / "again", "00001").read_bytes()
        assert again == path(trained.caches[0], "00001").read_bytes()
    caches = [*trained.caches, tmp_path / "mined"]
    assert mine_shard(sent, "00001", caches, trained.classifiers).negatives[0] > 0


def test_classifiers_know_how_they_were_made(make_store, tmp_path, scenes, in_shards):
    held = make_store(tmp_path / "store", in_shards(scenes, 1), 16)
    _, trained = train(spec_of(held), tmp_path)
    known, stats = trained.classifiers, trained.stats
    assert known.classes == CLASSES
    assert known.made_from == held.made_from
    assert known.training["svm"]["C"] == 0.001
    assert [FitStats(**each) for each in known.training["classes"]] == list(stats)
    assert known.weights.dtype == known.intercepts.dtype == np.float32
    assert stats[0].positives == 12
    vectors = np.concatenate([np.asarray(image.vectors) for image in scenes.values()])
    scores = known.score(vectors.astype(np.float32))
    is_cat = np.concatenate(
        [[False] * 40 + [o.class_name == "cat" for o in i.objects] for i in scenes.values()]
    )
    assert scores[is_cat, 0].mean() > scores[~is_cat, 0].mean() + 0.5


def test_difficult_objects_may_be_left_out(make_store, tmp_path, scenes, in_shards):
    held = make_store(tmp_path / "store", in_shards(scenes, 2), 16)
    counts = []
    for difficult in (True, False):
        spec = spec_of(held, svm=Svm(difficult_positives=difficult))
        started, _ = train(spec, tmp_path / str(difficult))
        counts.append(np.sum([each.positives for each in started], axis=0).tolist())
    # images 0, 5 and 10 are difficult; 0 has no dog
    assert counts == [[12, 8], [9, 6]]


def test_classes_without_a_positive_are_named(make_store, tmp_path, scenes, in_shards):
    held = make_store(tmp_path / "store", in_shards(scenes, 1), 16)
    spec = spec_of(held, classes=("bird", "cat", "cow"))
    stats = start_shard(spec, "00000", tmp_path / "caches")
    assert stats.positives == [0, 12, 0]
    with pytest.raises(InputError, match=r"2 of 3 classes have no positive .*: bird, cow\. Label"):
        require_positives(spec, stats.positives)
    require_positives(spec, [1, 1, 1])
