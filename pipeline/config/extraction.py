"""Windows, networks and workers: what a recipe may say, each field with its unit and source."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.section import Section


class Windows(Section):
    """Where candidate windows come from."""

    method: Literal["selective_search", "grid", "file", "image"] = "selective_search"
    """`image`: one, which is the whole image; what classification has where nothing is said."""
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
    """`zf5`, `plain_zf5`, `vgg16`, `squeezenet1_1`, `resnet18`, `resnet50`; `transformers` or
    `timm`, which take any of theirs; or one that an installed package brings."""
    weights: Literal["random", "pretrain"] | Path = "random"
    """A weights file (`.safetensors`, or `.pth` read with `weights_only`), or `random`: seeded
    and untrained; or `pretrain`: trained by this run, see `[pretrain]`. Of `transformers` and
    `timm` a local folder with `config.json` and `model.safetensors`; nothing is downloaded."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Of the weights file, as `sha256sum` prints it: others are refused before anything runs. Of
    a folder that of its files' lines: `sha256sum config.json preprocessor_config.json
    model.safetensors | sha256sum`, of these files those that are there, in this order."""
    preprocessing: str | None = None
    """A named preset for weights that do not record their own."""
    upto: str | None = None
    """The last layer that is used, such as `conv4`; none: all. With `features.view = "crop"` and a
    pyramid of as many bins as the map has cells, a vector is that layer's map itself (paper, Tables
    3 and 4); then there are no fc layers."""
    stage: int | None = Field(default=None, ge=0)
    """Which map of a `transformers` or `timm` network is pooled, from 0 in the order in which the
    library lists them; none: the last whose stride is at most 16 px, the paper's, or the last of
    all. Others have one map."""
    width: float | None = Field(default=None, gt=0)
    """Multiplies the channels of `zf5`; none: what the weights record, else 1."""
    fc_units: int | None = Field(default=None, gt=0)
    """Units of fc6 and fc7 (paper: 4,096). A network without them gets untrained ones for
    fine-tuning: 4,096 where nothing is said."""
    image_px: int | None = Field(default=None, gt=0)
    """Side of the images of `plain_zf5`, the network without a pyramid; none: what the weights
    record, else 224."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's weights and all that it computes. `bfloat16` is 2 to 5.5 times as fast on
    CPUs with AVX512-BF16 or AMX, and slower on CPUs without; on GPUs it was not measured."""
    fc6_rank: int | None = Field(default=None, gt=0)
    """Singular values of fc6 that are kept, for speed (Fast R-CNN, §3.1); none: all."""
    fc7_rank: int | None = Field(default=None, gt=0)
    """Likewise of fc7."""

    @model_validator(mode="after")
    def _only_files_have_digests(self) -> "Network":
        if self.sha256 is not None and not isinstance(self.weights, Path):
            raise ValueError(
                f'network.sha256 is of a weights file, and network.weights = "{self.weights}": '
                "give the file, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _only_the_plain_network_has_one_size(self) -> "Network":
        if self.image_px is not None and self.name != "plain_zf5":
            raise ValueError(
                f"network.image_px is the one size that plain_zf5 takes, and {self.name} takes "
                "any: leave it out"
            )
        return self


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
