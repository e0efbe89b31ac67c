"""What was trained as a folder of its own, and its answers about images that no store has.

    model.json                    what windows and vectors are, how detections are kept, and the
                                  sha256 of the other files
    network.safetensors           fine-tuned, and of low rank, where the recipe has it so
    classifiers.safetensors .json
    regressors.safetensors .json  where it regresses boxes

Nothing in it is executed, and it can be carried anywhere.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from shutil import copyfile
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32
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
from pipeline.networks.catalogue import PRECISIONS
from pipeline.store.blocks import Block, as_block
from pipeline.store.files import file_sha256, read_json, write_json, written_aside
from pipeline.threads import torch_threads
from pipeline.windows.table import propose

MODEL, NETWORK = "model.json", "network.safetensors"
_LEARNT = (classifiers, box_regressors)
Task = Literal["detection", "classification"]


@dataclass(frozen=True)
class ModelSpec:
    """What a model is made of."""

    network: NetworkSpec
    features: config.Features
    """With the layer that the network is asked for."""
    windows: config.Windows
    detection: config.Detection
    seed: int
    task: Task
    classifiers: Path
    """Folder of them."""
    regressors: Path | None = None


class Described(config.Section):
    """What `model.json` says."""

    format: Literal[1] = 1
    task: Task = "detection"
    network: str
    """Its architecture."""
    code: str | None = None
    """`networks.code_digest` of it."""
    precision: str
    features: config.Features
    windows: config.Windows
    windows_from_file: bool
    """Whether it was trained on windows of a file, which has none of other images."""
    detection: config.Detection
    seed: int
    files: dict[str, str]
    """sha256 of each."""


@dataclass(frozen=True)
class PackStats:
    """What `pack` wrote."""

    classes: int
    bytes: int


def pack(spec: ModelSpec, folder: Path) -> PackStats:
    """Write a model into a folder; until it is whole, the folder holds none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).unlink(missing_ok=True)
    with written_aside(folder / NETWORK) as aside:
        networks.save(replace(spec.network, precision="float32").load(), aside)
    sources = {spec.classifiers: classifiers}
    if spec.regressors is not None:
        sources[spec.regressors] = box_regressors
    names = [NETWORK]
    for source, module in sources.items():
        for name in (module.WEIGHTS, module.DESCRIPTION):
            with written_aside(folder / name) as aside:
                copyfile(source / name, aside)
            names.append(name)
    from_file = spec.windows.method == "file"
    windows = spec.windows
    if from_file:  # others get selective search's
        given = windows.model_dump() | {"method": "selective_search", "path": None}
        windows = config.Windows.model_validate(given)
    described = Described(
        task=spec.task,
        network=spec.network.name,
        code=spec.network.code,
        precision=spec.network.precision,
        features=spec.features,
        windows=windows,
        windows_from_file=from_file,
        detection=spec.detection,
        seed=spec.seed,
        files={name: file_sha256(folder / name) for name in names},
    )
    write_json(folder / MODEL, described.model_dump(mode="json"))
    held = classifiers.load(folder)
    return PackStats(len(held.classes), sum((folder / name).stat().st_size for name in names))


