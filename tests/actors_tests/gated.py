"""The real extractor; what it commits waits at a gate, that its machine may die at work."""

from pathlib import Path
from typing import Any

import ray

from actors.extractor import Extractor
from actors.worker import Worker
from pipeline.extraction import ExtractionSpec
from pipeline.store.local import LocalFolder
from tests.actors_tests.script import wait_until

Real: Any = Extractor.__ray_metadata__.modified_class  # type: ignore[attr-defined]


def gates(spec: ExtractionSpec) -> Path:
    """Return a folder: a file for each machine that waits, and `open` once all may go on."""
    return Path(f"{spec.root}.gates")


@ray.remote
class Gated(Real):
    """The extractor's methods."""

    def ready(self) -> Worker:
        here, create, folder = super().ready(), LocalFolder.create, gates(self._spec)

        def gated(place: LocalFolder, name: str, *arguments: Any) -> Any:
            if name.startswith("records/"):  # all other files of the shard are there
                (folder / here.machine).touch()
                wait_until((folder / "open").exists, 120)
            return create(place, name, *arguments)

        setattr(LocalFolder, "create", gated)  # noqa: B010 - of this process, which is the actor's
        return here
