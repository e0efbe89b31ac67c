"""From stored features to average precision: what a recipe may say, each field with its source."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Section


class Svm(Section):
    """Per-class linear SVMs (SPEC §6)."""

    solver: Literal["liblinear", "dense"] = "liblinear"
    """`liblinear`: the reference, one class after another; `dense`: our own descent on the same
    objective, all classes in one go through the rows, several times faster, and a refit can begin
    where the round before ended. Its objective is at most 1e-4 above liblinear's."""
    C: float = Field(default=0.001, gt=0)
    positive_weight: float = Field(default=2.0, gt=0)
    bias: float = Field(default=10.0, gt=0)
    tolerance: float = Field(default=1e-3, gt=0)
    """liblinear's stopping criterion; its own default of 0.1 leaves the objective loose."""
    target_norm: float = Field(default=20.0, gt=0)
    """Mean L2 norm that vectors are scaled to. R-CNN's; only rescales C."""
    norm_sample: int = Field(default=2000, gt=0)
    """Windows over which the mean norm is taken."""
    negatives: int = Field(default=25, gt=0)
    """Initial negatives: windows sampled per image, on average over the whole set."""
    negative_iou: float = Field(default=0.3, gt=0, le=1)
    """Negatives of a class overlap each of its objects by strictly less (paper §4.1)."""
    duplicate_iou: float = Field(default=0.7, gt=0, le=1)
    """Of two negatives in one image that overlap by more, one is dropped (paper §4.1)."""
    difficult_positives: bool = True
    memory_bytes: int = Field(default=6_000_000_000, gt=0)
    """Most that one fitting task may take, vectors and solver: classes that fit together share
    their rows. One task per CPU runs at a time."""


class Mining(Section):
    """Hard-negative mining (SPEC §6)."""

    rounds: int | Literal["converged"] = 1
    """Passes over all training windows (paper §4.1: 1)."""
    hard_score: float = -1.0001
    easy_score: float = -1.2
    order: Literal["score", "seeded"] | None = None
    """Who wins under the 70% rule: the higher score, or a fixed seeded order. Default: `score`,
    and `seeded` for `converged`, where "all negatives" must be one set."""
    max_per_image: int = Field(default=100, gt=0)
    """Hard negatives a class takes from one image in one round. Bounds the cache:
    images × this × rounds rows a class."""
    max_rounds: int = Field(default=30, gt=0)
    """Where `converged` gives up, and says so."""

    @field_validator("rounds")
    @classmethod
    def _not_negative(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{value} rounds; give 0 or more, or converged")
        return value

    @model_validator(mode="after")
    def _easy_is_not_hard(self) -> "Mining":
        if self.easy_score > self.hard_score:
            raise ValueError(
                f"easy_score {self.easy_score} is above hard_score {self.hard_score}: what lies "
                "between would be dropped and found again in every round; lower easy_score"
            )
        return self

    @property
    def kept_first(self) -> Literal["score", "seeded"]:
        """The order in force."""
        return self.order or ("seeded" if self.rounds == "converged" else "score")


class Regression(Section):
    """Bounding-box regression (SPEC §8): moves a detection's window onto its object."""

    enabled: bool = False
    min_iou: float = Field(default=0.5, gt=0, le=1)
    """Windows learn from the object that they overlap most, if by as much (paper §4.1)."""
    ridge: float = Field(default=1000.0, ge=0)
    """λ (R-CNN, appendix C); the released code has 4000."""
    target_norm: float = Field(default=20.0, gt=0)
    """Mean L2 norm that vectors are scaled to. R-CNN's; λ goes with it."""
    memory_bytes: int = Field(default=4_000_000_000, gt=0)
    """Most that fitting one class may take. One task per CPU runs at a time."""


class Detection(Section):
    """From scores to detections (SPEC §7)."""

    min_score: float = -1.5
    per_class: int = Field(default=100, gt=0)
    """Best windows of a class in an image that go into suppression."""
    nms_iou: float = Field(default=0.3, ge=0, le=1)


class Evaluation(Section):
    """How average precision is measured (SPEC §11)."""

    method: Literal["voc07", "area"] = "voc07"
    iou: float = Field(default=0.5, gt=0, le=1)
    pictures: int = Field(default=24, ge=0)
    """Test images drawn with their detections."""
    picture_score: float = 0.0
    """Detections drawn are above this (paper, Figure 6)."""