@dataclass(frozen=True)
class Model:
    """A detector or classifier, ready to work. Not for several threads at a time."""

    network: Network
    described: Described
    digest: str
    """Of all its files."""
    classes: tuple[str, ...]
    scorer: Scorer
    mover: Mover | None

    def _repr_html_(self) -> str:
        from pipeline.report import notebook

        return notebook.model(self)

    def detect(self, data: bytes, image_id: str) -> tuple[pa.Table, tuple[int, int]]:
        """Return the detections in an image, of each class best first, and its size in pixels.

        Equal, to the bit, to what a run finds from features that the same kind of machine stored;
        but that fc layers in bfloat16, or on a GPU, round in the last digit, because a run sends
        windows of several images through them together.

        Args:
            data: the file.
            image_id: as which it stands in the table of `DETECTIONS`.

        Raises:
            UndecodableImage: it cannot be read.
            InputError: its features do not fit what classifiers read.
        """
        known, mover = self.described, self.mover
        layer = known.features.layer
        boxes, seen, block, size = self._see(data, image_id)
        scores = self.scorer(block)

        def move(found: np.ndarray, classes: np.ndarray) -> np.ndarray:
            with torch_threads(1):
                pooled = block if layer == "pool5" else as_block(seen.vectors("pool5"))
            assert mover is not None
            return mover(boxes[found], classes, pooled[found], size)

        chosen = move if mover is not None else None
        found, classes, kept = detect(boxes, scores, size, known.detection, chosen)
        names = np.array(self.classes, object)[classes]
        return detections_table(image_id, names, scores[found, classes], kept), size

    def classify(
        self, data: bytes, image_id: str
    ) -> tuple[Float32[np.ndarray, " classes"], tuple[int, int]]:
        """Return the score of an image for each class, and its size in pixels; as `detect`.

        Args:
            data: the file.
            image_id: its name, in errors.

        Raises:
            UndecodableImage: it cannot be read.
            InputError: its features do not fit what classifiers read.
        """
        _, _, block, size = self._see(data, image_id)
        return self.scorer(block)[0], size

    def _see(
        self, data: bytes, image_id: str
    ) -> tuple[Float32[np.ndarray, "windows 4"], Seen, Block, tuple[int, int]]:
        """Return the windows of an image, what the network sees, their vectors, and its size."""
        known = self.described
        image = images.decode(data, max_pixels=known.features.max_pixels)
        boxes = propose(image, known.windows, known.seed)
        with torch_threads(1):  # as an extractor: sums of several threads round differently
            seen = Seen(image, boxes, self.network, known.features, image_id)
            block = as_block(seen.vectors(known.features.layer))
        return boxes, seen, block, (image.shape[1], image.shape[0])


def load(folder: Path) -> Model:
    """Read a model; where there is a GPU, its network goes there.

    Raises:
        InputError: files are absent, damaged, or do not belong together.
    """
    described = describe(folder)
    for name, sha256 in described.files.items():
        if not (folder / name).is_file() or file_sha256(folder / name) != sha256:
            raise InputError(
                f"{folder / name} is absent or not the file that {MODEL} was written for: make the "
                "model again, or copy it whole"
            )
    judges, mover = classifiers.load(folder), None
    if box_regressors.WEIGHTS in described.files:
        mover = box_regressors.load(folder).mover()
    networks.require_code(described.network, described.code, f"the model {folder}")
    network = networks.load(described.network, folder / NETWORK, precision=described.precision)
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = False  # as in an extractor
        network = network.to("cuda")
    digest = config.digest(described)
    return Model(network, described, digest, judges.classes, judges.scorer(), mover)


def describe(folder: Path) -> Described:
    """Return what a model says of itself; its weights are not read.

    Raises:
        InputError: the folder holds no model, or one of another version.
    """
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}: make a model with spp model RECIPE --out FOLDER"
        )
    known = read_json(folder / MODEL)
    if not isinstance(known, dict):
        raise InputError(
            f"{folder} holds no model: {MODEL} is absent or damaged; make one with "
            "spp model RECIPE --out FOLDER"
        )
    try:
        described = Described.model_validate(known)
        if described.precision not in PRECISIONS or NETWORK not in described.files:
            raise ValueError(f"precision is {described.precision!r}, files {described.files}")
    except (ValidationError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / MODEL} cannot be read: {reason}") from None
    known_files = {
        NETWORK,
        *(name for each in _LEARNT for name in (each.WEIGHTS, each.DESCRIPTION)),
    }
    if strange := set(described.files) - known_files:
        raise InputError(
            f"{folder / MODEL} names {min(strange)!r:.80}, which is no file of a model"
        )
    return described


def require_task(described: Described, task: Task, folder: Path) -> None:
    """Refuse a model of the other task.

    Raises:
        InputError: it is one.
    """
    if described.task != task:
        raise InputError(
            f"the model in {folder} is of {described.task}, not of {task}: give it to "
            f"spp {'detect' if described.task == 'detection' else 'classify'} --model"
        )


@lru_cache(maxsize=2)
def loaded(folder: Path, digest: str) -> Model:
    """Return a model that is read once in a process.

    Args:
        folder: of it.
        digest: that it had when the work was given out.

    Raises:
        InputError: it is another one by now.
    """
    model = load(folder)
    if model.digest != digest:
        raise InputError(
            f"the model in {folder} was replaced meanwhile: run the same command again"
        )
    return model
