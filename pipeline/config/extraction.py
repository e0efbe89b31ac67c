"""From images to stored features: what a recipe may say, each field with its unit and source."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Section


class Dataset(Section):
    """The images and their labels."""

    kind: Literal["voc", "digits"] = "voc"
    """`voc`: a folder in the layout of the PASCAL VOC devkit; `digits`: made on the spot."""
    root: Path | None = None
    """The `VOC2007` folder. Relative to `--data`. Not used by `digits`."""
    train: str = "trainval"
    """Name of the image set that classifiers learn from."""
    test: str = "test"
    classes: tuple[str, ...] | None = None
    """Default: the twenty of VOC, or the ten digits."""
    skip_invalid: bool = False
    """Leave out invalid objects, counted and listed, instead of stopping at the first (SPEC §1)."""
    train_images: int = Field(default=160, gt=0)
    """Scenes made for `digits`."""
    test_images: int = Field(default=100, gt=0)

    @field_validator("classes")
    @classmethod
    def _different_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("give one or more different names")
        return value

    @model_validator(mode="after")
    def _root_is_given(self) -> "Dataset":
        if self.kind == "voc" and self.root is None:
            raise ValueError('dataset.root is missing: give the folder that holds "ImageSets"')
        return self


class Windows(Section):
    """Where candidate windows come from."""

    method: Literal["selective_search", "grid", "file"] = "selective_search"
    path: Path | None = None
    """For `file`: a Parquet table, or a `.mat` file in the R-CNN layout."""
    mat_layout: Literal["rcnn", "fast_rcnn"] = "rcnn"
    """`rcnn`: 1-based `y1 x1 y2 x2`; `fast_rcnn`: 0-based inclusive `x1 y1 x2 y2`."""
    max_windows: int = Field(default=2000, gt=0)
    """Per image (paper §4.1: about 2,000)."""
    min_side_px: int = Field(default=20, gt=0)
    """Smaller windows are dropped, as R-CNN's selective search does."""
    working_side_px: int | None = Field(default=None, gt=0)
    """Shorter side at which selective search segments; none: the image's own."""
    base_k: int = Field(default=150, gt=0)
    """Granularity of selective search: smaller gives more and smaller regions."""

    @model_validator(mode="after")
    def _path_is_given(self) -> "Windows":
        if (self.method == "file") != (self.path is not None):
            raise ValueError('windows.path belongs to windows.method = "file", and is needed there')
        return self


class Network(Section):
    """The conv network and the weights in it."""

    name: str = "zf5"
    weights: Literal["random", "pretrain"] | Path = "random"
    """A weights file (`.safetensors`, or `.pth` read with `weights_only`), or `random`: seeded
    and untrained; or `pretrain`: trained by this run, see `[pretrain]`."""
    preprocessing: str | None = None
    """A named preset for weights that do not record their own."""
    width: float | None = Field(default=None, gt=0)
    """Multiplies the channels of `zf5`; none: what the weights record, else 1."""
    fc_units: int | None = Field(default=None, gt=0)
    """Units of fc6 and fc7 (paper: 4,096). A network without them gets untrained ones for
    fine-tuning: 4,096 where nothing is said."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's weights and all that it computes. `bfloat16` is 2 to 5.5 times as fast on
    CPUs with AVX512-BF16 or AMX, and slower on CPUs without; on GPUs it was not measured."""
    fc6_rank: int | None = Field(default=None, gt=0)
    """Singular values of fc6 that are kept, for speed (Fast R-CNN, §3.1); none: all."""
    fc7_rank: int | None = Field(default=None, gt=0)
    """Likewise of fc7."""


