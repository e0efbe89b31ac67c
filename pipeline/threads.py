"""Threads: of torch, whose sums in another order round differently, and of one's own work."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

from pipeline import machine

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Work with so many threads, and put back the number there was.

    Args:
        count: None leaves it to whoever works inside, and puts back all the same.
    """
    import torch  # takes two seconds to load, and many who import this have no use for it

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def usual() -> int:
    """Return how many threads work in this process takes where nobody says: one for each CPU.

    `OMP_NUM_THREADS`, which Ray sets for its workers, may say fewer. It does not matter whether
    torch is loaded, nor what it was told.
    """
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    few = int(told) if told.isdecimal() and int(told) else machine.cpus()
    return min(few, machine.cpus())


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], count: int = 2
) -> Iterator[Result]:
    """Yield in order what a function makes of each item, while so many more are being made."""
    with ThreadPoolExecutor(count, thread_name_prefix="ahead") as pool:
        coming: deque[Future[Result]] = deque()
        try:
            for item in items:
                coming.append(pool.submit(work, item))
                if len(coming) > count:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for each in coming:
                each.cancel()


def share(
    items: Iterable[Item], work: Callable[[Iterator[Item]], Result], threads: int
) -> list[Result]:
    """Return what each thread makes of the items that fall to it.

    Args:
        items: in order; each thread takes the next one when it is done with its last.
        work: goes through those of one thread, which are in order, too.
        threads: how many; where one fails, the others stop at their next item.
    """
    turns = _Turns(items)
    if threads == 1:
        return [work(turns)]
    with ThreadPoolExecutor(threads, thread_name_prefix="share") as pool:
        try:
            at_work = [pool.submit(turns.stopped_by, work) for _ in range(threads)]
            return [each.result() for each in at_work]
        finally:
            turns.stop()


class _Turns(Iterator[Item], Generic[Item]):
    """Items that several threads take one after the other."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items, self._lock = iter(items), threading.Lock()

    def __next__(self) -> Item:
        with self._lock:
            return next(self._items)

    def stop(self) -> None:
        """Have no more items for anyone."""
        with self._lock:
            self._items = iter(())

    def stopped_by(self, work: Callable[[Iterator[Item]], Result]) -> Result:
        """Do the work, and stop everyone where it fails."""
        try:
            return work(self)
        except BaseException:
            self.stop()
            raise
