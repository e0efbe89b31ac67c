"""The measured probe: a few images of the recipe through workers in processes of their own."""

import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa

from actors.extractor import SHARDS_IN_HAND
from jobs.job import State, Step
from jobs.memory import workers_here
from jobs.network import network_spec
from jobs.plan.hours import Rates
from pipeline import index
from pipeline.config import Recipe
from pipeline.datasets.records import ImageRecord
from pipeline.errors import SppError
from pipeline.extraction.memory import Largest
from pipeline.extraction.probe import ProbeSpec, probe, summarise

IMAGES = 13  # a worker: one to warm up, and three shards of four
LIMIT_S = 8.0  # for windows and for features each, so that all of it stays below half a minute
SIDE_BY_SIDE = 8  # workers; more would tell little that these do not


def run_probe(
    recipe: Recipe,
    planned: Mapping[str, Step],
    largest: Largest | None,
    runs: Path,
    images: int = IMAGES,
) -> dict[str, Any]:
    """Measure as many workers side by side as a run on this machine would have.

    Weights that the run is still to train, or to fine-tune, are taken as they are or at random:
    they take as long.

    Args:
        recipe: whose windows and features are made.
        planned: its jobs; the datasets must be done.
        largest: names the image that is in every worker's sample.
        runs: where the scratch folder goes, for it is this disk that will be written to.
        images: that each worker gets.

    Raises:
        SppError: a worker died, or could read none of the images.
    """
    if largest is None:
        return {}
    tables = [index.read_tables(planned[f"dataset_{role}"].folder) for role in recipe.roles]
    sets = [index.Records(*each) for each in tables]
    image_ids = pa.concat_tables(images.select(["image_id"]) for images, _ in tables)["image_id"]
    workers = min(workers_here(recipe.extractor), SIDE_BY_SIDE, max(1, len(image_ids.unique()) - 1))
    places = sample(image_ids, largest.image_id, workers, images, recipe.seed)
    samples = [[_at(sets, place) for place in each] for each in places]
    runs.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix="probe-", dir=runs))
    try:
        specs = [_spec(recipe, planned, each, scratch / f"{k}") for k, each in enumerate(samples)]
        # Not forked: memory counts from nothing, and torch's threads do not survive a fork.
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            return _checked(summarise(list(pool.map(probe, specs))))
    except BrokenProcessPool as error:
        raise SppError(
            f"a worker of the probe died, perhaps for want of memory: {workers} ran side by side; "
            "set a lower extractor.max_actors, or plan without --probe"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sample(
    image_ids: pa.ChunkedArray, largest: str, workers: int, images: int, seed: int
) -> list[list[int]]:
    """Return the places of each worker's images: the largest, and a part of a seeded sample."""
    chosen = {largest: image_ids.index(largest).as_py()}
    for place in np.random.default_rng(seed).permutation(len(image_ids)):
        if len(chosen) > workers * (images - 1):
            break
        chosen.setdefault(image_ids[place].as_py(), int(place))  # an image may be in both sets
    first, *others = chosen.values()
    return [[first, *others[number::workers]] for number in range(workers)]


def rates(probed: Mapping[str, Any]) -> Rates:
    """Return what a probe tells of one worker."""
    low, high = probed["extract_range_s"]
    source = (
        f"probed here: {probed['images']} images on {probed['workers']} workers side by side, "
        f"{low:.3g} to {high:.3g} s each"
    )
    return Rates(probed["extract_s"], probed["windows_s"], probed["startup_s"], source)


def _checked(found: dict[str, Any]) -> dict[str, Any]:
    if not found["images"]:
        image_id, reason = next(iter(found["quarantined"].items()))
        raise SppError(f"the probe could read none of its images; image {image_id}: {reason}")
    return found


def _at(sets: Sequence[index.Records], place: int) -> ImageRecord:
    """Return the record at a place of all sets, one after the other."""
    for records in sets:
        if place < len(records):
            return records[place]
        place -= len(records)
    raise IndexError(place)


def _spec(
    recipe: Recipe, planned: Mapping[str, Step], records: list[ImageRecord], folder: Path
) -> ProbeSpec:
    trained = planned.get("pretrain")
    done = trained is not None and trained.state is State.done
    return ProbeSpec(
        tuple(records),
        recipe.windows,
        recipe.features.emitted,
        network_spec(recipe, trained.folder if done and trained is not None else None),
        recipe.seed,
        folder,
        time.time(),
        LIMIT_S,
        recipe.extractor.decode_threads,
        SHARDS_IN_HAND,
    )
