"""What goes wrong, drawn from a seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

SHARDS = 6  # of the training images; 4 of the test images

# What may go wrong at each step, on some kind of place. A kill goes before or after it.
WAYS = {
    "claim": ["kill", "eio", "enospc", "power_loss"],
    "write_labels": ["kill", "eio", "fail_rename", "power_loss"],
    "write_rows": ["kill", "enospc", "power_loss"],
    "check": ["kill", "eio", "power_loss"],
    "finish": ["short_write"],
    "bring_maps": ["kill", "fail_rename", "enospc", "power_loss"],
    "bring_rows": ["kill", "fail_rename", "enospc", "power_loss"],
    "create_record": ["kill", "short_write", "fail_rename", "enospc", "power_loss"],
    "write_manifest": ["kill", "short_write", "enospc", "power_loss"],
}
DRIVERS = ("claim", "write_labels", "write_manifest")  # steps that no worker does
# In turns, so that few seeds have them all. Whether on an object store is the second.
STORES = (("maps", False), ("windows", True), ("windows", False), ("maps", True))
# Of a disk: an object store has no names to give, and what it says it has it keeps.
OF_A_DISK = {"fail_rename", "power_loss"}


@dataclass(frozen=True)
class Disturbed:
    """One run, and what happens to it."""

    on_ray: bool
    script: tuple[Mapping[str, Any], ...] = ()
    killed_after: int | None = None
    """Commit records that there are when the driver is killed."""


@dataclass(frozen=True)
class Scene:
    """Disturbed runs of one recipe."""

    kind: str
    """Of the stores: `windows` or `maps`."""
    far: bool
    """Whether they are on an object store."""
    runs: tuple[Disturbed, ...]


def scene(seed: int) -> Scene:
    """One to three disturbed runs. Equal seeds give equal scenes."""
    random = Random(seed)
    kind, far = STORES[seed % len(STORES)]
    runs = [_draw(random, kind, far) for _ in range(random.randint(1, 3))]
    return Scene(kind, far, tuple(runs))


def _draw(random: Random, kind: str, far: bool) -> Disturbed:
    on_ray = random.random() < 0.4
    if random.random() < 0.25:
        return Disturbed(on_ray, killed_after=random.randrange(SHARDS))
    steps = sorted(set(WAYS) - ({"bring_maps"} if kind == "windows" else set()))
    script = []
    for _ in range(random.randint(1, 2)):
        step = random.choice(steps)
        when = random.choice(["before", "after"])
        nth = 1 if step in DRIVERS else random.randint(1, 3)
        do = random.choice([way for way in WAYS[step] if _can_be(way, step, on_ray, far)])
        script.append({"step": step, "nth": nth, "do": do, "when": when})
    return Disturbed(on_ray, tuple(script))


def _can_be(way: str, step: str, on_ray: bool, far: bool) -> bool:
    if far and (way in OF_A_DISK or (way == "short_write" and step != "finish")):
        return False
    # What is synced is known to each process of its own files only.
    return way != "power_loss" or not on_ray
