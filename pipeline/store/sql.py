"""Questions in SQL over a store, answered by DuckDB, which reads nothing else and writes nothing.

| table | |
|---|---|
| windows | a row for each window; its `vector` is read only where it is asked for |
| images, objects | the labels (see `pipeline.index`) |
| detections | what `detect` found, where it is given |
"""

import glob
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.store.answer import Answer, told
from pipeline.store.bounds import Bounds, bound, ended_in_time
from pipeline.store.conditions import require_short
from pipeline.store.objects import ObjectStore
from pipeline.store.place import Place
from pipeline.store.reader import Store
from pipeline.store.records import SHARDS
from pipeline.store.rows import Vectors
from pipeline.store.scan import SCALAR_NAMES
from pipeline.store.schema import DETECTIONS
from pipeline.store.vector_functions import (
    HANDLE_OF,
    LinearClassifiers,
    VectorFunctions,
)

Parameters = Mapping[str, Any] | Sequence[Any] | None
LABELS = ("images", "objects")
OFF = (
    "enable_progress_bar",  # on the screen of who asks, or of a server
    "python_enable_replacements",  # variables of this program as tables
    "autoinstall_known_extensions",
    "autoload_known_extensions",
    "allow_persistent_secrets",  # in the home folder
)
AS_IT_IS = "hive_partitioning = false"  # a folder called layer=fc7 is no column
FETCHED_ROWS = 10_000  # at a time, without their vectors


@contextmanager
def asking(
    store: Store,
    query: str,
    parameters: Parameters = None,
    classifiers: Sequence[LinearClassifiers] = (),
    detections: pa.Table | None = None,
    vectors: Vectors | None = None,
    bounds: Bounds | None = None,
) -> Iterator[Answer]:
    """Ask a query (see `Store.sql`), and yield the answer, whose rows may be more than memory has.

    Raises:
        InputError: the query is not one SELECT, or it fails, here or while rows are taken.
    """
    with (
        _connected(store, classifiers, detections, vectors, bounds) as (connection, functions),
        nullcontext() if bounds is None else ended_in_time(connection, bounds),
    ):
        with told(functions):
            _require_select(connection, query)
            relation = connection.sql(query, params=_bound(parameters, functions))
            reader = relation.to_arrow_reader(FETCHED_ROWS)
        yield Answer(reader, functions)


def explain(
    store: Store,
    query: str,
    parameters: Parameters = None,
    classifiers: Sequence[LinearClassifiers] = (),
    detections: pa.Table | None = None,
) -> str:
    """Return how DuckDB would go about a query, without asking it (see `Store.sql`)."""
    with _connected(store, classifiers, detections) as (connection, functions), told(functions):
        _require_select(connection, query)
        plan = connection.execute(f"EXPLAIN {query}", _bound(parameters, functions)).fetchall()
    return "\n".join(text for _, text in plan)


@contextmanager
def _connected(
    store: Store,
    classifiers: Sequence[LinearClassifiers],
    detections: pa.Table | None,
    vectors: Vectors | None = None,
    bounds: Bounds | None = None,
) -> Iterator[tuple[duckdb.DuckDBPyConnection, VectorFunctions]]:
    """Open a connection that knows the tables and functions, and cannot reach anything else."""
    for one in classifiers:
        one.check_fits(store.made_from, store.root)
    functions = VectorFunctions(Vectors(store) if vectors is None else vectors, classifiers)
    if str(store.root).startswith("memory://"):
        raise InputError(
            f"{store.root} is for tests, and SQL cannot read it: take a folder or s3://"
        )
    at = _in_sql(store.root)
    shards = [f"{at}/{name}" for name in _shards(store)]
    labels = {name: f"{at}/{name}.parquet" for name in LABELS}
    with ExitStack() as stack:
        stack.callback(functions.close)
        connection = stack.enter_context(duckdb.connect())
        # What does not fit in memory goes to disk while the query lasts, and not where one stands.
        aside = stack.enter_context(tempfile.TemporaryDirectory(prefix="spp-"))
        if isinstance(store.root, ObjectStore):
            # Not DuckDB's own httpfs: that is downloaded when first used, and would have to be
            # told the credentials again.
            connection.register_filesystem(store.root.filesystem)
        connection.execute("SET temp_directory = $aside", {"aside": aside})
        if bounds is not None:
            bound(connection, bounds)
        for setting in OFF:
            connection.execute(f"SET {setting} = false")
        paths = [*shards, *labels.values()]
        # Of names with brackets both forms, for they are looked for as patterns and then opened.
        named = [path.replace(at, str(store.root), 1) for path in paths]
        connection.execute("SET allowed_paths = $paths", {"paths": [*{*paths, *named}]})
        connection.execute("SET enable_external_access = false")
        functions.register(connection)
        with told(functions):
            columns = ", ".join([*SCALAR_NAMES, f"{HANDLE_OF} AS vector"])
            connection.execute(
                f"CREATE VIEW windows AS SELECT {columns} "
                f"FROM read_parquet({_texts(shards)}, file_row_number = true, {AS_IT_IS})"
            )
        for name, path in labels.items():
            _view_labels(connection, store.root, name, path)
        connection.register(
            "detections", DETECTIONS.empty_table() if detections is None else detections
        )
        connection.execute("SET lock_configuration = true")
        yield connection, functions


def _shards(store: Store) -> list[str]:
    """Return the names of the files of rows, as the manifest that was opened has them."""
    names = [entry.name(SHARDS) for entry in store.shards]
    held = {f"{SHARDS}/{name}" for name in store.root.listing(SHARDS)}
    if missing := [name for name in names if name not in held]:
        raise InputError(f"{store.root}/{missing[0]} is missing: see spp verify {store.root}")
    return names


def _view_labels(connection: duckdb.DuckDBPyConnection, root: Place, name: str, path: str) -> None:
    rows = f"read_parquet({_texts([path])}, {AS_IT_IS})"
    if root.look(f"{name}.parquet") is None:  # a link is refused there; a pipe would be waited for
        raise InputError(
            f"{root}/{name}.parquet cannot be read (it is missing): run the recipe again, which "
            "writes it"
        )
    try:
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {rows}")
    except duckdb.Error as error:
        raise InputError(
            f"{root}/{name}.parquet cannot be read ({error}): run the recipe again, which writes it"
        ) from None


def _in_sql(root: Place) -> str:
    """Return where a store lies as DuckDB takes it, which reads `b[x]` as a pattern for `bx`."""
    return glob.escape(str(root))


def _texts(values: Sequence[str]) -> str:
    """Return a list of texts as SQL: views take no parameters."""
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"


def _require_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    require_short(query)
    # The paths that may be read may be written, too: COPY could replace a shard.
    kinds = [statement.type for statement in connection.extract_statements(query)]
    if kinds != [duckdb.StatementType.SELECT]:
        raise InputError("give one SELECT: a query reads the store and changes nothing")


def _bound(parameters: Parameters, functions: VectorFunctions) -> Any:
    if parameters is None:
        return None
    if isinstance(parameters, Mapping):
        return {name: functions.bind(value) for name, value in parameters.items()}
    return [functions.bind(value) for value in parameters]
