"""The stores that a run makes, and the jobs that make them.

| job | holds |
|---|---|
| extract_train, extract_test | what classifiers read |
| pool5_train, pool5_test | pool5 of the same windows, where classifiers read another layer |
| mirrored_train | pool5 of the mirrored training images |

Box regression reads pool5 of both image sets (SPEC §8), fine-tuning that of the training images as
they are and mirrored (SPEC §9). A recipe whose layer is pool5 has the store of the second kind
already; and its store is that one, if the rest of the recipe agrees.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jobs import extract
from jobs.context import Context
from jobs.network import has_fc
from pipeline.config import Recipe
from pipeline.config.dataset import Role


@dataclass(frozen=True)
class Extraction:
    """One store: of a kind, and of an image set."""

    kind: str
    role: Role
    recipe: Recipe
    """What it is made by: the run's, but for what the kind changes."""

    @property
    def job(self) -> str:
        """The job that makes it."""
        return f"{self.kind}_{self.role}"


def run(kind: str, role: Role, context: Context) -> dict[str, Any]:
    """Write a store, as `extract` does."""
    return extract.run(role, replace(context, recipe=_KINDS[kind](context.recipe)))


def reads(kind: str, recipe: Recipe) -> Any:
    """Return what an extraction of the kind reads."""
    return extract.reads(_KINDS[kind](recipe))


def extractions(recipe: Recipe) -> list[Extraction]:
    """Return the stores of a run."""
    roles = list(recipe.roles)
    kinds = ["extract"] * len(roles)
    features, regresses = recipe.features, recipe.regression.enabled
    if features.layer != "pool5" and (regresses or features.fine_tuned):
        kinds.append("pool5")
        roles.append("train")
        if regresses:
            kinds.append("pool5")
            roles.append("test")
    if features.fine_tuned and recipe.finetune.mirrored:
        kinds.append("mirrored")
        roles.append("train")
    return [
        Extraction(kind, role, _KINDS[kind](recipe))
        for kind, role in zip(kinds, roles, strict=True)
    ]


def makes_store(job: str) -> bool:
    """Return whether a job of this name makes a store."""
    return job.rpartition("_")[0] in _KINDS


def pool5(recipe: Recipe, role: Role) -> str:
    """Return the job that makes a run's store of pool5."""
    return f"extract_{role}" if recipe.features.layer == "pool5" else f"pool5_{role}"


def _itself(recipe: Recipe) -> Recipe:
    """Return the recipe, without fc layers where they have no part: so it shares its store."""
    return _pool5(recipe) if recipe.features.layer == "pool5" else recipe


def _pool5(recipe: Recipe) -> Recipe:
    """Return the recipe for pool5: fc layers have no part in it."""
    features = recipe.features.model_copy(update={"layer": "pool5"})
    without: dict[str, Any] = {"fc6_rank": None, "fc7_rank": None}
    if not has_fc(recipe):  # those are for fine-tuning alone
        without["fc_units"] = None
    network = recipe.network.model_copy(update=without)
    return recipe.model_copy(update={"features": features, "network": network})


def _mirrored(recipe: Recipe) -> Recipe:
    plain = _pool5(recipe)
    features = plain.features.model_copy(update={"mirrored": not plain.features.mirrored})
    return plain.model_copy(update={"features": features})


_KINDS: dict[str, Callable[[Recipe], Recipe]] = {
    "extract": _itself,
    "pool5": _pool5,
    "mirrored": _mirrored,
}
