"""All that is fuzzed, by name, and the inputs that once broke something."""

from pathlib import Path

from tests.fuzz_tests import of_datasets, of_images, of_models, of_stores, of_teaching
from tests.fuzz_tests.target import Target

PROJECT = Path(__file__).parents[2]
KEPT, FOUND = (Path(__file__).parent / name for name in ("kept", "found"))
MOST_MB, SLOWEST_S = 4096, 60  # that an input may take
TARGETS = {
    each.name: each
    for module in (of_images, of_datasets, of_models, of_stores, of_teaching)
    for each in module.TARGETS
}


def kept(target: Target) -> list[bytes]:
    """Return the inputs that once broke this reader: they are tried each time."""
    return [path.read_bytes() for path in sorted((KEPT / target.name).glob("*"))]
