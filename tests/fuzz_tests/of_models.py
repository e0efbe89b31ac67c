"""Weights, classifiers, models and recipes of others."""

import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from jobs.options import RECIPES
from pipeline import config, networks
from pipeline.learning import Classifiers
from pipeline.learning.classifiers import DESCRIPTION, WEIGHTS, load
from pipeline.networks import local_folder, weights
from pipeline.networks.preprocessing import Preprocessing
from tests.fuzz_tests.target import Target, working_folder
from tests.hostile import Payload

EXECUTED = "executed"


def _network() -> networks.Network:
    return networks.load("zf5", seed=1, width=0.03, fc_units=4, levels=(1,), classes=2)


def safetensors_seeds() -> Iterator[bytes]:
    """Yield weights that say how their network is built, and some that do not."""
    with working_folder() as folder:
        networks.save(_network(), folder / "x.safetensors", ("cat", "dog"))
        yield (folder / "x.safetensors").read_bytes()
    yield safetensors.numpy.save({"conv1.weight": np.zeros((1, 3, 7, 7), np.float32)})
    yield (1 << 60).to_bytes(8, "little") + b"{}"


def read_safetensors(data: bytes, folder: Path) -> None:
    """A network that is built from them has finite numbers."""
    path = folder / "x.safetensors"
    path.write_bytes(data)
    weights.classes_in(path)
    network = networks.load("zf5", path)
    assert all(torch.isfinite(each).all() for each in network.state_dict().values())


def pickle_seeds() -> Iterator[bytes]:
    """Yield a state dict in either form, and pickles that would run something."""
    state = {"conv1.weight": torch.zeros(1, 3, 7, 7), "conv1.bias": torch.zeros(1)}
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=zipped)
        yield file.getvalue()
        hostile = io.BytesIO()
        torch.save(Payload(EXECUTED), hostile, _use_new_zipfile_serialization=zipped)
        yield hostile.getvalue()
    yield pickle.dumps(Payload(EXECUTED))


def read_pickle(data: bytes, folder: Path) -> None:
    """Nothing runs, and what comes out is tensors."""
    (folder / "x.pth").write_bytes(data)
    try:
        state, _ = weights.read(folder / "x.pth")
    finally:
        assert not Path(EXECUTED).exists()
        assert not (folder / EXECUTED).exists()
    assert all(isinstance(each, torch.Tensor) for each in state.values())


def classifier_seeds() -> Iterator[bytes]:
    """Yield the two files of classifiers, one after the other, and how long the first is."""
    held = Classifiers(
        ("cat", "dog"), np.eye(2, 3, dtype=np.float32), np.zeros(2, np.float32), 0.5, {"layer": "x"}
    )
    with working_folder() as folder:
        held.save(folder)
        first = (folder / DESCRIPTION).read_bytes()
        yield len(first).to_bytes(2, "little") + first + (folder / WEIGHTS).read_bytes()


def read_classifiers(data: bytes, folder: Path) -> None:
    """Classifiers that are taken score."""
    length = int.from_bytes(data[:2], "little")
    (folder / DESCRIPTION).write_bytes(data[2 : 2 + length])
    (folder / WEIGHTS).write_bytes(data[2 + length :])
    known = load(folder)
    scores = known.score(np.ones((2, known.weights.shape[1]), np.float32))
    assert scores.shape == (2, len(known.classes))
    assert scores.dtype == np.float32
    assert np.isfinite(known.weights).all()
    known.check_fits({"layer": "x"}, "here")


def recipe_seeds() -> Iterator[bytes]:
    """Yield recipes, among them those that are shipped."""
    for path in sorted(RECIPES.glob("*.toml"))[:8]:
        yield path.read_bytes()
    yield b'name = "x"\n[svm]\nC = nan\n[features]\nscales = [1e400]\nlevels = [-1]\n'
    yield b"a = " + b"[" * 2000 + b"]" * 2000


def read_recipe(data: bytes, folder: Path) -> None:
    """A recipe that is taken can be written down, and is then the same."""
    (folder / "x.toml").write_bytes(data)
    recipe = config.load(folder / "x.toml", shipped=RECIPES)
    assert config.Recipe.model_validate(json.loads(recipe.model_dump_json())) == recipe


def preprocessing_seeds() -> Iterator[bytes]:
    """Yield what Hugging Face's folders say of pixels."""
    known = {"do_rescale": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2]}
    yield json.dumps(known | {"rescale_factor": 1 / 255, "do_normalize": True}).encode()
    yield json.dumps(known).replace("0.4", "NaN").replace("0.2", "0").encode()


def read_preprocessing(data: bytes, folder: Path) -> None:
    """What is taken can be computed with."""
    (folder / local_folder.PREPROCESSING).write_bytes(data)
    found = local_folder.read_preprocessing(folder)
    assert found is not None
    assert all(np.isfinite(each) for each in (*found.mean, *found.std, found.value_range))
    assert all(found.std)
    assert Preprocessing.from_json(found.to_json()) == found


TARGETS = (
    Target(
        "safetensors", safetensors_seeds, read_safetensors, (b"F32", b"data_offsets", b"options")
    ),
    Target("pickle", pickle_seeds, read_pickle, (b"cbuiltins\nopen\n", b"R.", b"PK\3\4")),
    Target("classifiers", classifier_seeds, read_classifiers, (b"NaN", b"scale", b"F16")),
    Target("recipe", recipe_seeds, read_recipe, (b"nan", b"inf", b"extends", b"[[")),
    Target("preprocessing", preprocessing_seeds, read_preprocessing, (b"NaN", b"null", b"1e999")),
)
