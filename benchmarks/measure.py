"""The common frame of the benchmarks: median times, ratios against a named peer, the machine.

A benchmark is a module here with ``run(quick) -> list[Row]`` that ends in ``main(run)``. Its own
docstring is what the page of results says about it, so it tells what is measured and how.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.machine import peak_bytes

LIBRARIES = ("torch", "numpy", "pyarrow", "numba", "ray", "scikit-learn")
# what the kernels of torch and numba ask for; the rest of a processor's flags decide nothing here
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16")


@dataclass(frozen=True)
class Row:
    """One figure: ours, the named peer's in the same run, and the ratio that is wanted.

    Attributes:
        what: the work, with its sizes.
        ours_s: median wall-clock seconds; or another quantity of which less is better.
        against: the peer.
        peer_s: the same of the peer.
        target: the smallest ``ratio`` that is wanted; 1/3 allows three times the peer's time.
            None for a figure that is only told.
        note: what a reader should know about it.
        unit: ``"s"``, ``"B"`` for bytes, or any other word.
    """

    what: str
    ours_s: float
    against: str
    peer_s: float
    target: float | None
    note: str = ""
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """How many times faster (or smaller) than the peer ours is."""
        return self.peer_s / self.ours_s

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None else self.ratio >= self.target


def median_s(function: Callable[[], object], runs: int = 5) -> float:
    """Median wall-clock seconds of a call; a first one, which compiles and warms up, is free."""
    function()
    spent = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def peak_of(function: Callable[[], object]) -> int:
    """Resident bytes that a call took at most, above what was resident before it.

    Memory that an earlier call gave back but the allocator kept is not counted again: compare
    sizes from small to large, or each in an interpreter of its own. Where the system cannot
    forget its peak (other than Linux), only growth beyond the earlier peak is seen.
    """
    clear = Path("/proc/self/clear_refs")
    if os.access(clear, os.W_OK):
        clear.write_text("5", encoding="utf-8")  # the peak becomes what is resident now
    before = peak_bytes()
    function()
    return peak_bytes() - before


NO_CARD = "none"


def describe_machine() -> dict[str, str]:
    """Processor, memory, graphics card and versions; nothing that tells one's own machine."""
    model, flags = _processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine = {
        "processor": model,
        "cores": str(cores),
        "instructions": " ".join(name for name in INSTRUCTIONS if name in flags) or "unknown",
        "memory": f"{memory / 2**30:.0f} GiB",
        "graphics card": _graphics_card(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    return machine | {name: _version(name) for name in LIBRARIES}


def _processor() -> tuple[str, set[str]]:
    """Model and instruction sets, as Linux tells them; elsewhere the model alone."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), set()
    pairs = (line.partition(":") for line in text.splitlines())
    told = {key.strip(): value.strip() for key, _, value in pairs}
    flags = told.get("flags") or told.get("Features") or ""
    return told.get("model name") or platform.machine(), set(flags.split())


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _graphics_card() -> str:
    try:
        import torch
    except ImportError:
        return NO_CARD
    return torch.cuda.get_device_name() if torch.cuda.is_available() else NO_CARD


def texts(row: Row) -> tuple[str, ...]:
    """A row as texts, for a printed table and for the page."""
    as_much = {"s": "as fast", "B": "as small"}.get(row.unit, "as good")
    return (
        row.what,
        quantity(row.ours_s, row.unit),
        row.against,
        quantity(row.peer_s, row.unit),
        f"{times(row.ratio)} {as_much}",
        "" if row.target is None else f">= {times(row.target)}",
        {True: "yes", False: "NO", None: ""}[row.met],
    )


HEADS = ("what", "ours", "against", "theirs", "ours is", "wanted", "met")


def times(ratio: float) -> str:
    """A ratio with two or three figures that count: 0.52 x, 3.1 x, 24 x, 130 x."""
    return f"{ratio:.0f} x" if ratio >= 10 else f"{ratio:.2f} x" if ratio < 2 else f"{ratio:.1f} x"


def quantity(value: float, unit: str) -> str:
    """Seconds or bytes with a prefix, three figures that count."""
    if unit == "s" and value < 1:
        return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"
    prefixes = {1e9: "G", 1e6: "M", 1e3: "k"} if unit == "B" else {}
    size = next((size for size in prefixes if value >= size), 1)
    # .3g turns thousands into powers of ten
    text = f"{value / size:.3g}" if value / size < 1000 else f"{value / size:.0f}"
    return f"{text} {prefixes.get(size, '')}{unit}"


def show(title: str, rows: Sequence[Row]) -> None:
    """Print an aligned table, the notes under it, and all of it again as one line of JSON."""
    table = [HEADS, *map(texts, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print(f"\n{title}")
    for line in table:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))
    for note in dict.fromkeys(row.note for row in rows if row.note):
        print(f"  - {note}")
    figures = {"title": title, "rows": [as_json(row) for row in rows]}
    print(json.dumps(figures, ensure_ascii=False), flush=True)


def as_json(row: Row) -> dict[str, Any]:
    """A row with its ratio and verdict."""
    return asdict(row) | {"ratio": row.ratio, "met": row.met}


def main(run: Callable[[bool], list[Row]]) -> None:
    """The command line of a benchmark: ``--quick`` for tiny sizes, ``--json FILE`` to keep it."""
    text = (sys.modules[run.__module__].__doc__ or "").strip()
    title, _, about = text.partition("\n")
    title = title.removesuffix(".")
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it is right")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    start = time.perf_counter()
    rows = run(options.quick)
    spent_s = time.perf_counter() - start
    show(title + (" (quick: right or wrong, not how fast)" if options.quick else ""), rows)
    if options.json:
        figures = {
            "title": title,
            "about": about.strip(),
            "command": f"python benchmarks/{Path(sys.argv[0]).name}",
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "spent_s": round(spent_s, 1),
            "peak_bytes": peak_bytes(),
            "machine": describe_machine(),
            "rows": [as_json(row) for row in rows],
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
