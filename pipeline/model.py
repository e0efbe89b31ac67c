"""A trained detector as a folder of its own, and detection with it in images that no store has.

    model.json                    what windows and vectors are, and how detections are kept
    network.safetensors           fine-tuned, and of low rank, where the recipe has it so
    classifiers.safetensors .json
    regressors.safetensors .json  where it regresses boxes

Nothing in it is executed, and it can be carried anywhere.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from pipeline import config, images, networks
from pipeline.detection import detect, detections_table
from pipeline.errors import InputError
from pipeline.extraction import NetworkSpec
from pipeline.features import Seen
from pipeline.learning import box_regressors, classifiers
from pipeline.learning.box_regressors import Mover
from pipeline.learning.classifiers import Scorer
from pipeline.networks import Network
from pipeline.store.blocks import as_block
from pipeline.store.files import read_json, write_json, written_aside
from pipeline.windows.table import propose

MODEL, NETWORK = "model.json", "network.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class ModelSpec:
    """What a model is made of."""

    network: NetworkSpec
    features: config.Features
    """With the layer that the network is asked for."""
    windows: config.Windows
    detection: config.Detection
    seed: int
    classifiers: Path
    """Folder of them."""
    regressors: Path | None = None


@dataclass(frozen=True)
class PackStats:
    """What `pack` wrote."""

    classes: int
    bytes: int


def pack(spec: ModelSpec, folder: Path) -> PackStats:
    """Write a model into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with written_aside(folder / NETWORK) as aside:
        networks.save(replace(spec.network, precision="float32").load(), aside)
    held = classifiers.load(spec.classifiers)
    sources = [(classifiers, spec.classifiers)]
    if spec.regressors is not None:
        sources.append((box_regressors, spec.regressors))
    for module, source in sources:
        for name in (module.WEIGHTS, module.DESCRIPTION):
            with written_aside(folder / name) as aside:
                copyfile(source / name, aside)
    windows = spec.windows.model_copy(update={"path": None})
    write_json(
        folder / MODEL,
        {
            "format": FORMAT,
            "network": {"name": spec.network.name, "precision": spec.network.precision},
            "features": spec.features.model_dump(mode="json"),
            "windows": windows.model_dump(mode="json"),
            "detection": spec.detection.model_dump(mode="json"),
            "seed": spec.seed,
            "regresses": spec.regressors is not None,
        },
    )
    return PackStats(len(held.classes), sum(each.stat().st_size for each in folder.iterdir()))


@dataclass(frozen=True)
class Model:
    """A detector, ready to work. Not for several threads at a time."""

    network: Network
    features: config.Features
    windows: config.Windows
    detection: config.Detection
    seed: int
    classes: tuple[str, ...]
    scorer: Scorer
    mover: Mover | None
    windows_replaced: bool = False
    """Whether it was trained on windows of a file, which has none of other images."""

    def detect(self, data: bytes, image_id: str) -> tuple[pa.Table, tuple[int, int]]:
        """Return the detections in an image, of each class best first, and its size in pixels.

        Equal to what a run finds from stored features, to the bit for pool5; fc layers round in the
        last digit where a run sends windows of several images through them together.

        Args:
            data: the file.
            image_id: as which it stands in the table of `DETECTIONS`.

        Raises:
            UndecodableImage: it cannot be read.
            InputError: its features do not fit what classifiers read.
        """
        image = images.decode(data, max_pixels=self.features.max_pixels)
        boxes = propose(image, self.windows, self.seed)
        seen = Seen(image, boxes, self.network, self.features, image_id)
        block = as_block(seen.vectors(self.features.layer))
        scores, size = self.scorer(block), (image.shape[1], image.shape[0])
        mover, layer = self.mover, self.features.layer

        def move(found: np.ndarray, classes: np.ndarray) -> np.ndarray:
            pooled = block if layer == "pool5" else as_block(seen.vectors("pool5"))
            assert mover is not None
            return mover(boxes[found], classes, pooled[found], size)

        chosen = move if mover is not None else None
        found, classes, kept = detect(boxes, scores, size, self.detection, chosen)
        names = np.array(self.classes, object)[classes]
        return detections_table(image_id, names, scores[found, classes], kept), size


def load(folder: Path, windows: config.Windows | None = None) -> Model:
    """Read a model.

    Args:
        folder: that `pack` wrote.
        windows: other candidate windows than it was trained with.

    Raises:
        InputError: files are absent, damaged, or do not belong together.
    """
    known = read_json(folder / MODEL)
    if not isinstance(known, dict) or known.get("format") != FORMAT:
        raise InputError(
            f"{folder} holds no model: {MODEL} is absent, damaged, or of another version; "
            "make one with spp model RECIPE --out FOLDER"
        )
    try:
        features = config.Features.model_validate(known["features"])
        replaced = windows is None and known["windows"].get("method") == "file"
        windows = windows or _windows(known["windows"])
        detection = config.Detection.model_validate(known["detection"])
        name, precision = known["network"]["name"], known["network"]["precision"]
        seed, regresses = int(known["seed"]), bool(known["regresses"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        reason = str(error).replace("\n", " ")
        raise InputError(f"{folder / MODEL} cannot be read: {reason}") from None
    network = networks.load(name, folder / NETWORK, precision=precision)
    judges = classifiers.load(folder)
    mover = None
    if regresses:
        movers = box_regressors.load(folder)
        if movers.classes != judges.classes:
            raise InputError(f"{folder}: classifiers and box regressors are of different classes")
        mover = movers.mover()
    given = (network, features, windows, detection, seed)
    return Model(*given, judges.classes, judges.scorer(), mover, replaced)


@lru_cache(maxsize=2)
def loaded(folder: Path) -> Model:
    """Return a model that is read once in a process."""
    return load(folder)


def _windows(known: dict[str, Any]) -> config.Windows:
    if known.get("method") != "file":
        return config.Windows.model_validate(known)
    # A file has the windows of its own images: others get selective search's.
    return config.Windows.model_validate(known | {"method": "selective_search"})
