"""Fine-tuning the fc layers: what is learnt from, a step by hand, and the same after a kill."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from pipeline import networks
from pipeline.config import Finetune
from pipeline.errors import InputError
from pipeline.extraction import NetworkSpec
from pipeline.learning import finetune_batches
from pipeline.learning.finetune import FinetuneSpec, begin, finish, learning_rate, train_part
from pipeline.learning.finetune_batches import draw
from pipeline.learning.finetune_rows import Rows, label_shard, label_windows, read_rows
from pipeline.learning.finetune_states import keep
from pipeline.networks import added_head
from pipeline.store import Vectors

OPTIONS = {"width": 0.0625, "fc_units": 12, "levels": (1,), "classes": 5}  # pool5 of 16 numbers
QUICK = Finetune(stretches=((30, 0.02),), check_every=10, batch_size=16, held_windows=64)


def labels(windows, objects, classes, counts=None, **limits):
    known = (
        np.array(objects, float).reshape(-1, 4),
        np.array(classes, int),
        np.array([True] * len(objects) if counts is None else counts, bool),
    )
    boxes = np.array(windows, float).reshape(-1, 4)
    return label_windows(boxes, known, Finetune(**limits)).tolist()


def test_a_window_is_of_the_object_that_it_overlaps_most():
    first, second = [0, 0, 10, 10], [20, 0, 30, 10]
    half, tenth, less = [0, 0, 10, 5], [0, 0, 10, 1], [0, 0, 10, 0.9]
    assert labels([first, half, tenth, less], [first, second], [2, 0]) == [3, 3, 0, -1]
    # Ground truth counts as itself; of equals the first is taken.
    assert labels([first, second], [first, first, second], [2, 1, 0]) == [3, 1]
    limits = {"positive_iou": 0.6, "background_iou": 0.5}
    assert labels([half, tenth], [first], [2], **limits) == [0, -1]


def test_windows_of_objects_that_are_not_learnt_from_are_neither():
    first, second = [0, 0, 10, 10], [20, 0, 30, 10]
    half, tenth = [0, 0, 10, 5], [0, 0, 10, 1]
    assert labels([half, tenth], [first, second], [2, 0], [False, True]) == [-1, 0]
    assert labels([half], [], []) == [-1]
    assert labels([], [first], [0]) == []


@pytest.fixture
def spec(make_store, scenes, in_shards, tmp_path):
    """Twelve images in three shards and once more in two, as if mirrored; all labelled."""
    stores, paths = [], []
    for number, shards in enumerate((3, 2)):
        held = make_store(tmp_path / f"store{number}", in_shards(scenes, shards), 16)
        tables = [tmp_path / f"labels/{number}-{entry.shard_id}" for entry in held.shards]
        for entry, path in zip(held.shards, tables, strict=True):
            label_shard(held, ("cat", "dog"), True, QUICK, 3, entry.shard_id, path)
        stores.append(held)
        paths.append(tuple(tables))
    network = NetworkSpec("zf5", None, 3, None, OPTIONS)
    classes = ("cat", "dog")
    return FinetuneSpec(network, tuple(stores), tuple(paths), classes, QUICK, 3)


def rows_of(spec, *, held):
    return read_rows([Vectors(store) for store in spec.stores], spec.labels, held=held)


def test_rows_are_numbered_through_all_stores_and_images_held_out_whole(spec):
    train, held = rows_of(spec, held=False), rows_of(spec, held=True)
    vectors = [Vectors(store) for store in spec.stores]
    total = len(vectors[0])
    images = [
        np.array(each.scalars(np.arange(total), ["image_id"])["image_id"].to_pylist())
        for each in vectors
    ]
    assert images[0].tolist() == images[1].tolist()
    found = {}
    for which, rows in (("train", train), ("held", held)):
        numbers = np.sort(np.concatenate([rows.positives, rows.background]))
        first, second = numbers[numbers < total], numbers[numbers >= total] - total
        assert first.tolist() == second.tolist()  # both stores have the same windows
        found[which] = set(images[0][first])
    assert found["train"] & found["held"] == set()
    assert len(found["held"]) >= 1
    # Each object is its own positive: its label is its class.
    objects = spec.stores[0].objects_of(spec.stores[0].shards[0].shard_id).num_rows
    assert objects
    assert set(train.labels.tolist()) == {1, 2}


def test_a_quarter_of_a_batch_is_positive(spec):
    rows = rows_of(spec, held=False)
    vectors = [Vectors(store) for store in spec.stores]
    drawn, known = draw(vectors, rows, QUICK, 16, np.random.default_rng(0))
    assert drawn.shape == (16, 16)
    assert [int(k) > 0 for k in known] == [True] * 4 + [False] * 12
    # Every vector is that of its row.
    only = Rows(rows.positives[:1], rows.labels[:1], rows.background[-1:])
    drawn, known = draw(vectors, only, QUICK, 16, np.random.default_rng(0))
    assert int(known[0]) == int(rows.labels[0])
    row, last = int(rows.positives[0]), int(rows.background[-1]) - len(vectors[0])
    assert drawn[0].tolist() == vectors[0].take(np.array([row]))[0].tolist()
    assert drawn[-1].tolist() == vectors[1].take(np.array([last]))[0].tolist()


def test_two_steps_by_hand(spec, tmp_path):
    """v = 0.9 v + (gradient + 5e-4 w), w = w - rate v; biases do not decay."""
    settings = QUICK.model_copy(
        update={"stretches": ((1, 0.1), (1, 0.01)), "dropout": 0.0, "check_every": 2}
    )
    spec = replace(spec, settings=settings)
    stats = train_part(spec, tmp_path, 0)
    network = begin(spec)
    head = network.head
    weights = {name: p.detach().clone() for name, p in head.named_parameters()}
    speeds = {name: torch.zeros_like(p) for name, p in weights.items()}
    vectors, rows, losses = [Vectors(s) for s in spec.stores], rows_of(spec, held=False), []
    for step, rate in enumerate((0.1, 0.01)):
        drawn, known = draw(vectors, rows, settings, 16, np.random.default_rng([3, 5, step]))
        leaves = {name: p.clone().requires_grad_() for name, p in weights.items()}
        fc6 = (drawn @ leaves["fc6.weight"].T + leaves["fc6.bias"]).relu()
        fc7 = (fc6 @ leaves["fc7.weight"].T + leaves["fc7.bias"]).relu()
        loss = functional.cross_entropy(fc7 @ leaves["fc8.weight"].T + leaves["fc8.bias"], known)
        loss.backward()
        losses.append(loss.item())
        for name, leaf in leaves.items():
            decay = 5e-4 * weights[name] if name.endswith("weight") else 0.0
            speeds[name] = 0.9 * speeds[name] + leaf.grad + decay
            weights[name] = weights[name] - rate * speeds[name]
    left = load_file(tmp_path / "000000.safetensors")
    for name, expected in weights.items():
        torch.testing.assert_close(left[name], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(left[f"momentum.{name}"], speeds[name], rtol=1e-4, atol=1e-6)
    assert stats.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert stats.step == 2


def test_the_new_fc8_is_small_and_has_a_place_for_background(spec):
    network = begin(spec)
    assert network.head.fc8.weight.shape == (3, 12)
    assert network.options["classes"] == 3
    assert 0.007 < network.head.fc8.weight.std() < 0.013
    assert not network.head.fc8.bias.any()
    same = networks.load("zf5", seed=3, **OPTIONS)
    assert torch.equal(network.fc6.weight, same.fc6.weight)
    assert torch.equal(begin(spec).fc8.weight, network.fc8.weight)


def test_it_learns_and_its_network_is_loaded_like_any_other(spec, tmp_path):
    long = {"stretches": ((300, 0.02),), "check_every": 100, "dropout": 0.0}
    spec = replace(spec, settings=QUICK.model_copy(update=long))
    history = [train_part(spec, tmp_path, part) for part in range(spec.parts)]
    assert [stats.step for stats in history] == [100, 200, 300]
    assert history[-1].loss < 0.5 * history[0].loss < 0.5 * np.log(3)
    finish(spec, tmp_path, 2, tmp_path / "network.safetensors")
    network = networks.load("zf5", tmp_path / "network.safetensors")
    left = load_file(tmp_path / "000002.safetensors")
    assert torch.equal(network.fc7.weight, left["fc7.weight"])
    assert network.layer_size("fc7") == 12
    assert network.options["classes"] == 3
    # What was told of held-out windows is what the network says of them, dropout off.
    vectors = [Vectors(spec.stores[0])]
    held = read_rows(vectors, spec.labels[:1], held=True)
    drawn, known = draw(vectors, held, spec.settings, 64, np.random.default_rng([3, 6]))
    scores = network.head(drawn.float())
    loss = functional.cross_entropy(scores, known).item()
    assert history[-1].held_loss == pytest.approx(loss, rel=1e-5)
    right = (scores.argmax(1) == known).float().mean().item()
    assert history[-1].held_accuracy == pytest.approx(right)


def test_in_parts_and_begun_again_it_ends_with_the_same_bytes(spec, tmp_path):
    whole = replace(spec, settings=QUICK.model_copy(update={"check_every": 30}))
    train_part(whole, tmp_path / "whole", 0)
    parts = tmp_path / "parts"
    before = torch.get_rng_state()
    for part in (0, 1, 1, 2, 2):  # killed before what it left was told
        torch.manual_seed(part + 77)  # whatever ran there before
        train_part(spec, parts, part)
        keep(parts, [part - 1, part])
    torch.set_rng_state(before)
    assert sorted(path.name for path in parts.iterdir()) == [
        "000001.safetensors",
        "000002.safetensors",
    ]
    expected = (tmp_path / "whole/000000.safetensors").read_bytes()
    assert (parts / "000002.safetensors").read_bytes() == expected
    other = replace(whole, seed=4)
    train_part(other, tmp_path / "other", 0)
    assert (tmp_path / "other/000000.safetensors").read_bytes() != expected


def test_low_ranks_and_precision_come_after(spec):
    narrow = replace(spec.network, precision="bfloat16", fc6_rank=4)
    network = begin(replace(spec, network=narrow))
    assert network.dtype == torch.float32
    assert isinstance(network.fc6, torch.nn.Linear)


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_a_network_without_fc_layers_gets_some(spec, name, tmp_path):
    layers = added_head.description(6, (2, 1), 3)
    spec = replace(spec, network=NetworkSpec(name, None, 3, added=layers))
    network = begin(spec)
    assert network.layers == ("pool5", "fc6", "fc7")
    assert network.layer_size("fc6") == 6
    assert network.layer_size("pool5") == network.channels * 5
    assert network.head.fc8.weight.shape == (3, 6)
    assert 0.5 < network.head.fc7.weight.norm() < 20  # filled, not whatever lay there
    networks.save(network, tmp_path / "a.safetensors")
    again = networks.load(name, tmp_path / "a.safetensors")
    assert networks.digest(again) == networks.digest(network)
    vectors = torch.rand(4, network.channels * 5)
    assert torch.equal(again.fc(vectors, "fc7"), network.fc(vectors, "fc7"))
    outline = networks.outline(name, tmp_path / "a.safetensors")
    assert outline.layer_size("fc7") == 6
    thin = networks.load(name, tmp_path / "a.safetensors", fc6_rank=2)
    assert thin.fc(vectors, "fc6").shape == (4, 6)

    # Weights that have such layers already keep them, but for fc8.
    held = NetworkSpec(name, tmp_path / "a.safetensors", 4, added=layers)
    classes = ("cat", "dog", "cow", "hen")
    more = begin(replace(spec, network=held, classes=classes))
    assert torch.equal(more.head.fc6.weight, network.head.fc6.weight)
    assert more.head.fc8.weight.shape == (5, 6)
    networks.save(more, tmp_path / "b.safetensors")
    assert networks.load(name, tmp_path / "b.safetensors").head.fc8.weight.shape == (5, 6)
    other = replace(held, added=added_head.description(7, (2, 1), 3))
    with pytest.raises(InputError, match="fc layers with units = 6, and 7 is asked for"):
        other.load()


def test_untrained_layers_learn_alike_from_numbers_of_any_size(
    spec, make_store, scenes, in_shards, tmp_path, monkeypatch
):
    """SqueezeNet's are about 20 in size, and silenced every unit: nothing was learnt of them."""
    wide = {k: replace(v, vectors=np.tile(v.vectors, (1, 32))) for k, v in scenes.items()}
    held = make_store(tmp_path / "wide", in_shards(wide, 3), 512)
    tables = tuple(tmp_path / f"wide-{entry.shard_id}" for entry in held.shards)
    for entry, path in zip(held.shards, tables, strict=True):
        label_shard(held, ("cat", "dog"), True, QUICK, 3, entry.shard_id, path)
    layers = added_head.description(6, (1,), 3)
    network = NetworkSpec("squeezenet1_1", None, 3, added=layers)
    assert network.begins_untrained
    own = replace(spec, network=network, stores=(held,), labels=(tables,))
    take, told = finetune_batches._take, {}
    for times in (1, 64):
        monkeypatch.setattr(finetune_batches, "_take", lambda v, n, k=times: take(v, n) * k)
        stats = train_part(own, tmp_path / str(times), 0)
        told[times] = (stats.loss, stats.held_loss)
        finish(own, tmp_path / str(times), 0, tmp_path / f"{times}.safetensors")
    assert told[64] == told[1]  # to the bit: 64 is a power of two
    small, large = (networks.load("squeezenet1_1", tmp_path / f"{k}.safetensors") for k in told)
    vectors = torch.rand(40, 512)
    torch.testing.assert_close(large.fc(vectors * 64, "fc7"), small.fc(vectors, "fc7"))
    # Layers that weights bring were trained on numbers as they are.
    assert not replace(network, weights=tmp_path / "1.safetensors").begins_untrained
    assert not spec.network.begins_untrained


