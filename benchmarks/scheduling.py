"""What Ray and the pool cost a shard, what a second worker brings, and where to decode.

Scheduling: shards that take no time, on two actors; from the first answer to the last, so that
starting Ray and actors is left out. The peer is Ray Data, `map_batches` with an `ActorPoolStrategy`
of two and a batch of one row a shard: once with a block a row, so that a shard is what is done and
retried by itself, as in the pool; once with blocks as Ray Data cuts them. Memory: what the driver
has grown by from 1,000 to 10,000 such shards, in an interpreter of its own. Scaling: shards of two
photographs with 40 windows each (noise as photographs, untrained networks, pool5), so few that
workers share two cores and not one disk; seconds a shard from when every actor has done its first
one, while none is short of work. A worker decodes and writes beside its network: a note says how
many cores one keeps busy, and more than what they leave no second one can bring.
"""

import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from extraction import Case, make_dataset, own_ray  # sets what Ray reads when it is imported
from measure import Row, main, peak_bytes

from actors import crew
from actors.extractor import Extractor
from actors.runner import RayRunner
from actors.worker import Worker
from pipeline import config
from pipeline.config import Features
from pipeline.extraction import ExtractionSpec, NetworkSpec, ShardStats, add_stats
from pipeline.store import ShardPlan
from pipeline.store.place import place

ACTORS = 2
TRIVIAL, FEW, MANY = 2000, 1000, 10_000  # shards
ALLOWED_S = 0.020  # a shard
ALLOWED_BYTES = 20_000_000  # a thousandth of what 10,000 shards of vectors are; refs would be more
SCALED = 1.7  # of 2
RUNS = 3
NETWORKS = (("zf5", "ZF-5"), ("squeezenet1_1", "SqueezeNet 1.1"))


class Spec:
    """What a trivial extractor needs to know: nothing. The driver's metrics name two things."""

    split, features = "made", Features()


@ray.remote
class Trivial:
    """An extractor whose shards take no time."""

    def __init__(self, spec: Spec) -> None:
        del spec

    def place(self) -> Worker:
        """Say where this is."""
        return Worker.here()

    def ready(self) -> Worker:
        """There is nothing to load."""
        return Worker.here()

    def extract(self, plan: ShardPlan, wary: bool = False) -> ShardStats:
        """Do nothing."""
        return ShardStats(plan.shard_id, 1, 1, 1, {}, total_s=0.001)


class Nothing:
    """The same, as Ray Data calls it."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Give the batch back."""
        return {"shard": batch["shard"]}


def plans(count: int) -> list[ShardPlan]:
    """So many shards of one image."""
    return [ShardPlan(f"{number:05d}", (f"{number:06d}",), 1, 1) for number in range(count)]


def ours_s(count: int) -> float:
    """Seconds a shard through the pool."""
    settings: Any = config.Extractor(max_actors=ACTORS)
    spec: Any = Spec()
    return paced(1 for _ in RayRunner().extract(spec, plans(count), settings))


def data_s(count: int, blocks: int | None) -> float:
    """Seconds a shard through Ray Data."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [{"shard": number} for number in range(count)]
    made = ray.data.from_items(rows, override_num_blocks=blocks)
    done = made.map_batches(
        Nothing, batch_size=1, compute=ray.data.ActorPoolStrategy(size=ACTORS), num_cpus=1
    )
    return paced(len(batch["shard"]) for batch in done.iter_batches(batch_size=None))


def paced(answers: Iterator[int]) -> float:
    """Seconds a shard, from the first answer to the last."""
    begun_s, counted = None, 0
    for answered in answers:
        if begun_s is None:
            begun_s = time.perf_counter()
        else:
            counted += answered
    assert begun_s is not None
    assert counted, "all came at once"
    return (time.perf_counter() - begun_s) / counted


def scheduling(quick: bool) -> list[Row]:
    """The pool against Ray Data."""
    count, runs = (60, 1) if quick else (TRIVIAL, RUNS)
    crew.Extractor = Trivial  # type: ignore[assignment,misc]
    try:
        ours = [ours_s(count) for _ in range(runs)]
    finally:
        crew.Extractor = Extractor  # type: ignore[misc]
    each = [data_s(count, count) for _ in range(runs)]
    cut = data_s(count, None) if not quick else each[0]
    mine = statistics.median(ours)
    what = f"scheduling of a trivial shard, one of {count:,}, two actors"
    note = (
        f"Ray Data: {runs} runs, with blocks as it cuts them one. When an actor dies, the pool "
        "knows which shards it had, does them elsewhere, gives up one that kills its actors again "
        "and again, and ends. Ray Data does the block again without end: a row that ends its "
        "process was tried 14 times in a minute, and the run went on for nothing else"
    )
    return [
        Row(what, mine, "the bound of 20 ms", ALLOWED_S, 1.0, note),
        Row(what, mine, "Ray Data, a block a shard", statistics.median(each), 0.5, note),
        Row(what, mine, "Ray Data, blocks as it cuts them", cut, None, note),
    ]


GROWTH = """
import json, sys
sys.path[:0] = {paths!r}
import scheduling
from ray import cloudpickle
cloudpickle.register_pickle_by_value(scheduling)  # workers do not find it by name
print(json.dumps(scheduling.grown_bytes({few}, {many})))
"""


def grown_bytes(few: int, many: int) -> int:
    """What the driver has grown by between so many shards and so many."""
    crew.Extractor = Trivial  # type: ignore[assignment,misc]
    with own_ray():
        spec: Any = Spec()
        settings, marks = config.Extractor(max_actors=ACTORS), []
        for number, _ in enumerate(RayRunner().extract(spec, plans(many), settings), 1):
            if number in (few, many):
                marks.append(peak_bytes())
    return marks[1] - marks[0]


def memory(few: int, many: int) -> Row:
    """The driver's, over many shards."""
    here = Path(__file__).resolve().parent
    code = GROWTH.format(paths=[str(here), str(here.parent)], few=few, many=many)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    grown = max(1, json.loads(done.stdout.splitlines()[-1]))
    what = f"memory of the driver, from shard {few:,} to shard {many:,}"
    return Row(what, grown, "an allowance", ALLOWED_BYTES, 1.0, unit="B")


