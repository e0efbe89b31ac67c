"""Weights of others: no code of theirs runs, and no more memory is taken than they fill."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from pipeline import networks
from pipeline.errors import InputError
from pipeline.networks import local_folder, weights
from pipeline.networks.preprocessing import Preprocessing
from tests.hostile import Payload

ZF5 = {"width": 0.03, "fc_units": 4, "levels": (1,), "classes": 2}


@pytest.fixture
def saved(tmp_path: Path):
    """Writes weights as this project does, with something else in their record."""

    def write(**record: str) -> Path:
        path = tmp_path / "x.safetensors"
        networks.save(networks.load("zf5", seed=1, **ZF5), path)
        state, metadata = weights.read(path)
        path.write_bytes(safetensors.torch.save(state, metadata | record))
        return path

    return write


def test_a_pickle_runs_nothing_whatever_it_is_called(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save(Payload(mark), tmp_path / "zip.pth")
    torch.save(Payload(mark), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"a": Payload(mark)}, tmp_path / "in.pth")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Payload(mark)))
    (tmp_path / "bare.safetensors").write_bytes(pickle.dumps(Payload(mark)))
    for name in ("zip.pth", "old.pth", "in.pth", "bare.pt", "bare.safetensors"):
        with pytest.raises(InputError, match=name):
            weights.read(tmp_path / name)
    assert not mark.exists()
    open(*Payload(mark).__reduce__()[1]).close()
    assert mark.exists()  # what it would have done


@pytest.mark.parametrize("option", [{"fc_units": 10**7}, {"levels": [3000]}, {"width": 15.0}])
def test_a_record_of_a_large_network_takes_no_memory(
    saved, option: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(options=json.dumps(ZF5 | option))
    monkeypatch.setattr(networks.Network, "made", lambda _: pytest.fail("memory was taken"))
    with pytest.raises(InputError, match=r"has shape .*, the network needs"):
        networks.load("zf5", path)


@pytest.mark.parametrize("name", ["options", "preprocessing", "classes"])
def test_a_record_that_is_deep(saved, name: str) -> None:
    path = saved(**{name: "[" * 100_000})
    read = weights.classes_in if name == "classes" else lambda path: networks.load("zf5", path)
    with pytest.raises(InputError):
        read(path)


@pytest.mark.parametrize("value", [10**400, float("nan"), "x", None, [1]])
def test_preprocessing_that_cannot_be_computed_with(value: Any) -> None:
    held = {"channel_order": "RGB", "value_range": 1.0, "mean": [value, 0, 0], "std": [1, 1, 1]}
    with pytest.raises(InputError):
        Preprocessing.from_json(json.dumps(held))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(1, 1).expand(10**6, 24),
        lambda: torch.zeros(3, 3).to_sparse(),
        lambda: torch.zeros(3, 3).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8),
        lambda: torch.empty(3, device="meta"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_more_than_their_numbers(tmp_path: Path, make) -> None:
    torch.save({"conv1.weight": make()}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"no plain tensor|holds more than tensors"):
        weights.read(tmp_path / "x.pth")


def test_names_that_are_no_texts(tmp_path: Path) -> None:
    torch.save({5: torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="5 is no plain tensor under a name"):
        weights.read(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "data", [b"a line of text", b"\x80\x02.", b"\x80\x02a.", b"\x80\x09.", b"", b"PK", b"PK\3\4"]
)
def test_bytes_that_are_no_pickle(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(InputError, match="damaged or holds more than tensors") as refused:
        weights.read(tmp_path / "x.pth")
    assert "weights_only" not in str(refused.value)  # torch says to turn it off


@pytest.mark.parametrize(
    "name", ["a.pth", "", "..", "../a.safetensors", f"{300 * 'x'}.safetensors"]
)
def test_an_index_names_safetensors_of_its_folder_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(InputError, match=r"no \.safetensors of its folder"):
        local_folder.read_tensors(tmp_path)


def test_a_config_of_a_large_network(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    known = {"model_type": "resnet", "hidden_sizes": [8, 16], "depths": [10**6, 1]}
    (tmp_path / "config.json").write_text(json.dumps(known))
    (tmp_path / "model.safetensors").write_bytes(safetensors.torch.save({}))
    with pytest.raises(InputError, match="has the number 1000000"):
        networks.load("transformers", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(known | {"depths": [1, 1], "hidden_act": "x"}))
    with pytest.raises(InputError, match=r"config\.json describes no network"):
        networks.load("transformers", tmp_path)


def test_no_archive_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one kind of archive that is read at all: its members are read by name, and stay in it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("../outside", b"x")
        archive.writestr("x/data.pkl", pickle.dumps({}))
        archive.writestr("x/version", b"3")
    with pytest.raises(InputError):
        weights.read(tmp_path / "x.pth")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["here", "x.pth"]


def test_packed_members_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "plain.pth")
    plain = zipfile.ZipFile(tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(InputError, match="it has packed members"):
        weights.read(tmp_path / "x.pth")
