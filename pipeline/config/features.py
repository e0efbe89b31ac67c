"""What is computed for a window or an image, and how it is written."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Section

# Of this world: a model of others says them, too, and they decide what memory an image takes.
MOST_SCALE_PX, MOST_BINS = 20_000, 100


class Features(Section):
    """What is computed for a window, and how it is written."""

    mode: Literal["pyramid", "warp"] = "pyramid"
    """`pyramid`: the conv net sees each image once a scale, and windows are pooled from its maps;
    `warp`: R-CNN's way, the baseline of the paper's Table 6: it sees each window by itself, warped
    to 227×227 pixels with 16 of surroundings (SPEC §10). Scales then have no part."""
    view: Literal["windows", "full", "crop"] = "windows"
    """`windows`: candidates are pooled from the map of their image; `full`, `crop`, for
    classification: one vector an image, of all of it or of its central square, with the pyramid
    over the entire map (paper §3.1.4, §3.2)."""
    crop_px: int = Field(default=224, gt=0)
    """Side of the square that `crop` cuts out of the resized image."""
    scales: tuple[Annotated[int, Field(le=MOST_SCALE_PX)], ...] = (688,)
    """Shorter sides in pixels (paper §4.1)."""
    scale_rule: Literal["area", "released", "max"] = "area"
    """With several scales: `area`, `released`: each window is pooled at one of them, see SPEC §3;
    `max`: at all, and of each number the largest is kept, which the paper tried first (§4.1)."""
    reference_side_px: int = Field(default=224, gt=0)
    """With several scales, a window is pooled where its area is nearest to this squared: the size
    of the images that the network was trained on (paper §4.1)."""
    max_side_px: int | None = Field(default=None, gt=0)
    """Upper clamp of the longer side; none in the paper."""
    levels: tuple[Annotated[int, Field(le=MOST_BINS)], ...] = (6, 3, 2, 1)
    """The pyramid: n×n bins per level (paper §4.1: 50 bins)."""
    layer: Literal["pool5", "fc6", "fc7", "ftfc6", "ftfc7"] = "pool5"
    """`ftfc6`, `ftfc7`: fc6 and fc7 once they are fine-tuned on the training windows, see
    `[finetune]`."""
    store: Literal["windows", "maps"] = "windows"
    """`windows`: a vector for each window; `maps`: the feature maps alone, from which vectors are
    pooled whenever they are read. For `pool5` only, with equal results from far fewer bytes."""
    mirrored: bool = False
    """Whether the network sees each image mirrored, left for right; boxes stay those of the image.
    Fine-tuning makes itself such a store."""
    vector_dtype: Literal["float16", "float32"] = "float16"
    """As which numbers are stored: half the bytes, or all digits."""
    vector_layout: Literal["binary", "list"] = "binary"
    """`binary`: fixed-size binary, read at memory speed; `list`: float16 lists any reader knows."""
    images_per_batch: int = Field(default=1, gt=0)
    """Images of a shard and of equal size that run through the network together: pays on GPUs.
    One after the other; of whole images, which are small, those of eight times as many. Here, not
    in `[extractor]`, because sums may round differently."""
    fc_rows: int = Field(default=2048, gt=0)
    """Windows that go through fc6 and fc7 together, gathered over the images of a shard. Their
    pool5 vectors take memory: 105 MB for 2,048 of 12,800 float32 numbers. On a CPU a window takes
    as long from 1,024 on (1.15 times as long at 256); GPUs want more."""
    shard_bytes: int = Field(default=256_000_000, gt=0)
    """Size that a shard is filled up to, uncompressed."""
    shard_images: int = Field(default=64, gt=0)
    """Most images of a shard, which is the unit of work and of what a failure costs: feature maps
    are so small that bytes alone would put a thousand together, and leave workers idle."""
    row_group_bytes: int = Field(default=32_000_000, gt=0)
    """Of a shard: what a query on an object store reads at a time."""
    max_pixels: int = Field(default=80_000_000, gt=0, le=178_956_970)
    """An image with more is quarantined undecoded; one that would grow beyond it, too. Pillow opens
    none of more than 178,956,970."""

    @field_validator("scales", "levels")
    @classmethod
    def _several_and_positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or len(set(value)) < len(value):
            raise ValueError("give one or more different numbers, each at least 1")
        return value

    @model_validator(mode="after")
    def _maps_are_pooled_only(self) -> "Features":
        if self.store == "maps" and self.layer != "pool5":
            raise ValueError(
                f'features.store = "maps" keeps what is pooled, and {self.layer} would run the fc '
                'layers again at each reading: set layer = "pool5", or store = "windows"'
            )
        unknown = {
            "mirrored": self.mirrored,
            'mode = "warp"': self.mode == "warp",
            'scale_rule = "max"': self.scale_rule == "max",
        }
        for name, chosen in unknown.items():
            if self.store == "maps" and chosen:
                raise ValueError(
                    'features.store = "maps" is pooled whenever it is read, each window at one '
                    f'scale of its image as it is, and knows no {name}: set store = "windows"'
                )
        return self

    @model_validator(mode="after")
    def _whole_images_are_seen_once(self) -> "Features":
        if self.view == "windows":
            return self
        if len(self.scales) > 1:
            raise ValueError(
                f'features.view = "{self.view}" sees an image at one scale, and features.scales '
                f"has {len(self.scales)}: give one"
            )
        refused = {'mode = "warp"': self.mode == "warp", 'store = "maps"': self.store == "maps"}
        for name, chosen in refused.items():
            if chosen:
                raise ValueError(
                    f'features.{name} is for windows, and features.view is "{self.view}": leave '
                    "it out"
                )
        if self.view == "crop" and self.crop_px > min(self.scales):
            raise ValueError(
                f"features.crop_px = {self.crop_px} does not fit images whose shorter side is "
                f"features.scales = {list(self.scales)}: make it smaller, or the scale larger"
            )
        return self

    @property
    def images_in_hand(self) -> int:
        """Of how many images, one after the other, those of equal size are looked for."""
        apart = self.view == "windows" or self.images_per_batch == 1
        return self.images_per_batch * (1 if apart else 8)

    @property
    def made_alone(self) -> bool:
        """Whether what is stored of an image has the same bits whatever else is in its shard.

        Sums over a batch of several images may round differently, and fc layers see rows of
        several.
        """
        return self.mode == "warp" or (self.images_per_batch == 1 and self.layer == "pool5")

    @property
    def fine_tuned(self) -> bool:
        """Whether the layer is one of a fine-tuned network."""
        return self.layer.startswith("ft")

    @property
    def emitted(self) -> "Features":
        """The same as the network is asked for it: `ftfc7` is fc7 of other weights."""
        return self.model_copy(update={"layer": self.layer.removeprefix("ft")})