def scaling(quick: bool, folder: Path, name: str, title: str) -> list[Row]:
    """One worker against two, and decoding here against decoding in tasks."""
    network, features = NetworkSpec(name, None), Features()
    shards, windows = 40, 40
    if quick:
        network = NetworkSpec(
            "zf5", None, 0, None, {"width": 0.1, "fc_units": 16, "levels": (2, 1)}
        )
        features, shards, windows = Features(scales=(160,), levels=(2, 1)), 8, 20
    spec = make_dataset(folder, Case("scaling", network, features, 2 * shards, windows))
    two = [(f"{2 * n:06d}", f"{2 * n + 1:06d}") for n in range(shards)]
    made = [ShardPlan(f"{n:05d}", ids, 2 * windows, 1) for n, ids in enumerate(two)]
    (one_s, told), (both_s, _) = (extract_s(spec, made, max_actors=actors) for actors in (1, 2))
    elsewhere = replace(spec, decode="cluster")
    task_s, _ = extract_s(elsewhere, made, max_actors=1, decode="cluster")
    what = f"a shard of two photographs, {title}, pool5"
    note = f"{title}: one worker {told}"
    return [
        Row(f"{what}: two workers", both_s, "one worker", one_s, SCALED, note),
        Row(f"{what}: decoded by tasks", task_s, "decoded in the one actor", one_s, None, note),
    ]


def extract_s(spec: ExtractionSpec, made: list[ShardPlan], **settings: Any) -> tuple[float, str]:
    """Seconds a shard while all actors are warm and have work; and what the first was busy with."""
    actors, ended_s, warm, begun = settings["max_actors"], [], set(), 0
    busy_s: list[float] = []
    stats: list[ShardStats] = []
    here = replace(spec, root=place(spec.images.parent / f"store{actors}{spec.decode}"))
    for outcome in RayRunner().extract(here, made, config.Extractor(**settings)):
        if outcome.error is not None:
            raise outcome.error
        ended_s.append(time.perf_counter())
        stats.append(outcome.result)
        busy_s.append(cpu_s(int(outcome.result.worker.rpartition(":")[2])))
        if len(warm) < actors:
            warm.add(outcome.result.worker)
            begun = len(ended_s) - 1
    # The last ones are done while somebody else has nothing to do any more.
    begun, end = (begun, len(ended_s) - actors) if len(warm) == actors else (0, len(ended_s))
    timed_s = ended_s[begun:end]
    took_s = timed_s[-1] - timed_s[0]
    cores = (busy_s[end - 1] - busy_s[begun]) / took_s  # means something of one
    told = f"is bound by {add_stats(stats)['bound_by']}, and keeps {cores:.2f} cores busy"
    return took_s / (len(timed_s) - 1), told


def cpu_s(process: int) -> float:
    """Seconds of CPU that a process has had; 0 where no /proc tells."""
    told = Path(f"/proc/{process}/stat")
    if not told.exists():
        return 0.0
    user, system = told.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def run(quick: bool) -> list[Row]:
    """Measure."""
    # Another cluster only for this; that the driver does not grow is a test of the pool's.
    rows = [] if quick else [memory(FEW, MANY)]
    with own_ray() as folder:
        rows = [*scheduling(quick), *rows]
        for name, title in NETWORKS[: 1 if quick else None]:
            rows += scaling(quick, folder / name, name, title)
        return rows


if __name__ == "__main__":
    main(run)
