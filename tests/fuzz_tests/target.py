"""What is fuzzed: a reader, what it is first given, and what must hold whatever it is given."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SppError


@dataclass(frozen=True)
class Target:
    """A reader of bytes from outside."""

    name: str
    seeds: Callable[[], Iterable[bytes]]
    """Inputs that it takes, or that once broke it: what is tried begins with these."""
    attempt: Callable[[bytes, Path], object]
    """Reads the bytes, in a folder of its own that stays; checks what must hold of the result."""
    words: tuple[bytes, ...] = ()
    """That are likely to matter, for whoever makes up inputs."""
    is_slow: bool = False
    """Whether an attempt takes a second, because it starts a process."""

    def __call__(self, data: bytes, folder: Path) -> str:
        """Try an input; return what became of it.

        Raises:
            Exception: neither a result nor a refusal: a fault.
        """
        try:
            self.attempt(data, folder)
        except SppError as refusal:
            if not str(refusal).strip():
                raise AssertionError("a refusal without a word") from refusal
            return "refused"
        return "taken"


@contextmanager
def working_folder() -> Iterator[Path]:
    """Yield a folder for what attempts write; gone at the end."""
    with tempfile.TemporaryDirectory(prefix="spp-fuzz-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
