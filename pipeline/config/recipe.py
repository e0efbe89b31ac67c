"""A whole recipe: its tables, and what must hold between them."""

from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.extraction import Dataset, Extractor, Features, Network, Windows
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
    def _pretraining_has_crops(self) -> "Recipe":
        made = (self.dataset.kind, self.network.name)
        if self.network.weights == "pretrain" and made != ("digits", "zf5"):
            raise ValueError(
                'network.weights = "pretrain" trains zf5 on crops of dataset.kind = "digits" and '
                f"nothing else; here they are {made[1]} and {made[0]}: name a weights file"
            )
        return self
