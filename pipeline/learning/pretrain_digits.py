"""The embedded network: a narrow ZF-5 trained from nothing on crops of handwritten digits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import config, networks
from pipeline.datasets.digits_crops import pretraining_crops
from pipeline.errors import RecipeError
from pipeline.learning.pretrain import accuracy, pretrain
from pipeline.store.files import write_json, written_aside

HELD_OUT = 1000  # crops that measure, and never train
CLASSES = 11  # ten digits and background
# Settings that concern crops in memory; the others are of image files.
_USED = {"sides_px", "mix", "epochs", "batch_size", "learning_rate", "momentum", "weight_decay"}
_USED |= {"dropout", "scaffold", "precision", "threads"}


@dataclass(frozen=True)
class PretrainSpec:
    """Everything that decides the weights."""

    network: config.Network
    levels: tuple[int, ...]
    pretrain: config.Pretrain
    seed: int


@dataclass(frozen=True)
class PretrainStats:
    """What training reached."""

    accuracy: float
    """On crops it has not seen."""
    losses: list[float]


def pretrain_digits(
    spec: PretrainSpec, destination: Path, told: Path | None = None
) -> PretrainStats:
    """Train the recipe's network on crops of the pre-training pool and save its weights.

    Args:
        spec: what decides them.
        destination: file of the weights.
        told: folder that gets a file after each epoch, for who looks on.

    Raises:
        RecipeError: the settings say what digits have not.
        InputError: the loss is no longer finite.
    """
    settings = spec.pretrain
    for old in () if told is None else told.glob("*.json"):  # of a try that died
        old.unlink(missing_ok=True)
    if settings.schedule != "one_cycle":
        raise RecipeError(
            f"pretrain.schedule = {settings.schedule!r} is for image files; crops of digits, which "
            'are measured once at the end, have "one_cycle": leave it out'
        )
    total, seed = settings.crops + HELD_OUT, spec.seed + settings.seed
    crops, labels = pretraining_crops(spec.seed, total, max(settings.sides_px))
    network = networks.load(
        spec.network.name,
        seed=seed,
        classes=CLASSES,
        levels=spec.levels,
        **network_options(spec.network),
    )
    report = pretrain(
        network,
        crops[HELD_OUT:],
        labels[HELD_OUT:],
        seed=seed,
        progress=None if told is None else lambda epoch, loss: _tell(told, epoch, loss),
        **settings.model_dump(include=_USED),
    )
    measured = accuracy(network, crops[:HELD_OUT], labels[:HELD_OUT])
    with written_aside(destination) as aside:
        networks.save(network, aside)
    return PretrainStats(measured, list(report.losses))


def _tell(told: Path, epoch: int, loss: float) -> None:
    write_json(told / f"{epoch:06d}.json", {"loss": loss})


def network_options(settings: config.Network) -> dict[str, Any]:
    """Return the architecture's options that the recipe sets."""
    names = ("width", "fc_units", "stage", "image_px")
    options = {name: getattr(settings, name) for name in names}
    return {name: value for name, value in options.items() if value is not None}
