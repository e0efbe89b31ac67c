"""A set of per-class linear classifiers, with everything needed to score elsewhere."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from pydantic import Field
from safetensors.numpy import save

from pipeline import config
from pipeline.errors import InputError
from pipeline.learning.learnt import read_arrays, read_description
from pipeline.store import blocks
from pipeline.store.blocks import Block
from pipeline.store.files import write_json, written_aside

WEIGHTS, DESCRIPTION = "classifiers.safetensors", "classifiers.json"
DECIDING = (
    "layer",
    "levels",
    "mode",
    "view",
    "crop_px",
    "mirrored",
    "scales",
    "scale_rule",
    "reference_side_px",
    "max_side_px",
)


@dataclass(frozen=True)
class Classifiers:
    """`score[k] = weights[k] · (scale * vector) + intercepts[k]`.

    Those of whole images divide each vector by its length instead of scaling all alike (SPEC §5).
    """

    classes: tuple[str, ...]
    weights: Float32[np.ndarray, "classes dim"]
    intercepts: Float32[np.ndarray, " classes"]
    scale: float
    """20 / mean L2 norm of the training vectors (SPEC §5)."""
    made_from: dict[str, Any] = field(default_factory=dict)
    """What made the vectors: network digest, layer, scales, pyramid. Others score nonsense."""
    training: dict[str, Any] = field(default_factory=dict)
    """Per class: positives, negatives, objective; and the settings of the SVM."""
    unit: bool = False
    """Whether each vector is divided by its length, first; `scale` is then 1."""

    def scorer(self) -> "Scorer":
        """Return what scores many arrays of vectors, with the weights made ready once."""
        return Scorer(self)

    def score(
        self, vectors: Float[np.ndarray, "windows dim"]
    ) -> Float32[np.ndarray, "windows classes"]:
        """Return the score of each window for each class.

        Raises:
            InputError: the vectors are of another length than the classifiers were trained on.
        """
        return self.scorer()(vectors)

    def only(self, class_: str) -> "Classifiers":
        """Return the classifier of one of the classes, for scoring."""
        row = self.classes.index(class_)
        weights, intercepts = self.weights[row : row + 1], self.intercepts[row : row + 1]
        known = (self.scale, self.made_from)
        return Classifiers((class_,), weights, intercepts, *known, unit=self.unit)

    def check_fits(self, made_from: Mapping[str, Any], where: object) -> None:
        """Refuse vectors that another network or other settings made; the split may differ.

        Args:
            made_from: what made the vectors that are to be scored.
            where: their store, for the message.

        Raises:
            InputError: names the first field that differs, and both values.
        """
        require_same_vectors("classifiers", self.made_from, made_from, where)

    def save(self, folder: Path) -> None:
        """Write `classifiers.safetensors` and `classifiers.json`; equal sets give equal bytes."""
        with written_aside(folder / WEIGHTS) as aside:
            aside.write_bytes(save({"weights": self.weights, "intercepts": self.intercepts}))
        fields = asdict(self)
        write_json(
            folder / DESCRIPTION,
            {key: fields[key] for key in ("classes", "scale", "unit", "made_from", "training")},
        )


class Scorer:
    """One pass over the vectors, where they lie, scores every class.

    A score depends on its own vector and class alone, to the bit: neither on what else is scored
    in the same call, nor on threads.
    """

    def __init__(self, known: Classifiers) -> None:
        self._weights = blocks.weights(known.weights * known.scale)
        self._intercepts = known.intercepts.astype(np.float32)
        self._unit = known.unit

    def __call__(
        self, vectors: Float[np.ndarray, "windows dim"] | Block
    ) -> Float32[np.ndarray, "windows classes"]:
        """Return the score of each window for each class.

        Raises:
            InputError: the vectors are of another length than the classifiers were trained on.
        """
        block = vectors if isinstance(vectors, Block) else blocks.as_block(vectors)
        dim = self._weights.values.shape[1]
        if block.spec.length != dim:
            raise InputError(
                f"the vectors have {block.spec.length} numbers, the classifiers read {dim}: they "
                "were made with other layers or levels"
            )
        scores = block.multiply(self._weights)
        if self._unit:
            scores /= block.lengths()[:, None]
        scores += self._intercepts
        return scores


def require_same_vectors(
    learnt: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], where: object
) -> None:
    """Refuse vectors that another network or other settings made; the split may differ.

    Args:
        learnt: what was trained, in words.
        mine: what made the vectors that it was trained on.
        theirs: what made those that it is to be used on.
        where: their store, for the message.

    Raises:
        InputError: names the first field that differs, and both values.
    """
    known, given = _deciding(mine), _deciding(theirs)
    for name in sorted(known.keys() & given.keys()):
        if known[name] != given[name]:
            raise InputError(
                f"the {learnt} were trained on vectors with {name} = {known[name]}; {where} was "
                f"made with {given[name]}: train on such vectors, or extract these again"
            )


def _deciding(made_from: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what a vector says; how it is stored is not among them."""
    features = made_from.get("features")
    features = features if isinstance(features, Mapping) else {}
    named = {f"features.{name}": features[name] for name in DECIDING if name in features}
    return named | {name: made_from[name] for name in ("network",) if name in made_from}


def load(folder: Path) -> Classifiers:
    """Read what `Classifiers.save` wrote. Data only: nothing in it is executed.

    Raises:
        InputError: the files are absent, damaged, not finite, or do not belong together.
    """
    known = read_description(folder / DESCRIPTION, _Described, "classifiers")
    weights, intercepts = read_arrays(folder / WEIGHTS, ("weights", "intercepts"))
    expected = (len(known.classes),)
    if weights.ndim != 2 or weights.shape[:1] != expected or intercepts.shape != expected:
        raise InputError(
            f"{folder / WEIGHTS} has weights {list(weights.shape)} and intercepts "
            f"{list(intercepts.shape)} for {expected[0]} classes; save the classifiers again"
        )
    learnt = (known.scale, dict(known.made_from), dict(known.training), known.unit)
    return Classifiers(known.classes, weights, intercepts, *learnt)


class _Described(config.Section):
    """What `classifiers.json` says."""

    classes: tuple[str, ...]
    scale: float = Field(gt=0)
    unit: bool = False
    made_from: dict[str, Any]
    training: dict[str, Any]
