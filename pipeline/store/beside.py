"""The same windows in another store: their vectors of another layer, image by image."""

import numpy as np
from jaxtyping import Int

from pipeline.errors import InputError
from pipeline.store.blocks import Block, as_block
from pipeline.store.reader import Store
from pipeline.store.rows import Vectors
from pipeline.store.scan import scan_shard
from pipeline.store.schema import image_slices


class Beside:
    """Vectors of windows that are named by another store, which was made of the same windows.

    Shards of the two may end at different images.
    """

    def __init__(self, store: Store, other: Store) -> None:
        """Read from a store for who has the windows of another one.

        Raises:
            InputError: the two were made of different windows.
        """
        for name in ("dataset", "windows"):
            mine, theirs = (each.made_from.get(name) for each in (store, other))
            if None not in (mine, theirs) and mine != theirs:
                raise InputError(
                    f"{store.root} was made of {name} {mine}, and {other.root} of {theirs}: "
                    "extract them again from one recipe"
                )
        self._store, self._vectors = store, Vectors(store)
        self._images: dict[str, tuple[int, int]] = {}
        """First row and number of windows of each image of the shard that was asked last."""

    def vectors(self, image_id: str, windows: int, chosen: Int[np.ndarray, " chosen"]) -> Block:
        """Return the vectors of some windows of an image.

        Args:
            image_id: of the image.
            windows: how many the other store has of it.
            chosen: places among these.

        Raises:
            InputError: this store lacks the image, or has other windows of it.
        """
        if image_id not in self._images:
            self._images = self._shard_with(image_id)
        first, count = self._images[image_id]
        if count != windows:
            raise InputError(
                f"{self._store.root} has {count} windows of image {image_id}, where {windows} "
                "were scored: the two stores were made of different windows; extract again"
            )
        return as_block(self._vectors.take(first + chosen))

    def _shard_with(self, image_id: str) -> dict[str, tuple[int, int]]:
        shard = self._store.shard_of(image_id)
        if shard is None:
            raise InputError(f"{self._store.root} has no image {image_id}: extract it again")
        row, images = int(self._vectors.first[shard]), {image_id: (0, 0)}
        for table in scan_shard(self._store, self._store.shards[shard].shard_id, ["image_id"]):
            for name, part in image_slices(table):
                begun, count = images.get(name, (row + part.start, 0))
                begun = begun if count else row + part.start
                images[name] = (begun, count + part.stop - part.start)
            row += len(table)
        return images
