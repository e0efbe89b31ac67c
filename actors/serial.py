"""The same work as on a cluster, one after the other in this process."""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.ledger import OnEvent, Outcome, ignore
from actors.runner import Stopped
from pipeline.config import Extractor as ExtractorSettings
from pipeline.errors import RecipeError
from pipeline.extraction import ExtractionSpec, ShardExtractor
from pipeline.store import ShardPlan
from pipeline.threads import torch_threads


class SerialRunner:
    """Everything in this process, in order: the meaning of the work, and a debugger's friend."""

    cpus = 1

    def __init__(self) -> None:
        self.stop = threading.Event()

    def map(
        self,
        function: Callable[[Any], Any],
        items: Mapping[str, Any],
        cpus: int = 1,
        gpus: float | None = 0,
    ) -> Iterator[Outcome]:
        """Apply a function of the library to each item; the keys name them."""
        del cpus, gpus
        for key, item in items.items():
            yield self._answer(function, key, item)

    def _answer(self, function: Callable[[Any], Any], key: str, item: Any) -> Outcome:
        if self.stop.is_set():
            raise Stopped
        try:
            return Outcome(key, function(item))
        except Exception as error:  # noqa: BLE001 - answered, as everything is
            return Outcome(key, error=error)

    def together(
        self,
        function: Callable[[Path], None],
        told: Path,
        workers: int,
        cpus: int,
        gpus: float | None,
        note: Callable[[str], None],
    ) -> Generator[None]:
        """Refuse: one process would come to other weights than several.

        Raises:
            RecipeError: always.
        """
        del function, told, cpus, gpus, note
        raise RecipeError(
            f"pretrain.workers = {workers} needs as many processes, and --serial has one: run it "
            "without --serial, or set workers = 1"
        )
        yield

    def extract(
        self,
        spec: ExtractionSpec,
        plans: Sequence[ShardPlan],
        settings: ExtractorSettings,
        on_event: OnEvent = ignore,
    ) -> Iterator[Outcome]:
        """Extract every shard, in order."""
        del settings, on_event
        if plans:
            with torch_threads():  # an extractor sets its own number, here for the whole process
                extractor = ShardExtractor(spec)
                for plan in plans:
                    yield self._answer(extractor, plan.shard_id, plan)
