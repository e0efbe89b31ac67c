"""Weights files: every tensor checked when read; equal networks written as equal bytes."""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pipeline.errors import InputError, SppError
from pipeline.networks.network import Network
from pipeline.networks.preprocessing import Preprocessing

State = dict[str, Tensor]

# Counters that batch norm keeps while training; files from before 2018 lack them.
_COUNTER = "num_batches_tracked"
_CLASSES = "classes"


def read(path: Path) -> tuple[State, dict[str, str]]:
    """The tensors of a ``.safetensors``, ``.pth`` or ``.pt`` file, and its metadata.

    Returns:
        tensors by name, and safetensors' metadata (empty for the other kinds).

    Raises:
        InputError: no such file, another kind of file, damaged, or not a state dict.
    """
    if _is_safetensors(path):
        return _read_safetensors(path)
    return _read_torch(path), {}


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata alone, in microseconds: empty for ``.pth`` and ``.pt``.

    Raises:
        InputError: no such file, another kind of file, or damaged.
    """
    return _read_safetensors(path, tensors=False)[1] if _is_safetensors(path) else {}


def fit(outline: Network, state: Mapping[str, Tensor], source: str) -> None:
    """Fill an outline with ``state``; its classifier is dropped where ``state`` has none.

    Memory is taken once it is known that ``state`` has as many numbers: a file may record options
    of any network.

    Raises:
        InputError: tensors are missing, unexpected, of another shape, not numbers or not finite.
    """
    prefix = outline.classifier_name + "."
    if not any(name.startswith(prefix) for name in state):
        parent, _, leaf = outline.classifier_name.rpartition(".")
        outline.get_submodule(parent)._modules[leaf] = None
    own = outline.state_dict()
    _require_names(own.keys(), state.keys(), source)
    for name, tensor in own.items():
        if not name.endswith(_COUNTER):
            _require_tensor(name, state[name], tensor, source)
    for name, tensor in outline.made().state_dict().items():
        if name.endswith(_COUNTER):
            tensor.zero_()
        else:
            tensor.copy_(state[name])


def save(network: Network, path: Path | str, classes: Sequence[str] = ()) -> None:
    """Write a safetensors file from which ``load`` rebuilds ``network`` without being told how.

    Equal networks give equal bytes. The file appears under its name only when it is complete.

    Args:
        network: any of ours.
        path: where to.
        classes: names of what its classifier tells apart, in order, for ``classes_in``.
    """
    metadata = {
        "name": network.name,
        "options": json.dumps(network.options, sort_keys=True),
        "preprocessing": network.preprocessing.to_json(),
    }
    if classes:
        metadata[_CLASSES] = json.dumps(list(classes), ensure_ascii=False)
    state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    encoded = _sort_header(safetensors.torch.save(state, metadata))
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(encoded)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def classes_in(path: Path) -> tuple[str, ...]:
    """The names that ``save`` recorded; none for folders and for files by others.

    Raises:
        InputError: as for ``read_metadata``, or the record is damaged.
    """
    recorded = {} if path.is_dir() else read_metadata(path)
    try:
        return tuple(map(str, json.loads(recorded.get(_CLASSES, "[]"))))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: its recorded classes are damaged ({error})") from error


def digest(network: Network) -> str:
    """Sha256 over architecture, options, preprocessing and every weight.

    Two networks with one digest compute the same features; features record it.
    """
    description = [network.name, network.options, network.preprocessing.to_json()]
    total = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


def recorded_options(metadata: Mapping[str, str], name: str, source: str) -> dict[str, Any]:
    """The options that ``save`` recorded; empty for files by others.

    Raises:
        InputError: the file holds another architecture, or its record is damaged.
    """
    if "options" not in metadata or "name" not in metadata:
        return {}
    if metadata["name"] != name:
        raise InputError(f"{source} holds {metadata['name']}, not {name}: load it under that name")
    try:
        options = dict(json.loads(metadata["options"]))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: its recorded options are damaged ({error})") from error
    return {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}


def names_in(path: Path) -> tuple[set[str], str | None]:
    """The tensors' names in a weights file, and the architecture that it records, if it does.

    Raises:
        InputError: as for ``read``.
    """
    if not _is_safetensors(path):
        return set(_read_torch(path)), None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return set(file.keys()), (file.metadata() or {}).get("name")
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file ({error}): fetch it again") from error


def recorded_preprocessing(metadata: Mapping[str, str]) -> Preprocessing | None:
    """What the file records under ``preprocessing``, if anything."""
    text = metadata.get("preprocessing")
    return None if text is None else Preprocessing.from_json(text)


def _is_safetensors(path: Path) -> bool:
    if not path.is_file():
        raise InputError(f"no weights file {path}: check the path")
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise InputError(f"{path} ends in {path.suffix!r}: weights are .safetensors, .pth or .pt")
    return path.suffix == ".safetensors"


def _read_safetensors(path: Path, *, tensors: bool = True) -> tuple[State, dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = file.keys() if tensors else ()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file ({error}): fetch it again") from error


def _read_torch(path: Path) -> State:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                packed = any(each.compress_type for each in archive.infolist())
            if packed:  # torch packs nothing; a few kB could unpack to all memory
                raise ValueError("it has packed members")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SppError, MemoryError, ImportError):
        raise
    except Exception as error:  # of damaged bytes the unpickler raises whatever it stumbles over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights_only" in str(error):  # torch's advice is to run whatever is in the file
            reason = "torch reads no tensors from it"
        raise InputError(
            f"{path} is damaged or holds more than tensors ({reason}): "
            "save its state dict as .safetensors"
        ) from error
    if isinstance(state, Mapping) and state and all(isinstance(t, Tensor) for t in state.values()):
        for name, tensor in state.items():
            _require_plain(name, tensor, str(path))
        return dict(state)
    kind = f"a dict with {_few(state)}" if isinstance(state, Mapping) else type(state).__name__
    raise InputError(f"{path} holds {kind}, not a state dict: save its tensors by name alone")


def _require_plain(name: Any, tensor: Tensor, source: str) -> None:
    """Check that a tensor is what a name says, and no more is behind it than numbers."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    plain = plain and not tensor.is_nested and not tensor.is_quantized
    # An expanded tensor has more numbers than the file: of one byte any memory could be asked for.
    if not (isinstance(name, str) and plain and tensor.untyped_storage().nbytes() >= tensor.nbytes):
        raise InputError(
            f"{source}: {name!r:.80} is no plain tensor under a name: save the state dict of a "
            "network in floating point, as .safetensors"
        )