class Features(Section):
    """What is computed for a window, and how it is written."""

    mode: Literal["pyramid", "warp"] = "pyramid"
    """`pyramid`: the conv net sees each image once a scale, and windows are pooled from its maps;
    `warp`: R-CNN's way, the baseline of the paper's Table 6: it sees each window by itself, warped
    to 227×227 pixels with 16 of surroundings (SPEC §10). Scales then have no part."""
    scales: tuple[int, ...] = (688,)
    """Shorter sides in pixels (paper §4.1)."""
    scale_rule: Literal["area", "released", "max"] = "area"
    """With several scales: `area`, `released`: each window is pooled at one of them, see SPEC §3;
    `max`: at all, and of each number the largest is kept, which the paper tried first (§4.1)."""
    reference_side_px: int = Field(default=224, gt=0)
    """With several scales, a window is pooled where its area is nearest to this squared: the size
    of the images that the network was trained on (paper §4.1)."""
    max_side_px: int | None = Field(default=None, gt=0)
    """Upper clamp of the longer side; none in the paper."""
    levels: tuple[int, ...] = (6, 3, 2, 1)
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
    vector_layout: Literal["binary", "list"] = "binary"
    """`binary`: fixed-size binary, read at memory speed; `list`: float16 lists any reader knows."""
    images_per_batch: int = Field(default=1, gt=0)
    """Images of a shard, one after the other and of equal size, that run through the network
    together: pays on GPUs. Here, not in `[extractor]`, because sums may round differently."""
    fc_rows: int = Field(default=2048, gt=0)
    """Windows that go through fc6 and fc7 together, gathered over the images of a shard. Their
    pool5 vectors take memory: 105 MB for 2,048 of 12,800 float32 numbers. On a CPU a window takes
    as long from 1,024 on (1.15 times as long at 256); GPUs want more."""
    shard_bytes: int = Field(default=256_000_000, gt=0)
    shard_images: int = Field(default=64, gt=0)
    """Most images of a shard, which is the unit of work and of what a failure costs: feature maps
    are so small that bytes alone would put a thousand together, and leave workers idle."""
    row_group_bytes: int = Field(default=32_000_000, gt=0)
    max_pixels: int = Field(default=80_000_000, gt=0)
    """An image with more is quarantined undecoded; one that would grow beyond it, too."""

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

    @property
    def fine_tuned(self) -> bool:
        """Whether the layer is one of a fine-tuned network."""
        return self.layer.startswith("ft")

    @property
    def emitted(self) -> "Features":
        """The same as the network is asked for it: `ftfc7` is fc7 of other weights."""
        return self.model_copy(update={"layer": self.layer.removeprefix("ft")})


class Extractor(Section):
    """How many workers hold the network, and what each takes. Changes speed, never results."""

    min_actors: int = Field(default=1, gt=0)
    """How many are asked for, whether there is room or not: work begins with the first that is
    up."""
    max_actors: int | None = Field(default=None, gt=0)
    """None: as many as the cluster has room for, also when machines join later. Never more than
    there are shards left. Where an autoscaler looks after the cluster, a few more than have room
    are asked for, up to this, and it brings machines for them."""
    cpus: int = Field(default=1, gt=0)
    """CPUs that each actor reserves. The network runs on one thread in any case: many one-thread
    actors beat one of many threads, and sums do not round differently on another machine."""
    decode_threads: int | None = Field(default=None, gt=0)
    """Threads of each actor that read, decode and resize its images; none: 1, or 4 beside a
    GPU, which would wait for a single one."""
    decode: Literal["actor", "cluster"] = "actor"
    """Where images are read, decoded and resized: in the actor, or by tasks on any CPU of the
    cluster, which pays on machines with more GPU than CPU: pixels cross the network instead. A CPU
    is left free for each actor beside `cpus`; while others hold all CPUs, actors decode."""
    memory_bytes: int | None = Field(default=None, gt=0)
    """Memory that each actor reserves and may use; a recipe whose projection is above is refused
    before anything runs. None: an actor's share of its machine, and nothing is reserved."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs that each actor reserves; none: 1 where the cluster has GPUs when the run begins, else
    0. Give it where an autoscaler brings the machines with GPUs."""
    retries: int = Field(default=2, ge=0)
    """Times a shard is tried again, on another worker if there is one, after it failed or its
    worker died of it alone. A worker has two in hand: when it dies, that counts against neither of
    them, and both are tried again by themselves.
    What is wrong with the input fails everywhere, and is not tried again."""

    @model_validator(mode="after")
    def _least_is_least(self) -> "Extractor":
        if self.max_actors is not None and self.max_actors < self.min_actors:
            raise ValueError(
                f"extractor.max_actors = {self.max_actors} is less than extractor.min_actors = "
                f"{self.min_actors}"
            )
        return self
