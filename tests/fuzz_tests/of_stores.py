"""A store of which one file is not what was written, and questions in SQL."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline import store
from pipeline.store.bounds import Bounds
from pipeline.store.place import place
from tests import small_store
from tests.fuzz_tests.target import Target, working_folder

ROWS = 12


@cache
def files_of(maps: bool) -> dict[str, bytes]:
    """Return the files of a small store, by their names in it."""
    with working_folder() as folder:
        small_store.make(place(folder), maps)
        found = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def file_seeds(maps: bool) -> Iterator[bytes]:
    """Yield each file of a store behind its number."""
    for number, data in enumerate(files_of(maps).values()):
        yield bytes([number]) + data


def _lay(maps: bool, folder: Path) -> Path:
    root = folder / f"maps-{maps}"
    for name, data in files_of(maps).items():
        path = root / name
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return root


def read_store(maps: bool, data: bytes, folder: Path) -> None:
    """What is not as it was written is refused or found by `verify`; the rest reads as before."""
    root = _lay(maps, folder)
    names = list(files_of(maps))
    name = names[data[0] % len(names)] if data else names[0]
    (root / name).write_bytes(data[1:])
    held = store.open(root)
    faults = held.verify()
    rows = [row for table in held.scan() for row in table.to_pylist()]
    held.sql("SELECT count(*), min(image_id) FROM windows")
    held.quarantined()
    if not faults:
        assert len(rows) == len(held) == ROWS
    elif data[1:] != files_of(maps)[name]:
        store.fsck(place(root))  # ends, whatever it finds


QUERIES = (
    "SELECT image_id, count(*) FROM windows GROUP BY ALL ORDER BY 2 DESC LIMIT 3",
    "SELECT cosine(vector, vector), vec(vector)[1:3] FROM windows WHERE x_min > 1e3 OR true",
    "SELECT * FROM objects JOIN windows USING (image_id) WHERE iou(0,0,1,1,0,0,1,1) > 0.5",
    "SELECT * FROM read_text('/etc/passwd')",
    "COPY windows TO '/tmp/out.csv'; ATTACH 'x.db'; INSTALL httpfs",
)


def query_seeds() -> Iterator[bytes]:
    """Yield questions, among them those that would reach out."""
    yield from (query.encode() for query in QUERIES)


def ask(data: bytes, folder: Path) -> None:
    """Questions leave the store, and what lies beside it, as they were."""
    root = _lay(False, folder)
    (folder / "secret").write_text("nobody's")
    before = _listing(folder)
    bounds = Bounds(limit_s=2.0, memory_bytes=200_000_000, aside_bytes=1_000_000)
    held = store.open(root)
    try:
        found = held.sql(data.decode("utf-8", "replace"), bounds=bounds)
        assert isinstance(found, pa.Table)
        assert "nobody's" not in str(found.slice(0, 10).to_pydict())
    finally:
        assert _listing(folder) == before


def condition_seeds() -> Iterator[bytes]:
    """Yield conditions, among them those that would be more."""
    yield b"source = 'ground_truth' AND x_max - x_min > 100"
    yield b"image_id IN ('a', 'b') OR window_id % 2 = 0 AND image_id LIKE '%c'"
    yield b"true) UNION SELECT content FROM read_text('/etc/passwd'"
    yield b"(SELECT count(*) FROM glob('/etc/*')) > 0"
    yield b"true; DROP TABLE windows"


def filter_rows(data: bytes, folder: Path) -> None:
    """Conditions leave all as it was, and give rows of the store."""
    root, before = _lay(False, folder), _listing(folder)
    try:
        found = list(store.open(root).scan(["image_id"], where=data.decode("utf-8", "replace")))
        assert sum(map(len, found)) <= ROWS
        assert all(set(table["image_id"].to_pylist()) <= set("abc") for table in found)
    finally:
        assert _listing(folder) == before


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


TARGETS = (
    Target(
        "store", lambda: file_seeds(False), lambda data, folder: read_store(False, data, folder)
    ),
    Target("maps", lambda: file_seeds(True), lambda data, folder: read_store(True, data, folder)),
    Target("where", condition_seeds, filter_rows, (b"SELECT", b"read_text('", b") OR (", b"--")),
    Target("sql", query_seeds, ask, (b"read_parquet('", b"getenv(", b"COPY ", b"SET ", b"range(")),
)
