"""All that is projected from the recipe and the datasets' tables alone: whole numbers, no clock."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import pyarrow as pa

from jobs import memory
from jobs.extractions import extractions
from jobs.job import Step
from jobs.network import outline
from jobs.plan.hours import Work
from jobs.plan.space import Taken, project_stages
from jobs.plan.stores import StorePlan, count_taken_over, plan_store, read_sets
from jobs.windows import chunk_images
from pipeline.config import Recipe
from pipeline.extraction.memory import MemoryPlan


@dataclass(frozen=True)
class Projection:
    """What a recipe will take, but for time."""

    kind: str
    """Of store: `windows` or `maps`."""
    stores: list[StorePlan]
    stages: list[Taken]
    worker: MemoryPlan

    @property
    def work(self) -> Work:
        """What there is to do, for hours."""
        return Work(
            sum(each.images for each in self.stores),
            sum(each.shards for each in self.stores),
            sum(ceil(each.images / chunk_images(each.images)) for each in self.stores),
            sum(getattr(each.bytes, self.kind) for each in self.stores),
            sum(each.taken_over for each in self.stores),
        )

    def for_programs(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "images": self.work.images,
            "windows": sum(each.windows for each in self.stores),
            "windows_are": "counted" if all(each.counted for each in self.stores) else "at most",
            "shards": self.work.shards,
            "taken_over": self.work.taken_over,
            "bytes": {each.stage: each.most for each in self.stages},
            "memory": {
                "bytes": self.worker.bytes,
                "parts": self.worker.parts,
                "largest": None if self.worker.largest is None else asdict(self.worker.largest),
            },
        }


def project(recipe: Recipe, planned: Mapping[str, Step]) -> Projection:
    """Return what a recipe will take. Its datasets must be done."""
    network, sets = outline(recipe), read_sets(recipe, planned)
    by_role = {each.role: each for each in sets}
    stores = list[StorePlan]()
    for each in extractions(recipe):
        images = by_role[each.role]
        known = count_taken_over(each.recipe, images, planned[each.job])
        stores.append(plan_store(each.recipe, outline(each.recipe), images, known))
    worker = memory.project(recipe, network, pa.concat_tables(each.images for each in sets))
    stages = project_stages(recipe, network, sets, stores)
    return Projection(recipe.features.store, stores, stages, worker)
