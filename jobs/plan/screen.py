"""The answer of `spp plan` as a person reads it in ten seconds."""

from collections.abc import Iterator
from typing import Any

from jobs.memory import gigabytes

Row = tuple[str, str, str, str]
_NONE = ""


def lines(answer: dict[str, Any]) -> Iterator[str]:
    """Yield aligned lines: what it is, what was projected, what came of it, and what to know."""
    projected, found = answer["projected"], answer["measured"]
    head = {"label": "", "projected": "projected", "measured": "", "note": ""}
    if found.get("rows") is not None:
        head["measured"] = "measured"
    rows: list[Row] = [
        tuple(head.values()),  # pyright: ignore[reportAssignmentType]
        *_counts(answer, projected, found),
        *_disk(answer, projected["bytes"], found["bytes"]),
        *_memory(answer, projected, found),
        *_time(answer, projected, found),
    ]
    yield answer["recipe"]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for label, first, second, note in rows:
        line = f"{label:<{widths[0]}}  {first:>{widths[1]}}  {second:>{widths[2]}}  {note}"
        yield line.rstrip()
    if answer["warning"]:
        yield f"warning: {answer['warning']}"
    if answer["hours"] is None:
        yield "hours: add --probe, which measures a few images here, or --seconds-per-image"
    else:
        yield f"seconds: {answer['hours']['source']}; training and mining are not projected"
    if answer["projected_when"] == "after the run":
        yield "nobody planned this before it ran: what is projected is from now"
    yield f"recommended: {answer['recommended']}"


def _counts(answer: dict[str, Any], projected: Any, found: Any) -> Iterator[Row]:
    several = len({store["layer"] for store in answer["stores"]}) > 1
    sets = ", ".join(
        f"{store['images']:,} {store['split']}" + (f" {store['layer']}" if several else "")
        for store in answer["stores"]
    )
    sign = "≤ " if projected["windows_are"] == "at most" else ""
    told = _NONE if not sign else "`spp windows` makes and counts them"
    yield "images", f"{projected['images']:,}", _number(found.get("images")), sets
    if projected.get("taken_over"):
        taken, note = projected["taken_over"], "unchanged since an earlier run: not made again"
        yield "of them taken over", f"≤ {taken:,}", _number(found.get("taken_over")), note
    yield "windows", f"{sign}{projected['windows']:,}", _number(found.get("rows")), told
    yield "shards", f"{sign}{projected['shards']:,}", _number(found.get("shards")), _NONE


def _disk(answer: dict[str, Any], projected: Any, found: Any) -> Iterator[Row]:
    other = "maps" if answer["store"] == "windows" else "windows"
    taken = sum(store[f"bytes_{other}"] for store in answer["stores"])
    notes = {"store": f"as {other}: {gigabytes(taken)}"}
    names = {
        "windows": "windows, files",
        "store": f"store of {answer['store']}",
        "caches": "mining's caches",
        "detections": "detections",
    }
    exact = {"store"} if answer["store"] == "windows" and _is_counted(answer) else set()
    for stage, name in names.items():
        if stage not in projected:  # nothing is learnt from images without labels
            continue
        most = ("" if stage in exact else "≤ ") + gigabytes(projected[stage])
        yield name, most, _bytes(found.get(stage)), notes.get(stage, _NONE)
    whole = sum(found.values()) if len(found) == len(projected) else None
    free = f"{gigabytes(answer['free_bytes'])} free in {answer['runs']}"
    yield "disk in all", f"≤ {gigabytes(sum(projected.values()))}", _bytes(whole), free


def _memory(answer: dict[str, Any], projected: Any, found: Any) -> Iterator[Row]:
    memory, allowed = projected["memory"], gigabytes(answer["allowed_bytes"])
    largest = memory["largest"]
    note = f"may use {allowed}, its share of this machine"
    if answer["memory_is_given"]:
        note = f"may use {allowed}, extractor.memory_bytes"
    if largest is not None:
        width, height = largest["size"]
        note += f"; largest image {largest['image_id']}, {width}×{height}"
    seen = found.get("peak_bytes")
    yield "memory of a worker", f"≤ {gigabytes(memory['bytes'])}", _bytes(seen), note
    top = sorted(memory["parts"].items(), key=lambda part: -part[1])[:4]
    yield "", "", "", "of it " + ", ".join(f"{name} {size / 1e9:.2f}" for name, size in top)
    yield "memory of a fit", f"≤ {gigabytes(answer['fit_bytes'])}", _NONE, "svm.memory_bytes"


def _time(answer: dict[str, Any], projected: Any, found: Any) -> Iterator[Row]:
    rates, probe = projected.get("rates"), projected.get("probe") or {}
    if rates is not None:
        if rates["windows_s"] is not None:
            note = _range(probe.get("windows_range_s"))
            yield "windows of an image", _seconds(rates["windows_s"]), _NONE, note
        binds = (
            f"{_range(probe.get('extract_range_s'))}; {probe['bound_by']} binds" if probe else ""
        )
        took = _seconds(found.get("extract_s"))
        yield "features of an image", _seconds(rates["extract_s"]), took, binds
        if rates["startup_s"]:
            yield "start of a worker", _seconds(rates["startup_s"]), _NONE, _NONE
        if probe:
            note = "its own peak, over the largest image and a few others"
            yield "memory in the probe", gigabytes(probe["peak_bytes"]), _NONE, note
    elif found.get("extract_s") is not None:
        yield "features of an image", _NONE, _seconds(found["extract_s"]), _NONE
    for each in (answer["hours"] or {"for": ()})["for"]:
        yield _with_workers(each, answer["hours"])
    walls = found["job_seconds"]
    if found.get("rows") is not None:
        told = ", ".join(f"{job} {_duration(spent)}" for job, spent in walls.items())
        yield "took by the clock", _NONE, _NONE, told


def _with_workers(each: dict[str, Any], hours: dict[str, Any]) -> Row:
    workers = each["workers"]
    notes = (
        [f"{each['rounds']:,} {'shard' if each['rounds'] == 1 else 'shards'} each"]
        if each["rounds"]
        else []
    )
    if each["price"] is not None:
        notes.insert(
            0, f"{each['price']:,.2f} USD" if each["price"] >= 1 else f"{each['price']:.2g} USD"
        )
    if workers > 1:
        busy = min(workers, hours["useful_workers"])
        if busy < workers:
            notes.append(f"{workers - busy:,} idle, for there are {busy:,} shards")
        notes.append(f"while their disk or network takes {each['bytes_per_s'] / 1e9:.2f} GB/s")
    name = f"{workers:,} worker" + ("s" if workers > 1 else "")
    return name, _duration(each["total_s"]), _NONE, "; ".join(notes)


def _is_counted(answer: dict[str, Any]) -> bool:
    return answer["projected"]["windows_are"] == "counted"


def _number(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def _bytes(value: int | None) -> str:
    return _NONE if value is None else gigabytes(value)


def _seconds(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def _range(pair: list[float] | None) -> str:
    return _NONE if pair is None else f"{pair[0]:.3g} to {pair[1]:.3g} s"


def _duration(seconds: float) -> str:
    """Return seconds in the unit that a person would say.

    >>> _duration(42.4), _duration(600), _duration(30_000), _duration(1_000_000)
    ('42 s', '10.0 min', '8.3 h', '11.6 days')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 172_800 else f"{seconds / 86_400:,.1f} days"
