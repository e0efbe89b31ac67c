"""An image whose decoder ends the process: it is quarantined, and all others are done."""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray

from actors import crew, pool
from actors.runner import RayRunner
from actors.worker import Worker
from pipeline import images, index
from pipeline.apart import FAULTS, EndedError, read_apart, trial
from pipeline.datasets.records import ImageRecord
from pipeline.extraction import ExtractionSpec, ShardExtractor, ShardStats
from pipeline.store import ShardPlan
from pipeline.store.records import read_record
from tests.actors_tests.scenes import Events, extract
from tests.fuzz_tests.targets import KEPT
from tests.noise import dataset

DEADLY = b"deadly"  # behind the end of a PNG, where no decoder looks
IDS = [f"{number:02d}" for number in range(11)]
PLANS = [ShardPlan("00000", tuple(IDS[:6]), 42, 1), ShardPlan("00001", tuple(IDS[6:]), 35, 1)]


def dies(reader: str, *arguments: str, given: bytes = b"", timeout_s: float = 0) -> bytes:
    """A process that reads the image for this one, and dies of it."""
    if given.endswith(DEADLY):
        raise EndedError("reading it ended the reader (SIGSEGV)", signal.SIGSEGV)
    return b""


@contextmanager
def fragile() -> Iterator[None]:
    """Decode as a library in C does that believes a damaged file: no such file is known today."""
    opened = images._open

    def opening(file):
        if file.getvalue().endswith(DEADLY):
            ctypes.string_at(0)  # at once, in this very thread
        return opened(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_open", opening)
        patch.setattr(trial, "read_apart", dies)
        yield


@ray.remote
class Fragile:
    """The extractor's methods."""

    def __init__(self, spec: ExtractionSpec) -> None:
        self._spec = spec

    def place(self) -> Worker:
        return Worker.here()

    def ready(self) -> Worker:
        self._fragile = fragile()  # for as long as this lives: two shards are decoded at a time
        self._fragile.__enter__()
        self._extract = ShardExtractor(self._spec)
        return Worker.here()

    def extract(self, plan: ShardPlan, wary: bool = False) -> ShardStats:
        with trial.wary() if wary else nullcontext():
            return replace(self._extract(plan), worker=str(Worker.here()))


@pytest.fixture
def spec(tmp_path: Path) -> ExtractionSpec:
    """Twelve images, of which the fourth is deadly."""
    made = dataset(tmp_path)
    path = tmp_path / "03.png"
    path.write_bytes(path.read_bytes() + DEADLY)
    rows = pq.read_table(made.images).to_pylist()
    records = [
        ImageRecord(row["image_id"], Path(row["file"]), row["width"], row["height"], ())
        for row in rows
    ]
    pq.write_table(index.images_table(records, "train"), made.images)
    return made


@pytest.mark.usefixtures("ray_cluster")
def test_an_image_that_ends_workers_is_told_from_the_others(
    spec: ExtractionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: Events = []
    monkeypatch.setattr(crew, "Extractor", Fragile)
    monkeypatch.setattr(pool, "WATCH_S", 0.2)
    found = extract(RayRunner(), spec, PLANS, events, retries=2)
    assert set(found.values()) == {"done"}, found
    record = read_record(spec.root, "00000")
    assert record is not None
    assert list(record.quarantined) == ["03"]
    assert "SIGSEGV" in record.quarantined["03"]
    assert sorted(record.images) == ["00", "01", "02", "04", "05"]
    other = read_record(spec.root, "00001")
    assert other is not None
    assert sorted(other.images) == ["06", "07", "08", "09", "10"]
    assert any(kind == "actor_died" for _, kind, _ in events)


@dataclass(frozen=True)
class Read:
    """What a task came to."""

    reason: str


def read(path: Path) -> Read:
    with fragile():
        try:
            images.load(path)
        except images.UndecodableImage as error:
            return Read(str(error))
    return Read("")


@pytest.mark.usefixtures("ray_cluster")
def test_a_task_that_dies_of_an_image_is_tried_once_more_warily(spec: ExtractionSpec) -> None:
    folder = spec.images.parent
    items = {name: folder / f"{name}.png" for name in ("02", "03")}
    found = {each.key: each for each in RayRunner().map(read, items)}
    assert found["02"].result == Read("")
    assert found["03"].error is None
    assert "SIGSEGV" in found["03"].result.reason


def test_a_process_that_dies_is_told_by_its_signal() -> None:
    # SciPy's reader, and a file that ends it.
    path = KEPT / "windows-mat" / "ends-the-process-1.mat"
    with pytest.raises(EndedError, match=r"ended the reader \(SIG\w+\): it is damaged") as ended:
        read_apart("matlab", str(path))
    assert ended.value.sign in FAULTS


def test_a_real_process_reads_the_image(tmp_path: Path, spec: ExtractionSpec) -> None:
    data = (spec.images.parent / "03.png").read_bytes()
    assert read_apart("image", str(images.MAX_PIXELS), given=data) == b""
    with pytest.raises(EndedError, match="its reader does not run here: ValueError"):
        read_apart("image", "many", given=data)
    with trial.wary():
        assert trial.is_fatal(data, images.MAX_PIXELS) is None
        assert trial.is_fatal(b"no image", images.MAX_PIXELS) is None
        assert images.decode(data).shape == (70, 90, 3)
