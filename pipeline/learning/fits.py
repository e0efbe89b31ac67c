"""What is kept of a fitted class: its weights, and where its next fit may begin."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int, Int64
from safetensors.numpy import load_file, save

from pipeline.learning.classifiers import Classifiers
from pipeline.learning.mining import MiningSpec
from pipeline.learning.svm import Fit
from pipeline.store.files import written_aside


@dataclass(frozen=True)
class FitStats:
    """What came of one class."""

    positives: int
    negatives: int
    objective: float


def write_fit(
    folder: Path, k: int, fit: Fit, shard: Int[np.ndarray, " rows"], row: Int[np.ndarray, " rows"]
) -> None:
    """Write `<k>.safetensors`: weights and intercept, and duals where the solver gives them.

    Args:
        folder: takes the file.
        k: index of the class.
        fit: of the class, over a pool of rows.
        shard: number of each row's shard.
        row: place of each row in its shard.
    """
    tensors = {"weights": np.append(fit.svm.weights, fit.svm.intercept)}
    if fit.dual is not None:
        at = np.flatnonzero(fit.dual)
        tensors |= {"dual": fit.dual[at], "key": row_keys(shard[at], row[at])}
    with written_aside(_path(folder, k)) as aside:
        aside.write_bytes(save(tensors))


def read_duals(
    folder: Path, k: int, keys: Int64[np.ndarray, " rows"]
) -> Float64[np.ndarray, " rows"] | None:
    """Return the duals of class `k` at the rows with these ascending keys, 0 at new ones.

    None where the solver that wrote the fit gave none. Of a row that is not among them any longer
    nothing is left.
    """
    held = load_file(_path(folder, k))
    if "dual" not in held:
        return None
    start = np.zeros(len(keys))
    places = np.minimum(np.searchsorted(keys, held["key"]), len(keys) - 1)
    there = keys[places] == held["key"]
    start[places[there]] = held["dual"][there]
    return start


def row_keys(
    shard: Int[np.ndarray, " rows"], row: Int[np.ndarray, " rows"]
) -> Int64[np.ndarray, " rows"]:
    """Return one number for a shard and a row; they ascend as rows lie."""
    return shard.astype(np.int64) << 32 | row


def assemble(
    spec: MiningSpec, scale: float, folders: Sequence[Path], stats: Sequence[FitStats]
) -> Classifiers:
    """Return the classifiers whose weights `fit_classes` wrote, class `k`'s into `folders[k]`."""
    fitted = [load_file(_path(folder, k))["weights"] for k, folder in enumerate(folders)]
    both = np.stack(fitted).astype(np.float32)
    return Classifiers(
        classes=spec.classes,
        weights=np.ascontiguousarray(both[:, :-1]),
        intercepts=np.ascontiguousarray(both[:, -1]),
        scale=scale,
        made_from=spec.store.made_from,
        training={
            "svm": spec.svm.model_dump(mode="json"),
            "classes": [asdict(each) for each in stats],
        },
    )


def _path(folder: Path, k: int) -> Path:
    return folder / f"{k}.safetensors"