def _require_names(own: Any, given: Any, source: str) -> None:
    missing = [name for name in own if name not in given and not name.endswith(_COUNTER)]
    unexpected = [name for name in given if name not in own]
    if missing or unexpected:
        raise InputError(
            f"{source} does not fit: {len(missing)} tensors missing ({_few(missing)}), "
            f"{len(unexpected)} unexpected ({_few(unexpected)}): "
            "choose the architecture and options it was saved from"
        )


def _require_tensor(name: str, tensor: Tensor, own: Tensor, source: str) -> None:
    if not tensor.is_floating_point():
        raise InputError(f"{source}: {name} has {tensor.dtype}: weights are floating point")
    if tensor.shape != own.shape:
        raise InputError(
            f"{source}: {name} has shape {tuple(tensor.shape)}, the network needs "
            f"{tuple(own.shape)}: choose the options it was saved with"
        )
    require_finite(name, tensor, source)


def require_finite(name: str, tensor: Tensor, source: str) -> None:
    """Check that a tensor can be computed with.

    Raises:
        InputError: it has infinite numbers, or such as are none.
    """
    not_finite = tensor.numel() - int(torch.isfinite(tensor.to(torch.float32)).sum())
    if not_finite:
        raise InputError(
            f"{source}: {name} has {not_finite} of {tensor.numel()} values that are not finite "
            "in float32: fetch the file again"
        )


def _sort_header(encoded: bytes) -> bytes:
    """Give safetensors' header a fixed order: its metadata comes in that of a seeded hash."""
    start = 8 + int.from_bytes(encoded[:8], "little")
    header = json.dumps(json.loads(encoded[8:start]), sort_keys=True, separators=(",", ":"))
    padded = header.encode()
    padded += b" " * (-len(padded) % 8)
    return len(padded).to_bytes(8, "little") + padded + encoded[start:]


def _few(names: Any) -> str:
    listed = [str(name) for name in names]
    return (", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")) or "none"
