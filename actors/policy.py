"""How many extractors to have, and which shard takes too long: plain numbers, no Ray."""

import math
from collections.abc import Mapping, Sequence, Set
from statistics import median

# A shard takes a second to minutes, and shards are cut to like sizes: three times the usual is
# beyond their spread. A worker's first shard, which compiles kernels, may take up to SLOW_S.
SLOW_FACTOR, SLOW_S = 3, 30
# Nobody works so long on a shard: its worker stands still, with all that it has in hand.
HUNG_FACTOR, HUNG_S = 20, 900
USUAL_OF = 201  # last shards that tell the usual time
# Fewer tell too little to end a worker by: one may be the smallest there is. All may stand still at
# their first, where a mount is away; an hour is more than any first shard has been seen to take.
SURE_FROM, UNSURE_FACTOR = 3, 4

# Asked for beyond what there is room for, where an autoscaler may bring it: one for so many that
# have a place, at least one. One at a time, a hundred machines would come one after the other; as
# many again would take from other jobs whatever they let go of.
GROWTH = 4

# After so many seconds one more is tried where more could not start, for memory may be free by now;
# after twice as many the next time: where it is too small, each try takes an extractor's start.
CAPPED_S = 300.0

_TEN_THOUSANDTHS = 10_000  # Ray counts resources in them


def wanted(left: int, slow: int, room: int, least: int, most: int | None) -> int:
    """Return how many workers to have.

    Args:
        left: shards that are not done; more workers than these would hold room that others need.
        slow: of them, those that get a second worker.
        room: for how many there is room now, those that are there already included.
        least: how many to ask for even without room: an autoscaler sees them wait, and brings it.
        most: None: any number.

    >>> wanted(left=100, slow=0, room=8, least=1, most=None)
    8
    >>> wanted(left=100, slow=0, room=0, least=2, most=None), wanted(3, 1, room=8, least=1, most=6)
    (2, 4)
    """
    within = room if most is None else min(room, most)
    return min(left + slow, max(least, within))


def room(placed: int, placing: int, free: int, grows: bool) -> int:
    """Return for how many workers there is room, or may be if they are asked for.

    Args:
        placed: that have a place.
        placing: that were asked for a moment ago, and may have one.
        free: that fit into what nobody holds.
        grows: an autoscaler looks after the cluster. It brings machines for workers that wait for
            a place, and for nothing else.

    >>> room(placed=3, placing=0, free=2, grows=False), room(3, placing=2, free=0, grows=False)
    (5, 5)
    >>> room(3, placing=0, free=2, grows=True), room(17, placing=0, free=0, grows=True)
    (6, 21)
    """
    beyond = max(1, placed // GROWTH) if grows else 0
    return placed + max(placing, free + beyond)


def with_cpus_beside(free_cpus: float, placed: int, cpus: int, cpus_beside: int) -> int:
    """Return how many more workers leave CPUs for tasks of their own.

    Args:
        free_cpus: that nobody holds now; those that such tasks hold at the moment do not count.
        placed: workers that are there, and have their tasks as well.
        cpus: that each holds.
        cpus_beside: that each's tasks need.

    >>> with_cpus_beside(6, placed=0, cpus=1, cpus_beside=1), with_cpus_beside(3, 0, 1, 1)
    (3, 1)
    """
    return max(0, int((free_cpus - placed * cpus_beside) // (cpus + cpus_beside)))


class Cap:
    """How many workers may be where more could not start; one more in a while, until one can."""

    def __init__(self) -> None:
        self._most: int | None = None
        self._until_s, self._pause_s = 0.0, CAPPED_S
        self._machines: Set[str] = frozenset()

    def set(self, most: int, machines: Set[str], now_s: float) -> None:
        """Take note that on these machines no more could start than are there."""
        if machines - self._machines:
            self._pause_s = CAPPED_S
        self._most, self._machines = most, machines
        self._until_s, self._pause_s = now_s + self._pause_s, 2 * self._pause_s

    def holds(self, machines: Set[str]) -> bool:
        """Whether there was such a note, and no machine has come since."""
        return self._most is not None and not machines - self._machines

    def started(self, up: int) -> None:
        """Take note of one that could start after all: the next one is tried at once."""
        if self._most is not None and up > self._most:
            self._most, self._until_s, self._pause_s = up, 0.0, CAPPED_S

    def limits(
        self, least: int, most: int | None, machines: Set[str], now_s: float
    ) -> tuple[int, int | None]:
        """Return the least and the most to have now: on machines that are new, as many as asked."""
        if self._most is None or not self.holds(machines):
            return least, most
        cap = self._most + (now_s >= self._until_s)
        cap = cap if most is None else min(most, cap)
        return min(least, cap), cap


def fits(free: Mapping[str, float], asked: Mapping[str, float]) -> int:
    """Return how many workers go into what a machine has free.

    In ten-thousandths, as Ray counts: 1.0 // 0.1 is 9.

    >>> fits({"CPU": 8, "GPU": 1}, {"CPU": 2, "GPU": 0.1}), fits({"CPU": 1}, {"CPU": 1, "GPU": 1})
    (4, 0)
    """
    return min(
        round(free.get(kind, 0) * _TEN_THOUSANDTHS) // round(count * _TEN_THOUSANDTHS)
        for kind, count in asked.items()
        if count
    )


def slow_after_s(finished_s: Sequence[float]) -> float:
    """Return after how many seconds another worker should do a shard too.

    Args:
        finished_s: what the last shards took. With none there is nothing to hold one against.

    >>> slow_after_s([2.0, 90.0, 13.0]), slow_after_s([0.1]), slow_after_s([])
    (39.0, 30, inf)
    """
    return max(SLOW_FACTOR * median(finished_s), SLOW_S) if finished_s else math.inf


def hung_after_s(finished_s: Sequence[float]) -> float:
    """Return after how many seconds a shard's worker must be standing still.

    >>> hung_after_s([2.0, 90.0, 53.0]), hung_after_s([0.1] * 3), hung_after_s([])
    (1060.0, 900, 3600)
    """
    usual_s = median(finished_s) if finished_s else 0
    least_s = HUNG_S if len(finished_s) >= SURE_FROM else UNSURE_FACTOR * HUNG_S
    return max(HUNG_FACTOR * usual_s, least_s)
