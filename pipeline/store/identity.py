"""What tells a store from all others, however its place is spelt and wherever it is mounted."""

from hashlib import sha256

from pipeline.store.reader import Store
from pipeline.store.records import to_json

_DIGITS = 16


def store_digest(store: Store) -> str:
    """Return what tells the vectors of a store from all others."""
    files = [entry.files for entry in store.shards]
    return _digest([[file.sha256 for _, file in sorted(each.items())] for each in files])


def images_digest(store: Store) -> str:
    """Return what tells the images and labels of a store from all others.

    Another network or other settings give other vectors of the same images.
    """
    known = [store.made_from.get(name) for name in ("dataset", "split")]
    return store_digest(store) if None in known else _digest(known)


def _digest(content: object) -> str:
    return sha256(to_json(content)).hexdigest()[:_DIGITS]
