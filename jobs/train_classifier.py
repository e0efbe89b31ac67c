"""`spp train-classifier FOLDER`: from a folder of labelled images to a model, in one go."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import steps
from jobs.model import make
from jobs.options import AddressOption, RunsOption, SerialOption
from pipeline import networks
from pipeline.config import Recipe, parse
from pipeline.datasets.folders import ITSELF, class_folders
from pipeline.errors import InputError

TEST_SETS = ("test", "val", "validation")
SPLITS, SHARE = 5, 0.8  # random parts that judge a folder without a set of its own for that


def train_classifier(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="A folder for each class; or train and test, or val, with such folders in each.",
        ),
    ],
    weights: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Of a network trained on many images, such as torchvision's of SqueezeNet 1.1, "
            "ResNet-18, ResNet-50 or VGG-16: .safetensors, or .pth; or a folder of transformers'.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the model goes [RUNS/NAME/model].")
    ] = None,
    side: Annotated[
        int, typer.Option(min=32, help="Shorter side of the images as the network sees them, px.")
    ] = 224,
    c: Annotated[float, typer.Option("--c", help="Cost of a unit of hinge loss.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Of random splits.")] = 0,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Also links that lead out of the folder.")
    ] = False,
    runs: RunsOption = Path("runs"),
    serial: SerialOption = False,
    address: AddressOption = None,
) -> None:
    """Learn what whole images show.

    From a folder of images for each class: trains, judges, and makes a model of it. Without a set
    to be judged by, the images are divided at random five times: four fifths of each class to learn
    from, the rest to be judged by. The model learns from all.

    Examples:
        spp train-classifier photos/ --weights squeezenet1_1.pth --out zoo
    """
    recipe = recipe_of(folder, weights, side, c, seed, follow_links)
    place = out or runs / recipe.name / "model"
    raise typer.Exit(make(recipe, place, runs, serial, address, also=steps.TARGETS["run"]))


def recipe_of(
    folder: Path, weights: Path, side: int, c: float, seed: int, follow_links: bool = False
) -> Recipe:
    """Return the recipe of a folder of images.

    Raises:
        InputError: there is no such folder, it has no class folders, or the weights are of no known
            network.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give one that has a folder for each class")
    root = folder.resolve()
    # A folder of that name with images in it is a class: VOC has trains.
    sets = {name for name in ("train", *TEST_SETS) if _has_folders(root / name)}
    train = "train" if "train" in sets else ITSELF
    test = next((name for name in TEST_SETS if name in sets), None)
    judged: dict[str, Any] = {"C": c}
    if train == ITSELF or test is None:
        judged |= {"random_splits": SPLITS, "train_per_class": SHARE, "test_per_class": None}
    class_folders(root, train)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", root.name).lstrip(".-") or "images"
    return parse(
        {
            "name": name,
            "task": "classification",
            "seed": seed,
            "dataset": {
                "kind": "folders",
                "root": root,
                "train": train,
                "test": test or train,
                "follow_links": follow_links,
            },
            "network": {
                "name": networks.recognise(weights),
                "weights": weights.resolve(),
            },
            "features": {"scales": [side], "levels": [3, 2, 1]},
            "classification": judged,
        },
        f"the recipe of {folder}",
    )


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_dir() for path in folder.iterdir())
