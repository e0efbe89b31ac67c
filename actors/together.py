"""Several processes that train one network together: placed, connected, watched, begun again.

Actors in a placement group, which Ray places all at once or not at all. They find each other by
`torch.distributed`: NCCL where each has a GPU, else gloo. They keep nothing: what they came to lies
in a folder that all of them see, and there they begin again.
"""

import secrets
import socket
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import distributed

from actors import cluster
from actors.answers import outcome_of
from actors.resources import Resources, in_words
from pipeline.errors import InputError, RecipeError, SppError

LOOK_S = 0.5  # how often it is told that they are at work
SILENT_LOOKS = 20  # for room, before people are told that there is none yet
PATIENCE = timedelta(hours=2)  # for a slow one; of one that died the driver knows at once

Work = Callable[[Path], None]


def train_together(
    work: Work, told: Path, workers: int, each: Resources, note: Callable[[str], None]
) -> Generator[None]:
    """Run a function in several processes that `torch.distributed` connects.

    Yields now and then while they are at work, so that the caller may look at what they tell, or
    leave: they are ended then. Where one dies all of them begin again, `each.retries` times in a
    row without anything new in `told`.

    Args:
        work: takes `told`, does what is not told of there yet, and tells of each step in a file.
        told: a folder that all machines see.
        workers: how many processes.
        each: what each reserves.
        note: takes what people should know.

    Raises:
        RecipeError: the cluster does not hold them, and will not grow.
        SppError: what `work` raised; or they died too often.
    """
    failures = 0
    while True:
        _require_room(workers, each)
        before = _count(told)
        reason = yield from _attempt(work, told, workers, each, note)
        if reason is None:
            return
        failures = failures + 1 if _count(told) == before else 1
        if failures > each.retries:
            raise SppError(
                f"{workers} processes that train together came to nothing new in {failures} tries, "
                f"at last: {reason}. The same command goes on where they stopped"
            )
        note(
            f"training failed ({reason}): all {workers} processes begin again from what is done "
            f"({failures} of {each.retries})"
        )


def _require_room(workers: int, each: Resources) -> None:
    held = cluster.room(each.asked)
    if held < workers and not cluster.can_grow(cluster.STATUS_S):
        way_out = f"set workers = {held}" if held else f"ask for less than {each} for each"
        raise RecipeError(
            f"pretrain.workers = {workers} with {each} each, and the cluster ({in_words()}) has "
            f"room for {held}: {way_out}, or add machines"
        )


def _count(told: Path) -> int:
    return sum(1 for _ in told.glob("*.json"))


def _attempt(
    work: Work, told: Path, workers: int, each: Resources, note: Callable[[str], None]
) -> Generator[None, None, str | None]:
    """Run it once; return why it failed, or None.

    Raises:
        SppError: what `work` raised, if a person can mend it.
    """
    sign = told / f".seen-by-all-{secrets.token_hex(8)}"
    group = placement_group([each.asked] * workers)
    try:
        sign.touch()
        looks = 0
        while not group.wait(LOOK_S):
            looks += 1
            if looks == SILENT_LOOKS:
                note(f"{workers} processes of {each} each wait for room: others hold it for now")
            yield
        kind: Any = ray.remote(_Process)
        processes = [
            kind.options(
                num_cpus=each.cpus,
                num_gpus=each.gpus,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank),
            ).remote(rank, workers)
            for rank in range(workers)
        ]
        address = processes[0].address.remote()
        going = [process.run.remote(work, sign, address) for process in processes]
        while going:
            done, going = ray.wait(going, timeout=LOOK_S)
            failures = _failures(done)
            if failures:  # one that died says more than those that lost it
                failures += _failures(ray.wait(going, num_returns=len(going), timeout=LOOK_S)[0])
                return _in_short(min(failures, key=lambda error: not isinstance(error, RayError)))
            yield
        return None
    finally:
        remove_placement_group(group)  # and with it the processes
        sign.unlink(missing_ok=True)


def _failures(done: list[ray.ObjectRef]) -> list[Exception]:
    """Return the errors among answers.

    Raises:
        SppError: one that a person can mend: it would come the next time as well.
    """
    errors = [error for ref in done if (error := outcome_of(ref, "process").error) is not None]
    for error in errors:
        if isinstance(error, SppError):
            raise error
    return errors


class _Process:
    """An actor: one of the processes."""

    def __init__(self, rank: int, count: int) -> None:
        self._rank, self._count = rank, count

    def address(self) -> str:
        """Return where the others find this one."""
        with socket.socket() as free:
            free.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def run(self, work: Work, sign: Path, address: str) -> None:
        """Do the work as one of all.

        Raises:
            InputError: this machine does not see what the driver has written.
        """
        if not sign.is_file():
            raise InputError(
                f"{socket.gethostname()} does not see {sign.parent}: processes that train together "
                "need a run directory that all machines share; give it with --runs"
            )
        distributed.init_process_group(
            "nccl" if ray.get_gpu_ids() else "gloo",
            init_method=address,
            rank=self._rank,
            world_size=self._count,
            timeout=PATIENCE,
        )
        try:
            work(sign.parent)
        finally:
            distributed.destroy_process_group()


def _in_short(error: Exception) -> str:
    """Return an error in a line, for some come with a whole traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
