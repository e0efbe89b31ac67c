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
    """Cost of a unit of hinge loss (SPEC §6)."""
    positive_weight: float = Field(default=2.0, gt=0)
    """By which the loss of a positive counts more (SPEC §6)."""
    bias: float = Field(default=10.0, gt=0)
    """Value of the further feature whose weight is the intercept (SPEC §6)."""
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
    """Whether objects that are marked difficult are positives, too (SPEC §6)."""
    memory_bytes: int = Field(default=6_000_000_000, gt=0)
    """Most that one fitting task may take, vectors and solver: classes that fit together share
    their rows. One task per CPU runs at a time."""


class Mining(Section):
    """Hard-negative mining (SPEC §6)."""

    rounds: int | Literal["converged"] = 1
    """Passes over all training windows (paper §4.1: 1)."""
    hard_score: float = -1.0001
    """A negative that scores above is hard, and joins (SPEC §6)."""
    easy_score: float = -1.2
    """A negative that scores below after a refit is dropped (SPEC §6)."""
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
    """Whether detections are moved: the “bb” of the paper's tables."""
    min_iou: float = Field(default=0.5, gt=0, le=1)
    """Windows learn from the object that they overlap most, if by as much (paper §4.1)."""
    ridge: float = Field(default=1000.0, ge=0)
    """λ (R-CNN, appendix C); the released code has 4000."""
    target_norm: float = Field(default=20.0, gt=0)
    """Mean L2 norm that vectors are scaled to. R-CNN's; λ goes with it."""
    memory_bytes: int = Field(default=4_000_000_000, gt=0)
    """Most that fitting one class may take. One task per CPU runs at a time."""


# Steps and learning rate of each stretch of a fine-tuning.
SCHEDULES: dict[str, tuple[tuple[int, float], ...]] = {
    "paper": ((250_000, 1e-4), (50_000, 1e-5)),
    "released": ((30_000, 1e-3), (30_000, 1e-4), (30_000, 1e-5)),
    "quick": ((1_500, 1e-2), (500, 1e-3)),
}


class Finetune(Section):
    """Fine-tuning fc6, fc7 and a new fc8 on stored pool5, for the layers ftfc6 and ftfc7 (SPEC §9).

    Runs where `features.layer` is one of them.
    """

    schedule: Literal["paper", "released", "quick"] = "paper"
    """`paper`: 250,000 steps at 1e-4, then 50,000 at 1e-5 (§4.1); `released`: 30,000 each at 1e-3,
    1e-4 and 1e-5; `quick`: 1,500 at 1e-2 and 500 at 1e-3, for small networks on CPUs."""
    stretches: tuple[tuple[int, float], ...] | None = None
    """Steps and learning rate, stretch after stretch, in the place of a named schedule's."""
    batch_size: int = Field(default=128, gt=1)
    """Windows of a step."""
    positive_share: float = Field(default=0.25, gt=0, lt=1)
    """Of each batch (paper §4.1)."""
    positive_iou: float = Field(default=0.5, gt=0, le=1)
    """Windows that overlap an object by as much are of its class (paper §4.1)."""
    background_iou: float = Field(default=0.1, gt=0, le=1)
    """Windows that overlap some object by as much, and none by `positive_iou`, are background."""
    mirrored: bool = True
    """Whether half the windows come from the mirrored images: pool5 of these is extracted, too."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of stochastic gradient descent."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Of weights; biases do not decay, as in the released code."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Of fc6 and fc7 (paper §3.1)."""
    seed: int = Field(default=0, ge=0)
    """Added to the recipe's: another one fine-tunes the same network in another way (§4.4)."""
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training images whose windows train nothing: they choose the weights. (SPEC §9:
    never the test images.)"""
    held_windows: int = Field(default=4096, gt=0)
    """How many of their windows are measured, with positives and background in a batch's shares."""
    check_every: int = Field(default=5000, gt=0)
    """Steps between two measurements. What was trained until one survives whatever dies."""
    threads: int = Field(default=1, gt=0)
    """On a CPU. Part of the recipe because sums in another order round differently."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs that are reserved; none: 1 where the cluster has GPUs, else 0."""

    @field_validator("stretches")
    @classmethod
    def _steps_and_rates(
        cls, value: tuple[tuple[int, float], ...] | None
    ) -> tuple[tuple[int, float], ...] | None:
        if value is not None and not (
            value and all(steps > 0 and rate > 0 for steps, rate in value)
        ):
            raise ValueError("give pairs of steps and a learning rate, such as [[1500, 0.01]]")
        return value

    @field_validator("gpus")
    @classmethod
    def _a_part_or_whole_ones(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"{value:g} GPUs; give a part of one, or a whole number")
        return value

    @model_validator(mode="after")
    def _background_is_not_positive(self) -> "Finetune":
        if self.background_iou >= self.positive_iou:
            raise ValueError(
                f"background_iou {self.background_iou} is not below positive_iou "
                f"{self.positive_iou}: no window would be background"
            )
        if not 1 <= round(self.batch_size * self.positive_share) < self.batch_size:
            raise ValueError(
                f"positive_share {self.positive_share} of {self.batch_size} windows leaves no "
                "positives or no background: change it, or batch_size"
            )
        return self

    @property
    def schedule_in_force(self) -> tuple[tuple[int, float], ...]:
        """Steps and learning rate of each stretch."""
        return self.stretches or SCHEDULES[self.schedule]

    @property
    def steps(self) -> int:
        """How many in all."""
        return sum(steps for steps, _ in self.schedule_in_force)


class Detection(Section):
    """From scores to detections (SPEC §7)."""

    min_score: float = -1.5
    """A window that scores lower is no detection (SPEC §7)."""
    per_class: int = Field(default=100, gt=0)
    """Best windows of a class in an image that go into suppression."""
    nms_iou: float = Field(default=0.3, ge=0, le=1)
    """Of two detections of a class that overlap by more, the better one stays (paper §4.1)."""


class Evaluation(Section):
    """How average precision is measured (SPEC §11)."""

    method: Literal["voc07", "area"] = "voc07"
    """`voc07`: precision at eleven recalls; `area`: under the whole curve."""
    iou: float = Field(default=0.5, gt=0, le=1)
    """At which a detection is right."""
    pictures: int = Field(default=24, ge=0)
    """Test images drawn with their detections."""
    picture_score: float = 0.0
    """Detections drawn are above this (paper, Figure 6)."""
