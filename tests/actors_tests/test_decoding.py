"""Images that are decoded by tasks: elsewhere, again where one died, here where nobody has room."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from actors import decoding
from actors.decoding import ClusterDecoder, Elsewhere
from pipeline.extraction import Ready
from pipeline.windows.table import WINDOWS
from tests.actors_tests.script import wait_until

pytestmark = pytest.mark.usefixtures("ray_cluster")


@dataclass
class Scripted:
    """A decoder that says which process it ran in."""

    folder: Path
    dies: int = 0

    def __call__(self, image_id: str) -> Ready:
        number = len(list(self.folder.iterdir()))
        (self.folder / f"{image_id}.{number}").touch()
        if number < self.dies:
            os._exit(1)
        if image_id == "disk":
            raise OSError("the disk failed")
        reason = "it is no image" if image_id == "bad" else None
        return Ready(image_id, str(os.getpid()).encode(), self.windows(image_id), reason)

    def windows(self, image_id: str) -> pa.Table:
        columns = [[image_id], [7], [2.0], [3.0], [5.0], [11.0]]
        arrays = [pa.array(one, each.type) for one, each in zip(columns, WINDOWS, strict=False)]
        return pa.table([*arrays, pa.array(["grid"]).dictionary_encode()], schema=WINDOWS)


def decoder(folder: Path, dies: int = 0, elsewhere: Elsewhere | None = None) -> ClusterDecoder:
    given: Any = Scripted(folder, dies)
    return (elsewhere or Elsewhere())(given)


def test_an_image_is_decoded_by_another_process_and_has_its_windows(tmp_path: Path) -> None:
    ready = decoder(tmp_path)("a")
    assert int(ready.sha256) != os.getpid()
    assert ready.windows["window_id"].to_pylist() == [7]


def test_what_is_wrong_is_told_as_it_would_be_here(tmp_path: Path) -> None:
    decode = decoder(tmp_path)
    assert decode("bad").reason == "it is no image"
    with pytest.raises(OSError, match="the disk failed"):
        decode("disk")


def test_a_task_that_died_is_done_again(tmp_path: Path) -> None:
    ready = decoder(tmp_path, dies=1)("a")
    assert int(ready.sha256) != os.getpid()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_dies_again_and_again_is_done_here(tmp_path: Path) -> None:
    elsewhere = Elsewhere()
    decode = decoder(tmp_path, 1 + decoding.RETRIES, elsewhere)
    assert int(decode("a").sha256) == os.getpid()
    assert elsewhere.has_room()
    assert elsewhere.decoded_here() == 1


@pytest.fixture
def full() -> Iterator[Callable[[], None]]:
    """A cluster whose CPUs are all held by others, until they are told to go."""

    @ray.remote(num_cpus=1)
    class Holder:
        def here(self) -> bool:
            return True

    holders: list[Any] = [Holder.remote() for _ in range(2)]
    ray.get([each.here.remote() for each in holders])

    def go() -> None:
        while holders:
            ray.kill(holders.pop())
        wait_until(lambda: ray.available_resources().get("CPU") == 2)

    yield go
    go()


def test_where_nobody_has_room_it_is_done_here_until_somebody_has(
    tmp_path: Path, full: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "ANSWER_S", 1)
    elsewhere = Elsewhere()
    first = decoder(tmp_path, elsewhere=elsewhere)
    with ThreadPoolExecutor() as threads:
        assert [int(each.sha256) for each in threads.map(first, "ab")] == [os.getpid()] * 2
    with monkeypatch.context() as patch:
        patch.delattr(decoding, "_decode")  # nobody is asked again, nor for the next shard
        second = decoder(tmp_path, elsewhere=elsewhere)
        assert int(second("c").sha256) == os.getpid()
    assert (elsewhere.decoded_here(), elsewhere.decoded_here()) == (3, 0)
    full()
    wait_until(elsewhere.has_room)
    assert int(second("d").sha256) != os.getpid()
    # Of the first two one was still asked for, and with the fourth that makes five.
    assert elsewhere.decoded_here() == 0
    assert len(list(tmp_path.iterdir())) == 5
