"""From one vector an image to its classes (SPEC §10)."""

from pydantic import Field, field_validator

from pipeline.config.section import Section


class Classification(Section):
    """One-vs-rest linear SVMs on L2-normalised vectors of whole images, and how they are judged."""

    C: float = Field(default=1.0, gt=0)
    """Cost of a unit of hinge loss (SPEC §10)."""
    positive_weight: float = Field(default=1.0, gt=0)
    """Multiplies the cost of positives."""
    bias: float = 1.0
    """Constant appended to each vector, whose norm is 1; its weight is regularised. 0: none."""
    random_splits: int = Field(default=0, ge=0)
    """How often `dataset.train` is divided at random into images to learn from and others to be
    judged by, as for Caltech-101 (paper §3.3: 10); 0: learn from `train`, be judged by `test`."""
    train_per_class: float = Field(default=30, gt=0)
    """Images of a class that a random split learns from (paper §3.3); below 1: a share of them.
    Never all: one is left to be judged by."""
    test_per_class: int | None = Field(default=50, gt=0)
    """Most images of a class that a random split is judged by (paper §3.3); none: all others."""
    memory_bytes: int = Field(default=8_000_000_000, gt=0)
    """Most that fitting may take: all training vectors are held in float32."""
    mistakes: int = Field(default=24, ge=0)
    """Wrong answers that are drawn, the most confident first."""

    @field_validator("train_per_class")
    @classmethod
    def _a_share_or_a_number(cls, value: float) -> float:
        if value >= 1 and value != int(value):
            raise ValueError(f"{value:g} images; give a whole number, or a share below 1")
        return value
