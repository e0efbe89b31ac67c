"""Whether the image files that shards were made from are still what they were."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from pipeline import images
from pipeline.store.records import ShardRecord

READERS = 8  # image files read at once: each is a wait for a disk


class ImageFile(NamedTuple):
    """What `images.parquet` says of an image's file."""

    path: str
    size_bytes: int
    """When its shard was made; -1 where there was no such file."""


class _Found(NamedTuple):
    """What is there now."""

    size_bytes: int
    """-1 where there is no such file."""
    digest: bytes = b""
    """The sha256, as the extraction computes it."""
    problem: str = ""
    """Why the file cannot be read."""


def changes(
    record: ShardRecord, files: Mapping[str, ImageFile], pool: ThreadPoolExecutor
) -> list[str]:
    """Return what is different from when a shard was made, a sentence for each image.

    The record has one digest for all its images. So an image that is missing, new or of another
    size is named, and of those that have kept their size only that one of them has changed; not
    even that where one cannot be read.

    Args:
        record: of the shard.
        files: of its images, and perhaps others.
        pool: reads several at once.
    """
    if not files.keys() >= set(record.image_ids):
        return []  # images that nobody listed are a fault of another kind
    listed = {image_id: files[image_id] for image_id in record.image_ids}
    found = dict(zip(listed, pool.map(_look, listed.values()), strict=True))
    all_ = [_change(key, listed[key], each) for key, each in found.items()]
    named = [each for each in all_ if each]
    if any(each.problem for each in found.values()):
        return named  # without these, the others' digests tell nothing
    if sha256(b"".join(each.digest for each in found.values())).hexdigest() == record.input_sha256:
        return []
    return named or [_kept_sizes(list(listed))]


def _change(image_id: str, listed: ImageFile, found: _Found) -> str:
    if found.problem:
        return f"image {image_id}: {listed.path} cannot be read ({found.problem})"
    if found.size_bytes == listed.size_bytes:
        return ""
    if found.size_bytes < 0:
        return f"image {image_id}: {listed.path} is missing"
    had = "was missing" if listed.size_bytes < 0 else f"had {listed.size_bytes:,}"
    has = f"{listed.path} has {found.size_bytes:,} bytes"
    return f"image {image_id}: {has}, and {had} when it was read"


def _kept_sizes(image_ids: Sequence[str]) -> str:
    some = image_ids[0] if len(image_ids) == 1 else f"one of {image_ids[0]} … {image_ids[-1]}"
    return f"was made from image files that have changed since, with their sizes kept: {some}"


def _look(listed: ImageFile) -> _Found:
    try:
        data = images.read(listed.path)
    except images.UndecodableImage as error:
        # What was no image then, for it was a folder, say, is none now.
        size_bytes = Path(listed.path).stat().st_size
        return _Found(size_bytes, problem="" if size_bytes == listed.size_bytes else str(error))
    except (FileNotFoundError, NotADirectoryError):
        return _Found(-1)
    except OSError as error:
        return _Found(-1, problem=error.strerror or type(error).__name__)
    return _Found(len(data), sha256(data).digest())
