"""Which workers fail what others can do, and who may do better: plain names, no Ray."""

from collections import Counter
from collections.abc import Sequence

from actors.extractor import Worker

# A worker that fails so many shards, one after the other and each as the only one, is sick: a full
# disk, a broken driver. Two may be chance: a network that failed for a moment takes two in hand.
FAILED_IN_A_ROW = 3
# Of one machine. A new process heals what was broken in the old one; what is broken again is not.
SICK_WORKERS = 2


class Trust:
    """Holds failures against the worker, until another worker fails at the same shard."""

    def __init__(self) -> None:
        self._by_shard: dict[str, list[Worker]] = {}
        """Who failed it; of shards without an outcome."""
        self._by_worker: dict[Worker, set[str]] = {}
        """What nobody else failed, since it last did one."""
        self._sick: Counter[str] = Counter()
        """Workers that were, by machine."""

    def failed(self, shard_id: str, worker: Worker) -> bool:
        """Take note of a failure; return whether the worker must be sick."""
        by = self._by_shard.setdefault(shard_id, [])
        others = [each for each in by if each != worker]
        by.append(worker)
        for other in others:  # the shard is to blame
            self._by_worker.get(other, set()).discard(shard_id)
        alone = self._by_worker.setdefault(worker, set())
        if not others:
            alone.add(shard_id)
        return len(alone) >= FAILED_IN_A_ROW

    def did(self, worker: Worker) -> None:
        """Take note of a shard that the worker did."""
        self._by_worker.pop(worker, None)

    def settled(self, shard_id: str) -> None:
        """Forget who failed a shard that has its outcome."""
        self._by_shard.pop(shard_id, None)

    def retired(self, worker: Worker) -> bool:
        """Forget a sick worker; return whether its machine must be sick."""
        self._by_worker.pop(worker, None)
        self._sick[worker.machine] += 1
        return self._sick[worker.machine] >= SICK_WORKERS

    def best(self, shard_id: str, workers: Sequence[Worker]) -> list[Worker]:
        """Return who of the workers may do better than those that failed the shard.

        On other machines, for what is broken is mostly the machine's; else in other processes.
        """
        by = self._by_shard.get(shard_id, [])
        machines = {each.machine for each in by}
        elsewhere = [each for each in workers if each.machine not in machines]
        return elsewhere or [each for each in workers if each not in by]
