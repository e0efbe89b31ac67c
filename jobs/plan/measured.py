"""What a run then took, from the records that its jobs left."""

from collections.abc import Mapping
from typing import Any

from jobs.extractions import makes_store
from jobs.job import Step
from jobs.plan.space import held_bytes

WALLS = (
    "pretrain",
    "finetune",
    "train",
    "mine",
    "regress",
    "detect",
)  # jobs that no probe projects


def read_measured(planned: Mapping[str, Step]) -> dict[str, Any]:
    """Return the figures of the jobs that are done; absent is what nobody knows yet.

    Every job's seconds are by the clock: jobs run side by side, and share the machine.
    """
    records = {name: step.record for name, step in planned.items()}
    done = {name: record for name, record in records.items() if record is not None}
    found: dict[str, Any] = {
        "job_seconds": {name: record["seconds"] for name, record in done.items()}
    }
    bytes_: dict[str, int] = {}
    windows = [name for name in planned if name.startswith("windows_")]
    if done.keys() >= set(windows):
        bytes_["windows"] = held_bytes(planned, windows)
    stores = list(filter(makes_store, planned))
    made = [done[name]["summary"] for name in stores if name in done]
    if len(made) == len(stores):
        for name in ("images", "rows", "shards"):
            found[name] = sum(each[name] for each in made)
        found["taken_over"] = sum(each.get("taken_over", 0) for each in made)
        bytes_["store"] = sum(each["bytes"] for each in made)
        found |= _workers(made)
    if done.keys() >= {"train", "mine"}:
        bytes_["caches"] = held_bytes(planned, ["train", "mine"])
    elif "train" in done and "mine" not in planned:
        bytes_["classifiers"] = held_bytes(planned, ["train"])
    if "detect" in done:
        bytes_["detections"] = held_bytes(planned, ["detect"])
    return found | {"bytes": bytes_}


def _workers(stores: list[dict[str, Any]]) -> dict[str, Any]:
    """The extractors' own figures; of what an earlier run committed there are none."""
    told = [store["worker"] for store in stores if store.get("worker")]
    found = {"peak_bytes": max((each["peak_bytes"] for each in told), default=0)}
    if len(told) == len(stores) and all(each["seconds_per_image"] for each in told):
        images = sum(store["images"] for store in stores)
        spent = [store["worker"]["seconds_per_image"] * store["images"] for store in stores]
        found["extract_s"] = sum(spent) / max(images, 1)
    return {name: value for name, value in found.items() if value}
