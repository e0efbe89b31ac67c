"""Reading, decoding and resizing as tasks, for machines with more GPU than CPU."""

from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from pipeline.extraction import Decoder, Ready

RETRIES = 3  # by Ray itself, on another machine
ANSWER_S = 60  # an image takes tenths of a second: no CPU is free, for others hold them all


class ClusterDecoder:
    """A shard's decoder, each call of which is a task on a CPU somewhere.

    Ray keeps tasks that ask for no GPU away from machines that have some, while others have room.
    How many are in flight is up to the threads that call. What cannot be had from others is done
    here: the cluster may be full, or a machine may die with what it made.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._shared = ray.put(decoder)
        self._is_full = False

    def __call__(self, image_id: str) -> Ready:
        """Read, decode and resize one image, elsewhere."""
        if self._is_full:
            return self._decoder(image_id)
        ref: Any = _decode.remote(self._shared, image_id)
        try:
            ready: Ready = ray.get(ref, timeout=ANSWER_S)
        except RayTaskError as error:
            raise error.cause from error
        except GetTimeoutError:
            ray.cancel(ref)
            self._is_full = True  # the rest of the shard would wait as long, image by image
            return self._decoder(image_id)
        except RayError:
            return self._decoder(image_id)
        return replace(ready, windows=self._decoder.windows(image_id))


@ray.remote(num_cpus=1, max_retries=RETRIES)
def _decode(decoder: Decoder, image_id: str) -> Ready:
    ready = decoder(image_id)
    return replace(ready, windows=ready.windows[:0])  # who asks has them
