"""What a running job gets, and how it runs a library function over many items, each one once."""

import shutil
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.progress import Bar, Progress
from actors.runner import Runner
from jobs.events import Events
from pipeline.config import Recipe
from pipeline.errors import SppError
from pipeline.store.files import read_json, write_json

LOOK_S = 0.5  # at steps that another process tells of
DONE, ERROR, TASKS, STORE = "done.json", "error.json", "tasks", "store"


@dataclass(frozen=True)
class Context:
    """What a running job gets."""

    recipe: Recipe
    runner: Runner
    folder: Path
    inputs: Mapping[str, Path]
    """Folders of the jobs it needs."""
    progress: Progress
    job: str
    events: Events
    """The log of the job."""
    settings: str = ""
    """As the job's `Step` has them."""
    stores: str | None = None
    """Where stores lie, if not in the jobs' folders: a folder, or a URI such as `s3://…`."""

    @property
    def store(self) -> str:
        """Where this job's store goes."""
        own = self.folder / STORE
        return f"{self.stores.rstrip('/')}/{self.folder.name}" if self.stores else str(own)

    def store_of(self, need: str) -> str:
        """Return where the store of a needed job lies."""
        return self.summary_of(need).get("store") or str(self.inputs[need] / STORE)

    def summary_of(self, need: str) -> dict[str, Any]:
        """Return the summary that a needed job left."""
        return (read_json(self.inputs[need] / DONE) or {}).get("summary", {})

    def note(self, text: str) -> None:
        """Tell people something about this job that should last."""
        self.progress.note(f"{self.job}: {text}")

    def map(
        self,
        label: str,
        function: Callable[[Any], Any],
        items: Mapping[str, Any],
        result: Callable[..., Any],
        cpus: int = 1,
        gpus: float | None = 0,
    ) -> dict[str, Any]:
        """Run a library function over keyed items, each one once, whatever dies in between.

        Results are small; each is written down as it arrives, and is not computed again.

        Args:
            label: names the step in the progress and on disk.
            function: takes an item, returns a dataclass of plain numbers and strings.
            items: by key; the key becomes a file name.
            result: the dataclass.
            cpus: that each call takes.
            gpus: likewise; None: 1 where there are GPUs, else 0.

        Returns:
            Results by key, in the order of `items`.

        Raises:
            SppError: some items failed; all others were done, and the failed are named.
        """
        folder = self.folder / TASKS / label
        results = {key: read_json(folder / f"{key}.json") for key in items}
        keys = [key for key, held in results.items() if held is None]
        failed: dict[str, Exception] = {}
        write_json(folder.with_name(f"{label}.json"), {"items": len(items)})  # for who looks on
        with self.progress.bar(f"{self.job}: {label}", len(items), len(items) - len(keys)) as bar:
            for outcome in self.runner.map(function, _Chosen(items, keys), cpus, gpus):
                bar.advance()
                if outcome.error is not None:
                    failed[outcome.key] = outcome.error
                    continue
                results[outcome.key] = asdict(outcome.result)
                write_json(folder / f"{outcome.key}.json", results[outcome.key])
        raise_failures(failed, label)
        return {key: result(**held) for key, held in results.items() if held is not None}

    def in_turn(
        self,
        label: str,
        function: Callable[[Any], Any],
        items: Mapping[str, Any],
        result: Callable[..., Any],
        cpus: int = 1,
        gpus: float | None = 0,
    ) -> Generator[tuple[str, Any]]:
        """Run a library function over keyed items, each one from what the last one left.

        As `map` otherwise: what is done is not done again. Yields each key with its result.

        Raises:
            SppError: an item failed; none after it was begun.
        """
        folder, count = self.folder / TASKS / label, len(items)
        write_json(folder.with_name(f"{label}.json"), {"items": count})
        done = sum((folder / f"{key}.json").is_file() for key in items)
        with self.progress.bar(f"{self.job}: {label}", count, done) as bar:
            for key, item in items.items():
                held = read_json(folder / f"{key}.json")
                if held is None:
                    (outcome,) = self.runner.map(function, {key: item}, cpus, gpus)
                    raise_failures({key: outcome.error} if outcome.error else {}, label)
                    held = asdict(outcome.result)
                    write_json(folder / f"{key}.json", held)
                    bar.advance()
                yield key, result(**held)

    def in_steps(
        self,
        label: str,
        function: Callable[[Path], Any],
        steps: int,
        result: Callable[..., Any],
        cpus: int = 1,
    ) -> Any:
        """Run a library function once, which tells of each of its steps as it goes.

        It writes a file `*.json` for each into the folder that it is given, and begins by clearing
        that of what one that died has told.

        Raises:
            SppError: it failed.
        """
        folder = self.folder / TASKS / label
        kept = folder / "whole" / "result.json"
        held = read_json(kept)
        if held is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder.with_name(f"{label}.json"), {"items": steps})
            with self.progress.bar(f"{self.job}: {label}", steps) as bar, _watched(folder, bar):
                (outcome,) = self.runner.map(function, {label: folder}, cpus, 0)
            raise_failures({label: outcome.error} if outcome.error else {}, "running")
            held = asdict(outcome.result)
            write_json(kept, held)
        return result(**held)

    def together(
        self,
        label: str,
        function: Callable[[Path], None],
        items: Sequence[str],
        result: Callable[..., Any],
        workers: int,
        cpus: int = 1,
        gpus: float | None = 0,
    ) -> Generator[tuple[str, Any]]:
        """As `in_turn`, by several processes that do each item together, and are started once.

        The function takes the folder of the results. It does whatever has none yet, and writes each
        result there itself: the processes need not wait for this one.

        Raises:
            SppError: an item failed, or processes cannot be started.
        """
        folder, count = self.folder / TASKS / label, len(items)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder.with_name(f"{label}.json"), {"items": count})
        done = sum((folder / f"{key}.json").is_file() for key in items)
        at_work = self.runner.together(function, folder, workers, cpus, gpus, self.note)
        with self.progress.bar(f"{self.job}: {label}", count, done) as bar, closing(at_work):
            for key in items:
                held = read_json(folder / f"{key}.json")
                if held is None:
                    held = _awaited(folder / f"{key}.json", at_work)
                    bar.advance()
                yield key, result(**held)


