"""Which image is in which shard: each that is listed in one, and none in two."""

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from pipeline.store.entries import ShardEntry
from pipeline.store.inputs import READERS, ImageFile, changes
from pipeline.store.place import Place, open_parquet
from pipeline.store.records import ShardRecord

IMAGES = "images.parquet"


class Cure(StrEnum):
    """What helps against a fault."""

    fsck = "fsck"
    """Mending the store; the next run makes what cannot be mended."""
    gc = "gc"
    """Removing what nobody reads."""
    images = "images"
    """The store is as it was made: the images are not."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a store."""

    shard_id: str
    """Or the name of the file, where it is no shard's."""
    problem: str
    cure: Cure = Cure.fsck


def by_first_image(entries: Sequence[ShardEntry]) -> list[ShardEntry]:
    """Return the shards in the order of their images, which shards divide into ranges."""
    return sorted(entries, key=lambda entry: (entry.first or "", entry.last or "", entry.shard_id))


def _overlapping(order: Sequence[ShardEntry]) -> Iterator[list[ShardEntry]]:
    """Yield groups of shards whose ranges of images overlap: of a sound store, each alone.

    So doubles are found among neighbours, and no more ids are held at a time than a group has.
    """
    group: list[ShardEntry] = []
    reach = ""
    for entry in order:
        if group and (entry.first or "") > reach:
            yield group
            group = []
        group.append(entry)
        reach = max(reach, entry.last or "")
    if group:
        yield group


class _Listed:
    """The ids of `images.parquet`, which is sorted, taken range by range."""

    def __init__(self, root: Place, readable: bool) -> None:
        self._root, self._readable = root, readable
        self.files: dict[str, ImageFile] = {}
        """File of each image of the last range."""

    def __enter__(self) -> "_Listed":
        self._rows = self._read()
        self._next = next(self._rows, None)
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def _read(self) -> Generator[tuple[str, ImageFile]]:
        if not self._readable:
            return
        with open_parquet(self._root, IMAGES) as file:
            for batch in file.iter_batches(columns=["image_id", "file", "bytes"]):
                ids, files, sizes = (column.to_pylist() for column in batch.columns)
                listed = map(ImageFile, map(self._absolute, files), sizes)
                yield from zip(ids, listed, strict=True)

    def _absolute(self, file: str) -> str:
        """Files of the run directory start from the store, which may have gone along with it."""
        return os.path.join(str(self._root), file)

    def take(self, last: str) -> None:
        """Go on to the ids after the last range, up to this one."""
        self.files = {}
        while self._next is not None and self._next[0] <= last:
            self.files[self._next[0]] = self._next[1]
            self._next = next(self._rows, None)

    def rest(self) -> set[str]:
        """Return the ids behind the last range."""
        more = set() if self._next is None else {self._next[0]}
        return more | {image_id for image_id, _ in self._rows}


def image_faults(
    root: Place,
    order: Sequence[ShardEntry],
    records: Iterable[ShardRecord | None],
    readable: bool = True,
    changed: bool = False,
) -> Iterator[Fault]:
    """Yield which images are in two shards, in none, or not in `images.parquet`.

    Args:
        root: the store.
        order: shards by their first image.
        records: of each; None where it cannot be read: its images are taken to be right.
        readable: whether `images.parquet` is what was written.
        changed: also read the image files, and tell which shards' have changed.
    """
    rest = iter(records)
    with _Listed(root, readable) as listed:
        for group in _overlapping(order):
            held = [record for record in islice(rest, len(group)) if record is not None]
            seen: dict[str, str] = {}
            for record in held:
                for image_id in record.image_ids:
                    if image_id in seen:
                        problem = f"holds image {image_id}, which is in {seen[image_id]} too"
                        yield Fault(record.shard_id, problem)
                    seen[image_id] = record.shard_id
            listed.take(max(entry.last or "" for entry in group))
            if readable and len(held) == len(group) and (missing := set(listed.files) - set(seen)):
                yield Fault(IMAGES, f"lists {_some(missing)} in no shard")
            if readable and (foreign := set(seen) - set(listed.files)):
                name = min(foreign)
                yield Fault(seen[name], f"holds image {name}, which {IMAGES} does not list")
            if readable and changed:
                yield from _changed_images(held, listed.files)
        if more := listed.rest():
            yield Fault(IMAGES, f"lists {_some(more)} in no shard")


def _some(image_ids: set[str]) -> str:
    first = f"image {min(image_ids)}"
    return (
        f"{first}, which is"
        if len(image_ids) == 1
        else (f"{len(image_ids):,} images, such as {first}, which are")
    )


def _changed_images(
    records: Sequence[ShardRecord], files: Mapping[str, ImageFile]
) -> Iterator[Fault]:
    with ThreadPoolExecutor(READERS, thread_name_prefix="images") as pool:
        for record in records:
            for problem in changes(record, files, pool):
                yield Fault(record.shard_id, problem, Cure.images)
