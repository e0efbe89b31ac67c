"""Reading, decoding and resizing as tasks, for machines with more GPU than CPU."""

import threading
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from pipeline.extraction import Decoder, Ready

RETRIES = 3  # by Ray itself, on another machine
ANSWER_S = 60  # an image takes tenths of a second: no CPU is free, for others hold them all


class Elsewhere:
    """Makes of an actor's decoders such as ask others; knows whether the others have room.

    Where a task is not answered in time, it stays asked for, and until it is answered nobody waits
    for another one: images are decoded in the actor, shard after shard.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: ray.ObjectRef | None = None
        self._here = 0

    def __call__(self, decoder: Decoder) -> "ClusterDecoder":
        """Return a shard's decoder."""
        return ClusterDecoder(decoder, self)

    def has_room(self) -> bool:
        """Return whether somebody had a CPU when that was looked at last."""
        with self._lock:
            if self._waiting is not None and ray.wait([self._waiting], timeout=0)[0]:
                self._waiting = None
            return self._waiting is None

    def is_full(self, waiting: ray.ObjectRef) -> None:
        """Take note of a task that nobody has had a CPU for."""
        with self._lock:
            if self._waiting is None:
                self._waiting = waiting
            else:  # one tells as much as many
                ray.cancel(waiting)

    def count_here(self) -> None:
        """Take note of an image that was decoded in the actor."""
        with self._lock:
            self._here += 1

    def decoded_here(self) -> int:
        """Return how many images were decoded in the actor since the last call."""
        with self._lock:
            count, self._here = self._here, 0
            return count


class ClusterDecoder:
    """A shard's decoder, each call of which is a task on a CPU somewhere.

    Ray keeps tasks that ask for no GPU away from machines that have some, while others have room.
    How many are in flight is up to the threads that call. What cannot be had from others is done
    here: the cluster may be full, or a machine may die with what it made.
    """

    def __init__(self, decoder: Decoder, elsewhere: Elsewhere) -> None:
        self._decoder, self._elsewhere = decoder, elsewhere
        self._shared = ray.put(decoder)

    def __call__(self, image_id: str) -> Ready:
        """Read, decode and resize one image, elsewhere."""
        if not self._elsewhere.has_room():
            return self._decode_here(image_id)
        ref: Any = _decode.remote(self._shared, image_id)
        try:
            ready: Ready = ray.get(ref, timeout=ANSWER_S)
        except RayTaskError as error:
            if isinstance(error.cause, OSError):  # a machine without the mount, or a failing disk
                return self._decode_here(image_id)
            raise error.cause from error
        except GetTimeoutError:
            self._elsewhere.is_full(ref)
            return self._decode_here(image_id)
        except RayError:
            return self._decode_here(image_id)
        return replace(ready, windows=self._decoder.windows(image_id))

    def _decode_here(self, image_id: str) -> Ready:
        self._elsewhere.count_here()
        return self._decoder(image_id)


@ray.remote(num_cpus=1, max_retries=RETRIES)
def _decode(decoder: Decoder, image_id: str) -> Ready:
    ready = decoder(image_id)
    return replace(ready, windows=ready.windows[:0])  # who asks has them
