"""Lines of work with a bound: a stage has threads of its own, and answers in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from pipeline.extraction.stats import Clock

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stage:
    """Threads for one kind of work, with at most `bound` calls in hand.

    What a call raises is raised where its answer is taken. Leaving the `with` block ends the
    threads: calls at work are waited for, those behind them are dropped.
    """

    def __init__(self, name: str, work: Clock, waits: Clock, bound: int, threads: int = 1) -> None:
        self.name = name
        self._work, self._waits, self._bound = work, waits, bound
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._line: deque[Future[Any]] = deque()

    def __enter__(self) -> "Stage":
        return self

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Call for each item and yield the answers in order, `bound` of them ahead.

        The first calls begin at once, not when the first answer is asked for.
        """
        rest = iter(items)
        for item in islice(rest, self._bound):
            self._submit(function, item)
        return self._answers(function, rest)

    def _answers(
        self, function: Callable[[Item], Result], rest: Iterator[Item]
    ) -> Iterator[Result]:
        while self._line:
            answer = self._oldest()
            for item in islice(rest, 1):
                self._submit(function, item)
            yield answer

    def put(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Add a call whose answer nobody needs, once there is room for it."""
        while len(self._line) >= self._bound:
            self._oldest()
        self._submit(function, *arguments)

    def finish(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call once all that was put before has gone well, and return the answer."""
        while self._line:
            self._oldest()
        self._submit(function, *arguments)
        return self._oldest()

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._line.append(self._pool.submit(self._timed, function, arguments))

    def _timed(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._work.host(self.name):
            return function(*arguments)

    def _oldest(self) -> Any:
        with self._waits.host(self.name):
            return self._line.popleft().result()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
