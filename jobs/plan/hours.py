"""From seconds an image to hours and a price: arithmetic on whole shards, nothing measured here."""

from dataclasses import dataclass
from math import ceil

HOUR_S = 3600


@dataclass(frozen=True)
class Rates:
    """What one worker takes."""

    extract_s: float
    """Seconds an image, decoding to commit."""
    windows_s: float | None
    """Seconds an image and CPU; None where nobody measured it."""
    startup_s: float
    """Until a worker has loaded its network."""
    source: str
    """Where the figures come from, in words."""


@dataclass(frozen=True)
class Work:
    """What there is to do."""

    images: int
    shards: int
    chunks: int
    """Tasks of the job `windows`."""
    bytes: int
    """Of the stores."""
    taken_over: int = 0
    """Images whose windows and features earlier jobs have: as if these took no time."""


@dataclass(frozen=True)
class Hours:
    """What a number of workers takes."""

    workers: int
    windows_s: float | None
    extract_s: float
    rounds: int
    """Shards that the busiest worker does: nobody helps with another one's."""
    price: float | None
    """Workers × hours × what a worker's hour costs."""
    bytes_per_s: float
    """That they write together: what they share, a disk or a network, must take it."""

    @property
    def total_s(self) -> float:
        """Windows, then features; training and mining come on top."""
        return (self.windows_s or 0.0) + self.extract_s


def project_hours(
    work: Work, rates: Rates, workers: int, cpus: int = 1, hour_price: float | None = None
) -> Hours:
    """Return what so many workers take for all windows and features.

    Linear in the workers as long as shards suffice and what they share takes `bytes_per_s`.

    Args:
        work: of all image sets.
        rates: of one worker while its machine is as busy as it will be.
        workers: extractors at work at a time.
        cpus: of each: windows are made by a task on every CPU.
        hour_price: of one worker.

    >>> rates = Rates(2.0, 1.0, 10.0, "")
    >>> done = project_hours(Work(70, 7, 10, 1400), rates, 3)  # 10 images a shard, 7 a chunk
    >>> done.rounds, done.extract_s, done.windows_s  # 3 shards of 20 s; 4 chunks of 7 s
    (3, 70.0, 28.0)
    >>> project_hours(Work(70, 7, 10, 1400, taken_over=35), rates, 3).total_s  # 10 + 60/2 + 28/2
    54.0
    >>> done.bytes_per_s  # 20 bytes an image, 1.5 images a second
    30.0
    """
    rounds = ceil(work.shards / workers)
    images = work.images - work.taken_over
    extract_s = rounds * images / max(work.shards, 1) * rates.extract_s
    extract_s += rates.startup_s if work.shards else 0.0
    windows_s = None
    if rates.windows_s is not None:
        turns = ceil(work.chunks / (workers * cpus))
        windows_s = turns * images / max(work.chunks, 1) * rates.windows_s
    hours = ((windows_s or 0.0) + extract_s) / HOUR_S
    price = None if hour_price is None else workers * hours * hour_price
    busy = min(workers, work.shards) / rates.extract_s  # images a second
    written = busy * work.bytes / max(work.images, 1)
    return Hours(workers, windows_s, extract_s, rounds, price, written)
