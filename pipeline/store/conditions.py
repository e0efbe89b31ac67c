"""Conditions in SQL, as people type them, and the one form in which queries take them up."""

import re

import duckdb

from pipeline.errors import InputError

# Texts, names and comments, in which brackets are none.
_NO_CODE = re.compile(
    r"""[eE]'(?:\\.|[^'\\])*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/""", re.DOTALL
)
LONGEST, DEEPEST = 1_000_000, 50  # letters, and brackets in brackets


def require_short(query: str) -> None:
    """Check what would keep DuckDB's parser, and with it this whole process, for minutes.

    Raises:
        InputError: it is too long, has brackets in brackets without end, or is no text.
    """
    depth = deepest = 0
    for sign in _NO_CODE.sub("", query):
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    if len(query) > LONGEST or deepest > DEEPEST:
        raise InputError(
            f"a query of {len(query):,} letters, with brackets {deepest} deep: {LONGEST:,} and "
            f"{DEEPEST} are the most; join what is long as a table, and name what is deep by WITH"
        )
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the query is no text: {error}") from None


def in_brackets(condition: str, connection: duckdb.DuckDBPyConnection | None = None) -> str:
    """Return a condition in brackets, out of which it cannot lead.

    Args:
        condition: one expression of SQL, which may end in a comment.
        connection: whose parser is asked; None: one of its own.

    Raises:
        InputError: it is no expression, or more than one.
    """
    require_short(condition)
    if connection is None:
        with duckdb.connect() as own:
            return in_brackets(condition, own)
    # A new line ends a comment. What closes brackets of one kind, as `true) UNION ALL (SELECT 1`
    # does, cannot close those of the other kind, too.
    bracketed = f"(\n{condition}\n)"
    try:
        for query in (f"SELECT 1 WHERE {bracketed}", f"SELECT [\n{condition}\n]"):
            connection.extract_statements(query)
    except duckdb.Error as error:
        raise InputError(
            f"the condition {condition!r} cannot be used: {str(error).splitlines()[0]}. Give one "
            "expression, such as source = 'ground_truth' AND x_max - x_min > 100"
        ) from None
    return bracketed
