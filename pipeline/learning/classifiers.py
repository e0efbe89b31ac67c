"""A set of per-class linear classifiers, with everything needed to score elsewhere."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.errors import InputError
from pipeline.store.files import read_json, write_json, written_aside

WEIGHTS, DESCRIPTION = "classifiers.safetensors", "classifiers.json"
BLOCK_ROWS = 2048  # rows widened to float32 at a time


@dataclass(frozen=True)
class Classifiers:
    """`score[k] = weights[k] · (scale * vector) + intercepts[k]`."""

    classes: tuple[str, ...]
    weights: Float32[np.ndarray, "classes dim"]
    intercepts: Float32[np.ndarray, " classes"]
    scale: float
    """20 / mean L2 norm of the training vectors (SPEC §5)."""
    made_from: dict[str, Any] = field(default_factory=dict)
    """What made the vectors: network digest, layer, scales, pyramid. Others score nonsense."""
    training: dict[str, Any] = field(default_factory=dict)
    """Per class: positives, negatives, objective; and the settings of the SVM."""

    def score(
        self, vectors: Float[np.ndarray, "windows dim"]
    ) -> Float32[np.ndarray, "windows classes"]:
        """Return the score of each window for each class.

        Raises:
            InputError: the vectors are of another length than the classifiers were trained on.
        """
        if vectors.shape[1] != self.weights.shape[1]:
            raise InputError(
                f"the vectors have {vectors.shape[1]} numbers, the classifiers read "
                f"{self.weights.shape[1]}: they were made with other layers or levels"
            )
        # Copied into torch's own memory: products round by where in memory their factors begin.
        folded = torch.from_numpy(np.ascontiguousarray((self.weights * self.scale).T)).clone()
        scores = np.empty((len(vectors), len(self.classes)), dtype=np.float32)
        for start in range(0, len(vectors), BLOCK_ROWS):
            # torch widens half floats many times faster than numpy does.
            block = torch.from_numpy(np.array(vectors[start : start + BLOCK_ROWS]))
            block = block.to(torch.float32, copy=True)
            scores[start : start + BLOCK_ROWS] = (block @ folded).numpy()
        return scores + self.intercepts

    def save(self, folder: Path) -> None:
        """Write `classifiers.safetensors` and `classifiers.json`; equal sets give equal bytes."""
        with written_aside(folder / WEIGHTS) as aside:
            aside.write_bytes(save({"weights": self.weights, "intercepts": self.intercepts}))
        fields = asdict(self)
        write_json(
            folder / DESCRIPTION,
            {key: fields[key] for key in ("classes", "scale", "made_from", "training")},
        )


def load(folder: Path) -> Classifiers:
    """Read what `Classifiers.save` wrote. Data only: nothing in it is executed.

    Raises:
        InputError: the files are absent, damaged, or do not belong together.
    """
    description = read_json(folder / DESCRIPTION)
    if not isinstance(description, dict):
        raise InputError(f"{folder} holds no classifiers: {DESCRIPTION} is absent or damaged")
    try:
        with safe_open(folder / WEIGHTS, framework="np") as file:
            weights, intercepts = file.get_tensor("weights"), file.get_tensor("intercepts")
        classes, scale = tuple(description.pop("classes")), float(description.pop("scale"))
        expected = (len(classes),)
        if weights.ndim != 2 or weights.shape[:1] != expected or intercepts.shape != expected:
            raise InputError(
                f"{folder / WEIGHTS} has weights {list(weights.shape)} and intercepts "
                f"{list(intercepts.shape)} for {expected[0]} classes; save the classifiers again"
            )
        return Classifiers(classes, weights, intercepts, scale, **description)
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{folder / WEIGHTS} cannot be read: {error}") from None
