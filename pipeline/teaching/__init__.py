"""Teaching a store new classes by example: marks on a shelf, and classifiers trained of them."""

from pipeline.teaching.marks import Batch, Event, Mark, key_of
from pipeline.teaching.shelf import Shelf
from pipeline.teaching.training import Settings, Taught, teach
from pipeline.teaching.versioning import Version, newest, versions

__all__ = [
    "Batch",
    "Event",
    "Mark",
    "Settings",
    "Shelf",
    "Taught",
    "Version",
    "key_of",
    "newest",
    "teach",
    "versions",
]
