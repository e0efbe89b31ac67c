"""Trainings in the background: asked for by anybody, one at a time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.errors import SppError


@dataclass
class Training:
    """A training at work, or how it ended."""

    state: str = "running"
    text: str = ""
    again: bool = False
    """Somebody has asked for it meanwhile."""
    begun_s: float = field(default_factory=time.monotonic)


class Trainings:
    """The last training of each class. Safe in threads.

    Args:
        teach: trains the class of a name, and returns the number of the version.
    """

    def __init__(self, teach: Callable[[str], int]) -> None:
        self._teach = teach
        self._trainings: dict[str, Training] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # each takes all CPUs

    def begin(self, key: str, name: str) -> dict[str, str]:
        """Begin to train a class on the marks there are, unless it is in training."""
        with self._lock:
            held = self._trainings.get(key)
            if held is not None and held.state == "running":
                held.again = True  # it may have begun before the last mark
            else:
                held = self._trainings[key] = Training()
                threading.Thread(target=self._train, args=(name, held), daemon=True).start()
        return {"state": held.state}

    def progress(self, key: str) -> dict[str, str]:
        """Return how far a training is, for people and for the script."""
        with self._lock:
            held = self._trainings.get(key)
            if held is None:
                return {"state": "none", "text": "nothing is in training"}
            if held.state != "running":
                return {"state": held.state, "text": held.text}
            took_s = time.monotonic() - held.begun_s
        return {"state": "running", "text": f"training, {took_s:.0f} s"}

    def _train(self, name: str, held: Training) -> None:
        try:
            while not self._is_over(held, *self._once(name, held)):
                pass
        except BaseException as error:
            with self._lock:
                held.text, held.state = f"{type(error).__name__}: {error}", "failed"
            raise

    def _once(self, name: str, held: Training) -> tuple[str, str]:
        """Train, and return the state and the text of how that ended."""
        with self._turn:
            held.again = False  # the marks are read from here on
            try:
                return "done", f"version {self._teach(name)}"
            except SppError as error:
                return "failed", str(error)

    def _is_over(self, held: Training, state: str, text: str) -> bool:
        """Tell how it ended, unless it was asked for meanwhile: maybe with a mark that mends it."""
        with self._lock:
            if not held.again:
                held.state, held.text = state, text
            return not held.again
