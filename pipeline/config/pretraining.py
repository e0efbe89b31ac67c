"""Training a network from nothing: what a recipe may say, each field with its unit and source."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Section


class Pretrain(Section):
    """Training a network from scratch (SPEC §10): on crops of `digits`, or on image files.

    The paper's training is `sides_px = [224, 180]`, `epochs = 70`, `schedule = "plateau"`,
    `drops = 2`, `learning_rate = 0.01`, `batch_size = 128`, `dropout = 0.5` and `scaffold = false`
    (§2.3, §3.1);
    the defaults are for `digits`, in a minute on a CPU.
    """

    seed: int = Field(default=0, ge=0)
    """Added to the recipe's: another one gives another network for the same images (§4.4)."""
    crops: int = Field(default=12_000, gt=0)
    """How many are made of `digits`; not used for image files."""
    sides_px: tuple[int, ...] = (80,)
    """Crop sizes; with several, one set of weights learns all of them (paper §2.3). The smaller
    ones are the crop of the largest, resized."""
    mix: Literal["epoch", "batch"] = "epoch"
    """Sizes alternate `epoch` by epoch (paper §2.3), or `batch` by batch."""
    epochs: int = Field(default=4, gt=0)
    """Passes over all images; the most, where the schedule may end it earlier."""
    batch_size: int = Field(default=64, gt=0)
    """Over all workers together."""
    learning_rate: float = Field(default=0.03, gt=0)
    """The highest one."""
    schedule: Literal["one_cycle", "plateau"] = "one_cycle"
    """`one_cycle`: up over a tenth of the steps, then down to zero along a cosine, for short
    trainings; `plateau`: divided by ten when held-out accuracy no longer rises (paper §3.1)."""
    patience: int = Field(default=5, gt=0)
    """Of `plateau`: epochs without a better held-out accuracy that make the rate drop. Give a few
    rounds of all sizes: an epoch of another size moves the accuracy, too."""
    drops: int = Field(default=3, ge=0)
    """Of `plateau`: how often the rate is divided; training ends where it would drop once more
    (Krizhevsky et al., 2012: three times)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of fc6 and fc7. The paper's 0.5 is for 1.2 million images; few steps are better without."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of stochastic gradient descent."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Of weights; biases do not decay."""
    scaffold: bool = True
    """Whether batch norm helps while training; it is folded into the weights at the end."""
    resized_px: int = Field(default=256, gt=0)
    """Of image files: their shorter side before crops are taken (paper §3.1)."""
    crop_places: Literal["five", "anywhere"] = "five"
    """Of image files: where a crop may lie: `five`: in the centre or a corner of the entire image
    (paper §3.1); `anywhere`: at any whole pixel."""
    flips: bool = True
    """Of image files: whether half the crops are mirrored (paper §3.1). Digits never are."""
    colour: float = Field(default=0.1, ge=0)
    """Of image files: standard deviation of the colour altering along the principal components of
    RGB (Krizhevsky et al., 2012, §4.1); 0 for none."""
    colour_images: int = Field(default=1000, gt=0)
    """Training images whose pixels these components are taken from."""
    held_out: float = Field(default=0.05, gt=0, lt=1)
    """Share of the training images that train nothing and measure, where no others are given."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of products and convolutions while training; weights are kept in float32 in either case."""
    threads: int = Field(default=1, gt=0)
    """Of torch on a CPU. Part of the recipe because sums in another order round differently."""
    decode_threads: int = Field(default=4, gt=0)
    """Threads that decode image files ahead of the step. Changes speed, never results."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs that are reserved, for each worker; none: 1 where the cluster has GPUs, else 0."""
    workers: int = Field(default=1, gt=0)
    """Of image files: processes that share each batch, each with `gpus` and `threads` of its own;
    on several machines the run directory must be one that all of them see. Part of the recipe
    because sums in other parts round differently, and `scaffold` looks at each one's share."""

    @field_validator("sides_px")
    @classmethod
    def _sizes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or len(set(value)) < len(value):
            raise ValueError("give one or more different sizes in pixels, such as [224, 180]")
        return value

    @model_validator(mode="after")
    def _workers_have_work_and_a_device_each(self) -> "Pretrain":
        if self.workers > self.batch_size:
            raise ValueError(
                f"workers = {self.workers} share batches of batch_size = {self.batch_size}, and "
                f"some would never have an image: give at most {self.batch_size} workers"
            )
        if self.workers > 1 and self.gpus not in (None, 0, 1):
            raise ValueError(
                f"gpus = {self.gpus:g} with workers = {self.workers}: each worker trains on one "
                "GPU of its own (1), or on the CPU (0); several GPUs are several workers"
            )
        return self
