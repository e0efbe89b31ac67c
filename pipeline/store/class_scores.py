"""What `score` answers in a query: classes as columns, multiplied together where several are asked.

What is asked of one row with several classes, DuckDB asks one after the other, some 2,048 rows a
call. So all classes that the query has named so far are multiplied at the first of them, while the
vectors are at hand, and each thread keeps what came of it.
"""

import difflib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int

from pipeline.errors import InputError
from pipeline.store.blocks import Block, Weights, weights

NAMED = 20  # classes in an error, for there may be thousands

Parts = Callable[[Int[np.ndarray, " rows"]], Iterator[tuple[Int[np.ndarray, " places"], Block]]]


@runtime_checkable
class LinearClassifiers(Protocol):
    """What scoring needs of `pipeline.learning.classifiers.Classifiers`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        ...

    @property
    def weights(self) -> Float32[np.ndarray, "classes dim"]:
        """A row for each class."""
        ...

    @property
    def intercepts(self) -> Float32[np.ndarray, " classes"]:
        """One for each class."""
        ...

    @property
    def scale(self) -> float:
        """Of the vectors."""
        ...

    @property
    def unit(self) -> bool:
        """Whether each vector is divided by its length, first."""
        ...

    def check_fits(self, made_from: Mapping[str, Any], where: object) -> None:
        """Refuse vectors that another network or other settings made."""
        ...


@dataclass(frozen=True)
class _Asked:
    """Classes that a query has named, in that order."""

    names: tuple[str, ...]
    weights: Weights
    """A column for each."""


class ClassScores:
    """Scores of one query's rows; called from several threads.

    Args:
        classifiers: of two that have a class, the last one is meant.
        parts: yields the vectors of some handles, and where among those they stand.
    """

    def __init__(self, classifiers: Sequence[LinearClassifiers], parts: Parts) -> None:
        self._known = {name: (one, k) for one in classifiers for k, name in enumerate(one.classes)}
        self._parts, self._lock = parts, threading.Lock()
        self._asked: _Asked | None = None
        # By thread: its last handles, and their products with the classes asked for by then.
        self._last: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def of(self, name: str, handles: Int[np.ndarray, " rows"]) -> Float32[np.ndarray, " rows"]:
        """Return one class's scores of some rows.

        Raises:
            InputError: no classifier has the class.
        """
        if name not in self._known:
            raise InputError(_unknown(name, self._known))
        asked, thread = self._ask(name), threading.get_ident()
        held, products = self._last.pop(thread, (None, None))
        if held is None or products is None or not np.array_equal(held, handles):
            products = np.empty((len(handles), 0), np.float32)
        done, column = products.shape[1], asked.names.index(name)
        if done <= column:
            more = np.empty((len(handles), len(asked.names) - done), np.float32)
            for places, block in self._parts(handles):
                more[places] = block.multiply(asked.weights[done:])
            products = np.concatenate([products, more], axis=1)
        self._last[thread] = handles, products
        known, k = self._known[name]
        found = products[:, column]
        if known.unit:
            found = found / self._lengths(handles)
        return found + known.intercepts[k]

    def _lengths(self, handles: Int[np.ndarray, " rows"]) -> Float32[np.ndarray, " rows"]:
        lengths = np.ones(len(handles), np.float32)
        for places, block in self._parts(handles):
            lengths[places] = block.lengths()
        return lengths

    def _ask(self, name: str) -> _Asked:
        """Return the classes asked for so far, this one among them."""
        with self._lock:
            if self._asked is None or name not in self._asked.names:
                known, k = self._known[name]
                names = () if self._asked is None else self._asked.names
                columns = [] if self._asked is None else [*self._asked.weights.values]
                folded = np.stack([*columns, known.weights[k] * known.scale])
                self._asked = _Asked((*names, name), weights(folded))
            return self._asked


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    if not known:
        return f"score({name!r}, …) needs classifiers, and none were given: name their folder"
    named = ", ".join(list(known)[:NAMED]) + (", …" if len(known) > NAMED else "")
    close = difflib.get_close_matches(name, known, 3)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"no classifier knows the class {name!r}; the {len(known):,} known are {named}{meant}"
