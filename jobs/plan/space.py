"""What every stage leaves on the disk, and whether that fits."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.extractions import extractions
from jobs.job import State, Step
from jobs.memory import gigabytes
from jobs.plan.stores import ImageSet, StorePlan
from pipeline.config import Recipe
from pipeline.datasets.catalogue import class_names
from pipeline.errors import RecipeError
from pipeline.extraction import vector_spec
from pipeline.networks import Network
from pipeline.store.plan import SCALARS_BYTES

WINDOW_BYTES = 24  # corners, an id and a word; whole pixels pack to 7 (the digits' windows)
DETECTION_BYTES = 32  # corners, a score and two words
WEIGHT_BYTES = 4  # float32
MEMBER_BYTES = 16  # a cached row's place and counts, before its two bits a class


@dataclass(frozen=True)
class Taken:
    """Bytes of one stage."""

    stage: str
    jobs: tuple[str, ...]
    """Whose folders it lies in."""
    most: int
    least: int = 0
    """What it takes in any case; 0 where nobody can know."""


def project_stages(
    recipe: Recipe,
    network: Network,
    sets: Sequence[ImageSet],
    stores: Sequence[StorePlan],
) -> list[Taken]:
    """Return the bytes of every stage. What is not counted yet is the most there can be."""
    kind = recipe.features.store
    windows = sum(each.windows for each in sets)
    counted = all(each.counted for each in sets)
    held = sum(getattr(each.bytes, kind) for each in stores)
    # Maps pack, nobody knows to how little; vectors are stored as they are.
    sure = held if kind == "windows" else windows * SCALARS_BYTES // 2
    first = [
        Taken("windows", _of_each_set(recipe, "windows"), windows * WINDOW_BYTES),
        Taken("store", extracting(recipe), held, sure if counted else 0),
    ]
    if recipe.task == "classification":
        return [*first, *_classification(recipe, network, sets)]
    if not recipe.dataset.has_labels:
        return first
    return [
        *first,
        *_fine_tuning(recipe, network),
        Taken("caches", ("train", "mine"), cache_bytes(recipe, network, sets[0])),
        Taken("detections", ("detect",), _detections(recipe, sets[1])),
    ]


def _fine_tuning(recipe: Recipe, network: Network) -> list[Taken]:
    """Weights and momentum after the best, the last and the next part; and the network."""
    if not recipe.features.fine_tuned or network.head is None:
        return []
    states = 3 * 2 * sum(each.numel() for each in network.head.parameters())
    whole = sum(each.numel() for each in network.state_dict().values())
    return [Taken("fine-tuning", ("finetune",), WEIGHT_BYTES * (states + whole))]


def cache_bytes(recipe: Recipe, network: Network, images: ImageSet) -> int:
    """Return the most that mining's caches can take: each vector is cached once at most.

    Objects and the sample of negatives, then for each round and class `mining.max_per_image` of
    every image; and who learns from what, again in every round.
    """
    classes, mining = len(class_names(recipe.dataset)), recipe.mining
    rounds = mining.max_rounds if mining.rounds == "converged" else mining.rounds
    found = rounds * classes * mining.max_per_image * len(images.images)
    sampled = images.objects + recipe.svm.negatives * len(images.images)
    rows = min(images.windows, sampled + found)
    member = MEMBER_BYTES + 2 * -(-classes // 8)
    return rows * (vector_spec(network, recipe.features.emitted).row_bytes + (rounds + 1) * member)


def _detections(recipe: Recipe, images: ImageSet) -> int:
    classes, most = len(class_names(recipe.dataset)), recipe.detection.per_class
    kept = np.minimum(images.images["windows"].to_numpy(), most)
    return int(kept.sum()) * classes * DETECTION_BYTES


def extracting(recipe: Recipe) -> tuple[str, ...]:
    """Return the jobs that make the recipe's stores."""
    return tuple(each.job for each in extractions(recipe))


def _classification(recipe: Recipe, network: Network, sets: Sequence[ImageSet]) -> list[Taken]:
    """Weights of each class; and of each image that is asked for its scores."""
    classes, own = len(class_names(recipe.dataset)), recipe.classification
    length = vector_spec(network, recipe.features.emitted).length
    asked = len(sets[-1].images)
    if own.random_splits:
        most = asked if own.test_per_class is None else classes * own.test_per_class
        asked = own.random_splits * min(asked, most)
    return [
        Taken("classifiers", ("train",), classes * (length + 1) * WEIGHT_BYTES),
        Taken("scores", ("evaluate",), asked * (classes * WEIGHT_BYTES + DETECTION_BYTES)),
    ]


def _of_each_set(recipe: Recipe, job: str) -> tuple[str, ...]:
    return tuple(f"{job}_{role}" for role in recipe.roles)


def held_bytes(planned: Mapping[str, Step], jobs: Sequence[str], stores: str | None = None) -> int:
    """Return what lies in the folders of some jobs and their stores, half-done ones included."""
    folders = [planned[job].folder for job in jobs]
    if stores is not None and is_local(stores):
        folders += [Path(stores) / folder.name for folder in folders]
    files = (file for folder in folders for file in folder.rglob("*"))
    return sum(file.stat().st_size for file in files if file.is_file())


def _goes_to(stage: Taken, runs: Path, stores: str | None) -> Path | None:
    if stores is None or stage.stage != "store":
        return runs
    return Path(stores).resolve() if is_local(stores) else None


def is_local(stores: str) -> bool:
    """Return whether stores lie in a folder; nobody knows how much an object store takes."""
    return "://" not in stores


def free_bytes(folder: Path) -> int:
    """Return what is free where a folder lies, or will lie."""
    return shutil.disk_usage(_existing(folder)).free


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def check_space(
    stages: Sequence[Taken], planned: Mapping[str, Step], runs: Path, stores: str | None = None
) -> str | None:
    """Hold what is still to be written against what is free; return a warning where it may fail.

    Args:
        stages: of the run.
        planned: its jobs: what is done, and what half-done ones left, is not written again.
        runs: folder that the stages are written to.
        stores: folder or URI that stores go to instead; how much fits behind a URI is not known.

    Raises:
        RecipeError: it cannot fit, whatever happens: naming both numbers and the way out.
    """
    least, most = Counter[int](), Counter[int]()  # by disk
    folders: dict[int, Path] = {}
    for stage in stages:
        folder = _goes_to(stage, runs, stores)
        done = all(planned[job].state is State.done for job in stage.jobs)
        if done or folder is None:
            continue
        disk = _existing(folder).stat().st_dev
        folders.setdefault(disk, folder)
        there = held_bytes(planned, stage.jobs, stores)
        least[disk] += max(0, stage.least - there)
        most[disk] += max(0, stage.most - there)
    warning = None
    for disk, folder in folders.items():
        free = free_bytes(folder)
        where = f"{gigabytes(free)} are free in {folder}"
        if least[disk] > free:
            raise RecipeError(
                f"projected {gigabytes(least[disk])} of files, and {where}: choose another disk "
                'with --runs or --stores, or set features.store = "maps", fewer features.levels '
                "or windows.max_windows"
            )
        if most[disk] > free:
            warning = f"up to {gigabytes(most[disk])} of files may be written, and {where}"
    return warning
