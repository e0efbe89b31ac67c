"""What 10⁶, 10⁸ and 10¹⁰ images take: the tables of SCALE.md, computed from measured rates.

    python deploy/scale.py            # the tables, with the rates below
    python deploy/scale.py --write    # put them into SCALE.md

Change `RATES` and `PRICES` to your own: `spp plan RECIPE --probe` measures the first.
"""

import re
import sys
from dataclasses import dataclass
from math import ceil
from pathlib import Path

PAGE = Path(__file__).with_name("SCALE.md")
COUNTS = (10**6, 10**8, 10**10)
WORKERS = 1000  # CPUs


@dataclass(frozen=True)
class Rates:
    """What one image costs; measured on photographs of 500×375 px unless said otherwise."""

    windows: int = 1100
    windows_s: float = 0.8
    """Selective search at the image's own size; 0 for ready-made windows."""
    extract_s: float = 0.1
    """SqueezeNet at 480 px, decoding and writing included, on one core."""
    vector_bytes: int = 2 * 7168
    maps_bytes: int = 186_000
    """Packed."""
    shard_bytes: int = 256_000_000
    shard_images: int = 64
    manifest_bytes: int = 213
    """Of each shard."""
    driver_image_bytes: int = 270
    """The driver's tables, and what planning them takes at most."""
    driver_shard_bytes: int = 1000
    driver_bytes: int = 450_000_000
    """Interpreter and libraries."""
    fingerprint_s: float = 50e-6
    """Looking at an image's two files, on the local disk of a busy machine."""


@dataclass(frozen=True)
class Prices:
    """In dollars; list prices of a large cloud, rounded. Yours differ."""

    cpu_hour: float = 0.045
    gigabyte_month: float = 0.023
    thousand_puts: float = 0.005
    """And listings."""
    thousand_gets: float = 0.0004


RATES, PRICES = Rates(), Prices()
LISTED = 1000  # objects that an object store lists in one request
PART_BYTES = 1 << 24  # of an upload in parts: pipeline.store.objects


@dataclass(frozen=True)
class Scale:
    """What a number of images takes, as vectors or as maps."""

    images: int
    maps: bool
    rates: Rates = RATES
    prices: Prices = PRICES

    @property
    def image_bytes(self) -> int:
        """Stored for one image."""
        rates = self.rates
        return rates.maps_bytes if self.maps else rates.windows * rates.vector_bytes

    @property
    def shards(self) -> int:
        """Bounded by bytes or by images."""
        fitting = max(self.rates.shard_bytes // self.image_bytes, 1)
        return ceil(self.images / min(fitting, self.rates.shard_images))

    @property
    def stored_bytes(self) -> int:
        """Of all shards."""
        return self.images * self.image_bytes

    @property
    def manifest_bytes(self) -> int:
        """One line for each shard, no image."""
        return self.shards * self.rates.manifest_bytes

    @property
    def lists(self) -> int:
        """Requests to list all records once: what resuming begins with, or a look at the status."""
        return ceil(self.shards / LISTED)

    @property
    def run_lists(self) -> int:
        """Listing requests of a run: records at its begin, for its log and at its end; and data."""
        return self.lists * (3 + 1 + self.maps)

    @property
    def gets(self) -> int:
        """Reading requests of a run: each record before and after, each data file once it is up."""
        return self.shards * (2 + 1 + self.maps)

    @property
    def fingerprint_s(self) -> float:
        """What each command begins with."""
        return self.images * self.rates.fingerprint_s

    @property
    def driver_bytes(self) -> int:
        """Most that the driver holds."""
        rates = self.rates
        tables = self.images * rates.driver_image_bytes + self.shards * rates.driver_shard_bytes
        return rates.driver_bytes + tables

    @property
    def puts(self) -> int:
        """Writing requests: a record and the files of each shard, large ones in parts."""
        file_bytes = self.stored_bytes // self.shards
        parts = ceil(file_bytes / PART_BYTES)
        data = 1 if parts == 1 else parts + 2  # begin and end of an upload in parts
        return self.shards * (data + 1 + self.maps)

    @property
    def cpu_hours(self) -> float:
        """Windows and extraction."""
        return self.images * (self.rates.windows_s + self.rates.extract_s) / 3600

    @property
    def dollars(self) -> float:
        """Computing and requests, once."""
        prices = self.prices
        writing = (self.puts + self.run_lists) / 1000 * prices.thousand_puts
        return self.cpu_hours * prices.cpu_hour + writing + self.gets / 1000 * prices.thousand_gets

    @property
    def monthly_dollars(self) -> float:
        """Keeping it."""
        return self.stored_bytes / 1e9 * self.prices.gigabyte_month


def table(maps: bool) -> str:
    """Return the table of one kind of store, in Markdown."""
    scales = [Scale(images, maps) for images in COUNTS]
    lines = {
        "stored": [_bytes(each.stored_bytes) for each in scales],
        "shards": [f"{each.shards:,}" for each in scales],
        "manifest": [_bytes(each.manifest_bytes) for each in scales],
        "requests to list what is committed": [f"{each.lists:,}" for each in scales],
        "seconds of fingerprint, each command": [f"{each.fingerprint_s:,.0f}" for each in scales],
        "driver's memory": [_bytes(each.driver_bytes) for each in scales],
        "writing requests": [f"{each.puts:,}" for each in scales],
        "reading requests": [f"{each.gets:,}" for each in scales],
        "listing requests of a run": [f"{each.run_lists:,}" for each in scales],
        "CPU hours": [f"{each.cpu_hours:,.0f}" for each in scales],
        f"days on {WORKERS:,} CPUs": [f"{each.cpu_hours / WORKERS / 24:,.1f}" for each in scales],
        "dollars, once": [f"{each.dollars:,.0f}" for each in scales],
        "dollars a month, to keep it": [f"{each.monthly_dollars:,.0f}" for each in scales],
    }
    head = ["images", *(f"10{_superscript(len(str(images)) - 1)}" for images in COUNTS)]
    rows = [head, ["---", *["---:"] * len(COUNTS)], *([name, *row] for name, row in lines.items())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(text: str) -> str:
    """Return the page with its tables made anew."""
    for name, maps in (("windows", False), ("maps", True)):
        between = re.compile(f"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        text = between.sub(lambda found, maps=maps: found[1] + table(maps) + found[2], text)
    return text


def _bytes(count: float) -> str:
    power = next((power for power in range(1, 5) if count < 999.5 * 1000**power), 5)
    shown = count / 1000**power
    unit = ("kB", "MB", "GB", "TB", "PB")[power - 1]
    return f"{shown:.2g} {unit}" if shown < 10 else f"{shown:,.0f} {unit}"


def _superscript(number: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(number))


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table(maps=False), table(maps=True), sep="\n\n")
