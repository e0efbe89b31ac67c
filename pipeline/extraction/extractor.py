"""One shard after the other, from a plan to a commit."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import cv2
import torch

from pipeline import machine
from pipeline.errors import InputError
from pipeline.extraction.decoding import Decoder, Ready
from pipeline.extraction.earlier import EarlierStore, HeldRows, held_rows
from pipeline.extraction.grouping import batched, in_order, of_equal_sizes, of_one_size
from pipeline.extraction.spec import ExtractionSpec, map_spec, vector_spec
from pipeline.extraction.stages import Stage
from pipeline.extraction.stats import Clock, ShardStats
from pipeline.extraction.vectors import (
    Fc,
    Made,
    Maker,
    Pooled,
    Spare,
    Stored,
    Taking,
    Warped,
    run_network,
)
from pipeline.extraction.writing import RowWriter
from pipeline.networks import Network, digest
from pipeline.store.labels import read_labels
from pipeline.store.place import place
from pipeline.store.plan import ShardPlan
from pipeline.store.records import ShardRecord, read_record, require_same_making
from pipeline.store.shards import ShardWriter
from pipeline.windows.table import WindowTables

DECODING_ELSEWHERE = 8  # images that others have in hand for a shard: one GPU's work
WRITING = 2  # parts in hand of the writing stage: one at work, one ready


class ShardExtractor:
    """Holds the network, and turns shard plans into committed shards.

    May be called from two threads at a time: while one shard is brought to the disk, the next
    one's images are decoded and go through the network. The network works for one shard at a time,
    and what a shard holds does not depend on who was faster.

    Memory beside the network, at most:

    - images decoded and resized: `decode_threads` + `features.images_per_batch` ahead, for each of
      the two shards, and `features.images_in_hand` + 1 whose turn it is;
    - activations of `features.images_per_batch` images at one scale, and feature maps of
      `features.images_in_hand`;
    - for fc layers one batch: `features.fc_rows` × the length of pool5's vector;
    - vectors on their way to the disk: `WRITING` + 1 images' (of fc layers: batches', before and
      after rounding), with the maps they were pooled from, and an image's once more while reused
      ones are copied; the row group that is gathered (`features.row_group_bytes` and one image). Of
      two shards these can be twice; memory that pool5 was pooled into is kept for the next images;
    - of rows that are taken over an image's vectors instead, and where the earlier store is not of
      this machine one row group. Files of this machine are mapped: that memory is the system's.

    `pipeline.extraction.memory` makes bytes of that, and of what the allocator holds back, which is
    handed to the system after each shard.
    """

    def __init__(
        self,
        spec: ExtractionSpec,
        elsewhere: Callable[[Decoder], Callable[[str], Ready]] | None = None,
    ) -> None:
        """Load the network.

        Args:
            spec: what to extract, and how.
            elsewhere: makes of a shard's decoder one that has others do the work; its calls wait in
                the decoding threads, which bound how many are under way. None: here.
        """
        torch.set_num_threads(spec.threads)
        cv2.setNumThreads(spec.threads)  # decoding has threads of its own
        self._spec = spec
        # TF32 keeps 10 bits of a product, fewer than a stored float16 has.
        torch.backends.cudnn.allow_tf32 = False
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = spec.network.load()
        _require_same(network, spec)
        self._network = network.to(self._device)
        self._vector = vector_spec(self._network, spec.features)
        self._maps = map_spec(self._network, spec.features)
        self._windows = WindowTables(spec.windows)
        # Of the network, decoding needs no weight: a decoder may be sent to others.
        self._outline = spec.network.outline(self._network.preprocessing)
        self._elsewhere = elsewhere
        usual = 4 if self._device.type == "cuda" else 1
        if elsewhere is not None:
            usual = DECODING_ELSEWHERE
        self._decode_threads = spec.decode_threads or usual
        self._copies = torch.cuda.Stream() if self._device.type == "cuda" else None
        self._turn, self._ending = threading.Lock(), threading.Lock()
        self._batch: torch.Tensor | None = None
        self._spare = Spare()
        self._earlier = [EarlierStore(each) for each in spec.earlier]
        self._ended_s = 0.0

    def __call__(self, plan: ShardPlan) -> ShardStats:
        """Extract and commit one shard; a shard that is committed already is left as it is."""
        spec, started_s = self._spec, time.perf_counter()
        record = read_record(spec.root, plan.shard_id)
        if record is not None:
            require_same_making(spec.root, record, spec.made_from)
            return _stats(record)
        torch.set_num_threads(spec.threads)  # each thread of a process has its own number
        work, waits = Clock(self._device), Clock(torch.device("cpu"))
        listed = read_labels(place(spec.images.parent), spec.images.name, plan.image_ids)
        rows_of = {row["image_id"]: row for row in listed.to_pylist()}
        windows = self._windows.read(plan.image_ids)
        held = held_rows(self._earlier, listed, windows)
        decoder = Decoder(rows_of, windows, self._outline, spec.features, frozenset(held))
        decode_one = decoder if self._elsewhere is None else self._elsewhere(decoder)
        schema, group_bytes = self._vector.schema(), spec.features.row_group_bytes
        ahead = self._decode_threads + spec.features.images_per_batch
        with (
            ShardWriter(spec.root, plan.shard_id, schema, group_bytes, self._maps) as writer,
            Stage("decode", work, waits, ahead, self._decode_threads) as decode,
            Stage("write", work, waits, WRITING) as write,
        ):
            rows = RowWriter(writer, self._vector, self._maps, spec.split, self._copies)
            inputs = _Inputs(decode.map(decode_one, plan.image_ids))
            with self._turn:
                for part in self._parts(inputs, held, work):
                    write.put(rows, part, self._made())
            made = (spec.made_from, rows.images, inputs.quarantined)
            record = write.finish(lambda: writer.commit(*made, inputs.digest.hexdigest()))
        machine.hand_back()
        # Two shards overlap: what is counted for one is not counted for the other.
        with self._ending:
            begun_s, self._ended_s = max(started_s, self._ended_s), time.perf_counter()
            total_s = self._ended_s - begun_s
        times = (work.seconds(), waits.seconds(), total_s, self._decode_threads)
        stats = _stats(record, rows.reused, *times, machine.peak_bytes())
        return replace(stats, taken=rows.taken)

    def _parts(
        self, inputs: "_Inputs", held: Mapping[str, HeldRows], clock: Clock
    ) -> Iterator[Made]:
        """Yield what is to be written, in the order of the images."""
        maker = self._maker(clock)
        if held:
            maker = Taking(maker, held)
        if self._spec.features.mode == "warp":
            for ready in inputs:
                yield from maker.add(ready, ())
            return
        most, hand = self._spec.features.images_per_batch, self._spec.features.images_in_hand
        for near in [inputs] if hand == most else batched(inputs, hand):
            groups = of_one_size(near, most) if hand == most else of_equal_sizes(near, most)
            made = (each for group in groups for each in run_network(group, self._network, clock))
            # In the order of the images, whatever the order in which the network saw them.
            for ready, maps in made if hand == most else in_order(near, made):
                yield from maker.add(ready, maps)
        yield from maker.rest()

    def _maker(self, clock: Clock) -> Maker:
        network, settings = self._network, self._spec.features
        if self._maps is not None:
            return Stored(settings)
        if settings.mode == "warp":
            return Warped(network, settings, clock)
        if settings.layer == "pool5":
            return Pooled(network, settings, clock, self._spare)
        if self._batch is None:
            length = network.layer_size("pool5", settings.levels)
            self._batch = torch.empty(
                settings.fc_rows, length, dtype=network.dtype, device=self._device
            )
        return Fc(network, settings, clock, self._batch)

    def _made(self) -> "torch.cuda.Event | None":
        """Mark the place in the device's work where all that was asked for so far is done."""
        if self._copies is None:
            return None
        event = torch.cuda.Event()
        event.record()
        return event


def _require_same(network: Network, spec: ExtractionSpec) -> None:
    """Refuse weights that are not those the store is made from.

    Raises:
        InputError: the file was replaced since the run began, or is another one on this machine.
    """
    if spec.network_digest is None or (held := digest(network)) == spec.network_digest:
        return
    raise InputError(
        f"the weights {spec.network.weights} give network {held[:12]} on {socket.gethostname()}, "
        f"and the run began with {spec.network_digest[:12]}: let all machines see one file, and "
        "run the same command again"
    )


class _Inputs:
    """The images that can be read, in order; takes note of the others, and of all files' bytes."""

    def __init__(self, prepared: Iterator[Ready]) -> None:
        self._prepared = prepared
        self.quarantined: dict[str, str] = {}
        self.digest = sha256()

    def __iter__(self) -> Iterator[Ready]:
        for ready in self._prepared:
            self.digest.update(ready.sha256)
            if ready.reason is None:
                yield ready
            else:
                self.quarantined[ready.image_id] = ready.reason


def _stats(record: ShardRecord, reused: int = 0, *times: Any) -> ShardStats:
    done = (len(record.images), record.quarantined)
    return ShardStats(record.shard_id, record.rows, record.bytes, *done, reused, *times)