@contextmanager
def _watched(folder: Path, bar: Bar) -> Iterator[None]:
    """Advance a bar with each step that is told of in a folder, while the block runs."""
    ended = threading.Event()

    def look() -> None:
        seen, is_last = 0, False
        while not is_last:
            is_last = ended.wait(LOOK_S)
            now = sum(1 for _ in folder.glob("*.json"))
            for _ in range(now - seen):
                bar.advance()
            seen = max(seen, now)  # who begins anew is told of again where the first one was

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _awaited(path: Path, at_work: Iterator[None]) -> Any:
    """Return what appears in a file while others are at work."""
    for _ in at_work:
        held = read_json(path)
        if held is not None:
            return held
    held = read_json(path)
    if held is None:
        raise RuntimeError(f"all processes ended well, and none wrote {path}")
    return held


class _Chosen(Mapping[str, Any]):
    """Some of the items, which may be built only when they are asked for."""

    def __init__(self, items: Mapping[str, Any], keys: Sequence[str]) -> None:
        self._items, self._keys = items, keys

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def raise_failures(failed: Mapping[str, Exception], label: str) -> None:
    """Raise one error that names what failed, if anything did.

    Raises:
        SppError: naming the first few, and the first one's reason; of the same kind as that.
        RuntimeError: instead, where that is no error that a person could mend.
    """
    if not failed:
        return
    reason = next(iter(failed.values()))
    known = isinstance(reason, SppError)
    said = str(reason) if known else f"{type(reason).__name__}: {reason}"
    names = ", ".join(list(failed)[:5]) + (", …" if len(failed) > 5 else "")
    text = f"{label} {names}: {said}"
    if len(failed) > 1:
        text = f"{label}: {len(failed)} failed ({names}); the first said: {said}"
    raise (type(reason) if known else RuntimeError)(text) from reason
