"""What a Ray task runs. Its process loads this, and then only what its work needs: not torch."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from pipeline.apart import trial


def call(function: Callable[[Any], Any], item: Any, wary: bool) -> Any:
    """Return what a function of the library makes of an item.

    Args:
        function: of the library.
        item: what it takes.
        wary: whether the process has died of it before: then images are tried apart first.
    """
    with trial.wary() if wary else nullcontext():
        return function(item)
