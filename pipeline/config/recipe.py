"""A whole recipe: its tables, and what must hold between them."""

from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.config.classification import Classification
from pipeline.config.dataset import Dataset, Role
from pipeline.config.errors import Errors
from pipeline.config.extraction import Extractor, Network, Windows
from pipeline.config.features import Features
from pipeline.config.learning import (
    Detection,
    Evaluation,
    Finetune,
    Mining,
    Regression,
    Svm,
)
from pipeline.config.pretraining import Pretrain
from pipeline.config.section import Section


class Recipe(Section):
    """Everything a run depends on."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    """Names the folder of the run as well: `..` would lead out of it."""
    profile: Literal["paper", "released"] = "paper"
    """`released` sets what the released code does otherwise, where the recipe is silent."""
    seed: int = 0
    """Of every choice at random; another one is another run."""
    task: Literal["detection", "classification"] = "detection"
    """`detection` finds objects in windows (paper §4); `classification` tells what an image as a
    whole shows (paper §3)."""
    dataset: Dataset
    windows: Windows = Windows()
    network: Network = Network()
    pretrain: Pretrain = Pretrain()
    features: Features = Features()
    extractor: Extractor = Extractor()
    finetune: Finetune = Finetune()
    svm: Svm = Svm()
    mining: Mining = Mining()
    regression: Regression = Regression()
    detection: Detection = Detection()
    evaluation: Evaluation = Evaluation()
    classification: Classification = Classification()
    errors: Errors = Errors()

    @model_validator(mode="before")
    @classmethod
    def _whole_images(cls, content: Any) -> Any:
        """Let classification see whole images, where the recipe is silent."""
        if not isinstance(content, dict) or content.get("task") != "classification":
            return content
        usual = {"windows": {"method": "image"}, "features": {"view": "full"}}
        told = {name: content.get(name, {}) for name in usual}
        if not all(isinstance(each, dict) for each in told.values()):
            return content
        return content | {name: usual[name] | told[name] for name in usual}

    @model_validator(mode="before")
    @classmethod
    def _crowds_teach_nothing(cls, content: Any) -> Any:
        """Let COCO's crowds, boxes around many objects, be no positives where nothing is said."""
        if not isinstance(content, dict):
            return content
        dataset, svm = content.get("dataset"), content.get("svm", {})
        if not isinstance(dataset, dict) or dataset.get("kind") != "coco" or type(svm) is not dict:
            return content
        return content | {"svm": {"difficult_positives": False} | svm}

    @model_validator(mode="after")
    def _the_task_has_what_it_needs(self) -> "Recipe":
        kinds = (self.windows.method == "image", self.features.view != "windows")
        if set(kinds) != {self.task == "classification"}:
            raise ValueError(
                f'task is "{self.task}", windows.method "{self.windows.method}" and features.view '
                f'"{self.features.view}": classification has "image", and "full" or "crop"; '
                "detection neither"
            )
        if self.task == "detection" and not self.dataset.has_boxes:
            raise ValueError(
                f'dataset.kind = "{self.dataset.kind}" says what an image shows and not where: '
                'set task = "classification"'
            )
        if self.task == "classification" and (self.features.fine_tuned or self.regression.enabled):
            raise ValueError(
                "features.layer ftfc6 and ftfc7, and regression, learn from windows, and "
                "classification has none: leave them out"
            )
        return self

    @property
    def roles(self) -> tuple[Role, ...]:
        """Which image sets the run has: with random splits, no test set."""
        alone = self.task == "classification" and self.classification.random_splits > 0
        return ("train",) if alone else ("train", "test")

    @model_validator(mode="after")
    def _ranks_have_an_effect(self) -> "Recipe":
        through = {"pool5": (), "fc6": ("fc6_rank",), "fc7": ("fc6_rank", "fc7_rank")}
        for name in ("fc6_rank", "fc7_rank"):
            held = through[self.features.emitted.layer]
            if getattr(self.network, name) is not None and name not in held:
                raise ValueError(
                    f"network.{name} has no effect on features.layer = "
                    f"{self.features.layer!r}: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _a_front_has_no_fc_layers(self) -> "Recipe":
        if self.network.upto is not None and self.features.layer != "pool5":
            raise ValueError(
                f"network.upto ends the network at {self.network.upto}, before its fc layers, and "
                f'features.layer is "{self.features.layer}": set it to "pool5", or leave upto out'
            )
        return self

    @model_validator(mode="after")
    def _pretraining_has_a_network(self) -> "Recipe":
        if self.network.weights != "pretrain":
            return self
        if self.dataset.kind == "digits" and self.network.name != "zf5":
            raise ValueError(
                f'network.weights = "pretrain" trains zf5 on digits, and not {self.network.name}: '
                "name a weights file, or train on images of your own"
            )
        if self.dataset.kind == "digits" and self.pretrain.workers > 1:
            raise ValueError(
                f"pretrain.workers = {self.pretrain.workers} is for image files, and digits are "
                "trained on by one process: leave it out"
            )
        if self.network.name in ("transformers", "timm"):
            raise ValueError(
                f'network.weights = "pretrain" trains our own networks, and {self.network.name} '
                "is what a folder of weights says: name the folder"
            )
        return self
