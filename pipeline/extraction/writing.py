"""The last stage: vectors or maps to rows of the shard, on a thread of its own."""

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline import features, spp
from pipeline.extraction.decoding import Ready
from pipeline.extraction.vectors import Made, Maps, Part, TakenOver
from pipeline.store.map_spec import MapSpec
from pipeline.store.maps import maps_table
from pipeline.store.schema import BOX_COLUMNS, SCALARS, VectorSpec
from pipeline.store.shards import ShardWriter


class RowWriter:
    """Writes images in the order in which they come, and counts what it wrote."""

    def __init__(
        self,
        writer: ShardWriter,
        vector: VectorSpec,
        maps: MapSpec | None,
        split: str,
        copies: "torch.cuda.Stream | None" = None,
    ) -> None:
        """Take what all images have in common.

        Args:
            writer: of the shard.
            vector: what vectors look like.
            maps: what maps look like, in a store of maps.
            split: name of the image set.
            copies: the stream on which a GPU's answers are fetched: on the network's own they
                would wait behind the next image.
        """
        self._writer, self._vector, self._maps = writer, vector, maps
        self._split, self._copies = split, copies
        self._begun: list[Tensor] = []
        """Vectors of an image of which more are to come."""
        self.images: dict[str, int] = {}
        """Rows of each image."""
        self.reused = 0
        """Windows that share their cells with another one, and so its vector."""
        self.taken = 0
        """Images whose rows were taken over from an earlier store."""

    @torch.inference_mode()
    def __call__(self, part: Made, made: "torch.cuda.Event | None") -> None:
        """Write the images that are complete with this part; `made`: when a GPU has it."""
        with torch.cuda.stream(self._copies):
            if self._copies is not None and made is not None:
                self._copies.wait_event(made)
            if isinstance(part, Maps):
                self._store_maps(part)
            elif isinstance(part, TakenOver):
                self._take_over(part)
            else:
                self._take(part)

    def _take_over(self, part: TakenOver) -> None:
        image_id, held = part.ready.image_id, part.rows
        if self._maps is None:
            self._write(part.ready, held.scales, held.vectors())
        else:
            for scale_px, factors, feature_map in held.maps():
                table = maps_table(image_id, scale_px, factors, feature_map, self._maps)
                self._writer.write_maps(table)
            self._write(part.ready, held.scales, None)
        self.taken += 1

    def _store_maps(self, part: Maps) -> None:
        ready = part.ready
        for resized, feature_map in zip(ready.resized, part.narrow(), strict=True):
            assert self._maps is not None  # the shard's maker is chosen by it
            place = (ready.image_id, resized.scale_px, resized.factors)
            self._writer.write_maps(maps_table(*place, feature_map.cpu(), self._maps))
        self._write_made(ready, None)

    def _take(self, part: Part) -> None:
        vectors, start = _on_host(part.narrow()), 0
        for ready, count in part.pieces:
            self._begun.append(vectors[start : start + count])
            start += count
            if sum(map(len, self._begun)) == ready.distinct.count:
                whole = self._begun[0] if len(self._begun) == 1 else torch.cat(self._begun)
                self._begun = []
                self._write_made(ready, _spread(whole, ready.distinct.rows).numpy())
        part.release()

    def _write_made(self, ready: Ready, vectors: Float[np.ndarray, "windows dim"] | None) -> None:
        self._write(ready, features.scale_of(ready.resized, ready.places), vectors)
        self.reused += len(ready.windows) - ready.distinct.count

    def _write(
        self,
        ready: Ready,
        scales: Int[np.ndarray, " windows"],
        vectors: Float[np.ndarray, "windows dim"] | None,
    ) -> None:
        """Write the rows of one image."""
        given, count = ready.windows, len(ready.windows)
        columns = [
            *(given[name] for name in ("image_id", "window_id", *BOX_COLUMNS)),
            pa.array(scales),
            given["source"],
            pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [self._split]),
        ]
        if vectors is None:
            rows = pa.table(columns, schema=pa.schema(SCALARS))
        else:
            column = self._vector.to_arrow(vectors)
            rows = pa.table([*columns, column], schema=self._vector.schema())
        self._writer.write(rows)
        self.images[ready.image_id] = count


def _spread(
    vectors: Float[Tensor, "distinct dim"], rows: Int[np.ndarray, " windows"]
) -> Float[Tensor, "windows dim"]:
    """Return each window's vector, in memory of its own: it stays until its row group is full."""
    out = spp.empty_vectors(len(rows), vectors.shape[1], vectors)
    return torch.index_select(vectors, 0, torch.from_numpy(rows), out=out)


def _on_host(vectors: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    if vectors.device.type == "cpu":
        return vectors
    # Not `.cpu()`, whose new pages take longer to fill than the bus to bring their content.
    like = vectors.new_empty(0, device="cpu")
    return spp.empty_vectors(vectors.shape[0], vectors.shape[1], like).copy_(vectors)
