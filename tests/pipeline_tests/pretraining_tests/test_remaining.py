"""All epochs in one go: each told of as it ends, and none trained that was told of before."""

import json
from dataclasses import asdict, replace

from pipeline.pretraining import remaining as room
from pipeline.pretraining import train_part, train_remaining
from pipeline.pretraining.ranks import Ranks


def told_of(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def timeless(told):
    return [each | {"seconds": 0.0} for each in told]


def test_each_epoch_is_told_of_and_trained_once(make_spec, tmp_path, monkeypatch):
    spec = make_spec(epochs=3, scaffold=False)
    parts = [train_part(spec, tmp_path / "apart", part) for part in range(3)]
    trained = []

    def counted(spec, states, part):
        if part == 2 and trained == [0, 1]:
            raise KeyboardInterrupt
        trained.append(part)
        return train_part(spec, states, part)

    monkeypatch.setattr(room, "train_part", counted)
    told, states = tmp_path / "told", tmp_path / "states"
    try:
        train_remaining(spec, states, told)
    except KeyboardInterrupt:
        trained.append("killed")
    assert len(told_of(told)) == 2
    train_remaining(spec, states, told)
    train_remaining(spec, states, told)
    assert trained == [0, 1, "killed", 2]
    expected = [asdict(replace(stats, seconds=0.0)) for stats in parts]
    assert timeless(told_of(told)) == expected
    name = "000002.safetensors"
    assert (states / name).read_bytes() == (tmp_path / "apart" / name).read_bytes()


def test_a_training_that_ended_early_is_over(make_spec, tmp_path):
    settings = {"schedule": "plateau", "patience": 1, "drops": 0, "epochs": 9}
    spec = make_spec(**settings, learning_rate=1e-9, scaffold=False)
    for _ in range(2):
        train_remaining(spec, tmp_path / "states", tmp_path / "told")
        assert [each["ended"] for each in told_of(tmp_path / "told")] == [False, True]


def test_alone_the_first_process_is_this_one():
    assert Ranks().broadcast_from_first(7) == 7
