"""Which workers fail what others can do, and who may do better: plain names, no Ray."""

from collections import Counter
from collections.abc import Collection

from actors.worker import Worker

# A worker that fails so many shards in a row, none of which another worker failed as well, is
# sick: a full disk, a broken driver. Two may be chance: a network that failed for a moment takes
# two in hand.
FAILED_IN_A_ROW = 3
# Of one machine. A new process heals what was broken in the old one; what is broken again is not.
SICK_WORKERS = 2
# For how long a machine is left alone; twice as long with each further worker.
BARRED_S, BARRED_TWICE = 600.0, 6

# Before the second try of a shard, and before each one after: a mount that is away, or a store that
# does not answer, is mostly back by then.
PAUSES_S = (2.0, 30.0)
# After the pause, for a worker that may do better than those that are free.
PATIENCE_S = 60.0
_FAILED_IT = 2  # the worst rank


class Trust:
    """Holds failures against the worker, until another worker fails at the same shard."""

    def __init__(self) -> None:
        self._by_shard: dict[str, list[Worker]] = {}
        """Who failed it; of shards without an outcome."""
        self._failed_s: dict[str, float] = {}
        """When it failed last."""
        self._by_worker: dict[Worker, set[str]] = {}
        """What nobody else failed, since it last did one."""

    def failed(self, shard_id: str, worker: Worker, now_s: float) -> bool:
        """Take note of a failure; return whether the worker must be sick."""
        by = self._by_shard.setdefault(shard_id, [])
        self._failed_s[shard_id] = now_s
        others = [each for each in by if each != worker]
        by.append(worker)
        for other in others:  # the shard is to blame
            self._by_worker.get(other, set()).discard(shard_id)
        alone = self._by_worker.setdefault(worker, set())
        if not others:
            alone.add(shard_id)
        return len(alone) >= FAILED_IN_A_ROW

    def has_failed(self, shard_id: str) -> bool:
        """Return whether somebody failed a shard, which has no outcome yet."""
        return shard_id in self._by_shard

    def did(self, worker: Worker) -> None:
        """Take note of a shard that the worker did."""
        self._by_worker.pop(worker, None)

    def settled(self, shard_id: str, done: bool) -> None:
        """Forget who failed a shard that has its outcome.

        Args:
            shard_id: which.
            done: whether somebody did it; if nobody could, the shard is to blame.
        """
        for worker in () if done else self._by_shard.get(shard_id, ()):
            self._by_worker.get(worker, set()).discard(shard_id)
        self._by_shard.pop(shard_id, None)
        self._failed_s.pop(shard_id, None)

    def forget_all_but(self, workers: Collection[Worker]) -> None:
        """Forget what was held against workers that are gone."""
        self._by_worker = {each: held for each, held in self._by_worker.items() if each in workers}

    def ranks(
        self, shard_id: str, workers: Collection[Worker], more_coming: bool, now_s: float
    ) -> dict[Worker, int]:
        """Return who may try a shard now, and how likely it is to fail there: 0, 1 or 2.

        Least on a machine on which nobody failed it, for what is broken is mostly the machine's;
        then in a process that did not. After a pause the shard waits for the best there is, and
        where all have failed it for those on their way; after a minute for nobody.
        """
        by = self._by_shard.get(shard_id)
        if by is None:
            return dict.fromkeys(workers, 0)
        waited_s = now_s - self._failed_s[shard_id] - PAUSES_S[min(len(by), len(PAUSES_S)) - 1]
        if waited_s < 0:
            return {}
        machines = {each.machine for each in by}
        ranks = {each: (each.machine in machines) + (each in by) for each in workers}
        if waited_s >= PATIENCE_S:
            return ranks
        best = min(ranks.values(), default=0)
        if best == _FAILED_IT and more_coming:
            return {}
        return {each: rank for each, rank in ranks.items() if rank == best}


class Bars:
    """Machines that are left alone for a while, for several workers were sick there."""

    def __init__(self) -> None:
        self._sick: Counter[str] = Counter()
        self._until_s: dict[str, float] = {}

    def blame(self, machine: str, now_s: float) -> float:
        """Take note of a sick worker; return for how many seconds its machine is left alone."""
        self._sick[machine] += 1
        further = self._sick[machine] - SICK_WORKERS
        if further < 0:
            return 0.0
        seconds = BARRED_S * 2 ** min(further, BARRED_TWICE)
        self._until_s[machine] = now_s + seconds
        return seconds

    def machines(self, now_s: float) -> set[str]:
        """Return those that are left alone now."""
        return {machine for machine, until_s in self._until_s.items() if now_s < until_s}

    def lift(self) -> None:
        """Leave none alone any longer: better there than nowhere."""
        self._until_s.clear()
