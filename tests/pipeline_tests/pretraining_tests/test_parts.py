"""An epoch of a training: who trains and measures, what is told, and when it ends."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pipeline.errors import InputError
from pipeline.networks.whole import class_scores
from pipeline.networks.zf5 import ZF5
from pipeline.pretraining import FileImages, begin, finish, train_part, write_table
from pipeline.pretraining import parts as room
from pipeline.pretraining.files import Views
from pipeline.pretraining.images import HELD, seeded

TWO_SIZES = {"sides_px": (48, 40), "epochs": 3, "dropout": 0.3}


def trained(spec, states):
    return [train_part(spec, states, part) for part in range(spec.parts)]


def test_what_is_held_out_measures_and_trains_nothing(make_spec, few, tmp_path):
    spec = make_spec(epochs=1, scaffold=False, learning_rate=1e-12)
    stats = train_part(spec, tmp_path, 0)
    held = np.flatnonzero(seeded(3, HELD).random(40) < 0.2)
    assert stats.images == 40 - len(held)
    assert stats.step == -(-stats.images // 8)
    network, images = begin(spec), FileImages(few, Views.of(spec.settings))
    crops = images.plain(held).pixels
    ready = torch.stack([network.preprocessing.apply(crop) for crop in crops])
    scores = class_scores(network, ready)
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(images.labels[held]))
    assert stats.held_loss == pytest.approx(loss.item(), rel=1e-4)
    # Pixels of held-out images change nothing.
    table = pq.read_table(few)
    files = table["file"].to_pylist()
    copies = {k: str(shutil.copy(files[held[0]], tmp_path / f"{k}.png")) for k in held.tolist()}
    moved = [copies.get(k, file) for k, file in enumerate(files)]
    pq.write_table(table.set_column(0, "file", [moved]), tmp_path / "moved.parquet")
    train_part(make_spec(tmp_path / "moved.parquet", epochs=1, scaffold=False), tmp_path / "b", 0)
    train_part(make_spec(epochs=1, scaffold=False), tmp_path / "a", 0)
    one, other = (load_file(tmp_path / f"{k}/000000.safetensors") for k in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_objects_of_one_photograph_are_held_out_together(make_spec, few, tmp_path):
    files = pq.read_table(few)["file"].to_pylist()
    doubled = [file for file in files for _ in range(2)]
    boxes = np.tile([0.0, 0, 60, 60], (80, 1))
    write_table(tmp_path / "parts.parquet", doubled, np.arange(80) % 3, boxes)
    data = room._data(make_spec(tmp_path / "parts.parquet"))
    assert len(data.chosen) + len(data.held) == 80
    assert not {doubled[k] for k in data.chosen} & {doubled[k] for k in data.held}
    once = np.flatnonzero(seeded(3, HELD).random(40) < 0.2)
    assert data.held.tolist() == [k for one in once for k in (2 * one, 2 * one + 1)]


def test_given_images_measure_and_then_all_others_train(make_spec, pictures, tmp_path):
    stats = train_part(make_spec(validation=pictures(9), epochs=1), tmp_path, 0)
    assert stats.images == 40
    assert stats.held_accuracy in [pytest.approx(k / 9) for k in range(10)]


def test_unreadable_images_are_told_and_training_goes_on(make_spec, few, tmp_path):
    table = pq.read_table(few)
    files = table["file"].to_pylist()
    held = np.flatnonzero(seeded(3, HELD).random(40) < 0.2)
    trains = np.setdiff1d(np.arange(40), held)
    spoilt = ((trains[0], "bad"), (trains[7], "gone"), (held[0], "measured"))
    for index, name in spoilt:
        files[index] = str(tmp_path / f"{name}.jpg")
        if name != "gone":
            (tmp_path / f"{name}.jpg").write_bytes(b"none")
    pq.write_table(table.set_column(0, "file", [files]), tmp_path / "t.parquet")
    stats = train_part(make_spec(tmp_path / "t.parquet", epochs=1), tmp_path / "s", 0)
    assert stats.images == len(trains) - 2
    assert stats.unreadable == 3
    names = ("bad", "gone", "measured")
    bad, gone, measured = (stats.reasons[str(tmp_path / f"{name}.jpg")] for name in names)
    assert bad.startswith("not an image in JPEG")
    assert measured == bad
    assert gone == "No such file or directory"
    named = pq.read_table(tmp_path / "t.parquet").append_column("name", [[*map(str, range(40))]])
    pq.write_table(named, tmp_path / "named.parquet")
    stats = train_part(make_spec(tmp_path / "named.parquet", epochs=1), tmp_path / "n", 0)
    assert stats.reasons[str(trains[7])] == "No such file or directory"
    # A batch of which nothing is left is no step.
    files = [
        str(tmp_path / f"gone{k}.jpg") if k in trains[1:] else file for k, file in enumerate(files)
    ]
    files[trains[0]] = table["file"][int(trains[0])].as_py()
    pq.write_table(table.set_column(0, "file", [files]), tmp_path / "t.parquet")
    spec = make_spec(tmp_path / "t.parquet", epochs=1, scaffold=False, batch_size=1)
    stats = train_part(spec, tmp_path / "one", 0)
    assert (stats.images, stats.unreadable) == (1, len(trains))
    files[trains[0]] = str(tmp_path / "gone.jpg")
    pq.write_table(table.set_column(0, "file", [files]), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"could be read: .*gone[0-9]*.jpg: No such file"):
        train_part(make_spec(tmp_path / "t.parquet", colour=0), tmp_path / "s", 0)
    with pytest.raises(InputError, match=r"no training image could .* set pretrain\.colour = 0"):
        train_part(make_spec(tmp_path / "t.parquet"), tmp_path / "s", 0)


def test_many_unreadable_images_are_counted(make_spec, few, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "NAMED", 2)
    table = pq.read_table(few)
    files = [f"gone{k}.jpg" if k < 5 else file for k, file in enumerate(table["file"].to_pylist())]
    pq.write_table(table.set_column(0, "file", [files]), tmp_path / "t.parquet")
    stats = train_part(make_spec(tmp_path / "t.parquet", epochs=1), tmp_path / "s", 0)
    assert (stats.unreadable, len(stats.reasons)) == (5, 2)


def test_colours_are_found_once(make_spec, tmp_path, monkeypatch):
    spec = make_spec(epochs=2, colour_images=5)
    train_part(spec, tmp_path, 0)
    with safe_open(tmp_path / "000000.safetensors", "pt") as held:
        assert '"variances": [0.' in held.metadata()["training"]
    monkeypatch.setattr(FileImages, "find_colours", None)
    train_part(spec, tmp_path, 1)


def test_a_plateau_ends_the_training(make_spec, tmp_path):
    settings = {"schedule": "plateau", "patience": 1, "drops": 1, "epochs": 40}
    spec = make_spec(**settings, learning_rate=1e-9, scaffold=False)
    history = []
    while not (history and history[-1].ended):
        history.append(train_part(spec, tmp_path, len(history)))
    # The first is the best for good; the second lowers the rate, the third would again.
    assert [stats.rate for stats in history] == [1e-9, 1e-9, 1e-10]
    with pytest.raises(InputError, match=r"ended with epoch 3, .* there is no epoch 4"):
        train_part(spec, tmp_path, 3)
    finish(spec, tmp_path, 2, tmp_path / "network.safetensors")


def test_it_ends_after_its_epochs_in_any_case(make_spec, tmp_path):
    spec = make_spec(schedule="plateau", epochs=2, scaffold=False)
    assert [stats.ended for stats in trained(spec, tmp_path)] == [False, True]
    assert trained(spec, tmp_path)[0].rate == 0.03


def test_mixed_batches_use_every_size_in_one_epoch(make_spec, tmp_path, monkeypatch):
    seen = []
    original = ZF5.logits

    def logits(self, images):
        if torch.is_grad_enabled():
            seen.append(images.shape[-1])
        return original(self, images)

    monkeypatch.setattr(ZF5, "logits", logits)
    train_part(make_spec(sides_px=(48, 40), mix="batch", epochs=1), tmp_path, 0)
    assert seen == [(48, 40)[k % 2] for k in range(len(seen))]
    assert len(seen) == 4 or len(seen) == 5
    seen.clear()
    train_part(make_spec(sides_px=(48, 40), epochs=2), tmp_path, 0)
    train_part(make_spec(sides_px=(48, 40), epochs=2), tmp_path, 1)
    assert sorted(seen, reverse=True) == seen
    assert set(seen) == {48, 40}


def test_divergence_is_named(make_spec, tmp_path):
    spec = make_spec(learning_rate=1e12, scaffold=False, schedule="plateau")
    with pytest.raises(InputError, match=r"diverged in epoch 1 .* lower the learning rate from 1"):
        train_part(spec, tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_progress_is_told_step_by_step(make_spec, tmp_path):
    told = []
    stats = train_part(make_spec(epochs=1), tmp_path, 0, lambda done, of: told.append((done, of)))
    assert told == [(step, stats.step) for step in range(1, stats.step + 1)]