def test_what_cannot_be_is_said(spec, tmp_path):
    fast = QUICK.model_copy(update={"stretches": ((30, 1e9),)})
    with pytest.raises(InputError, match=r"diverged between steps 1 and 10 .* 1000000000.0, in"):
        train_part(replace(spec, settings=fast), tmp_path, 0)
    with pytest.raises(
        InputError, match=r"the state of fine-tuning .*000004.safetensors is absent"
    ):
        train_part(spec, tmp_path / "a/b", 5)
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/000004.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match=r"000004.safetensors is absent or damaged"):
        train_part(spec, tmp_path / "a/b", 5)
    for path in spec.labels[0]:
        label_shard(*(spec.stores[0], ("cow",), True, QUICK, 3, path.name.partition("-")[2], path))
    with pytest.raises(InputError, match=r"fine-tuning has no held-out positives .*20% of the"):
        train_part(spec, tmp_path, 0)


def test_measuring_uses_the_same_windows_each_time(spec, tmp_path):
    still = replace(spec, settings=QUICK.model_copy(update={"stretches": ((30, 1e-12),)}))
    first, second = (train_part(still, tmp_path, part) for part in (0, 1))
    assert first.held_loss == pytest.approx(second.held_loss, abs=1e-6)
    assert first.held_accuracy == second.held_accuracy
    assert first.loss != second.loss
    assert learning_rate(QUICK, 29) == 0.02
