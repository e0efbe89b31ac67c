"""The table of SECURITY.md names tests, and these are there."""

import ast
import re
from itertools import pairwise
from pathlib import Path

PROJECT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_every_row_names_a_test_that_exists() -> None:
    text = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
    unproven = [what for what, does, shown in cells if does and not shown]
    assert unproven == []
    named = NAMED.findall(text)
    assert len(named) > 40
    assert "@" not in text  # nothing is left to fill in
    for file, test in named:
        tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not test or test in defined, (file, test)


def test_no_row_says_the_same_without_a_row_before() -> None:
    text = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == 4]
    for before, row in pairwise(rows):
        if row.rstrip("| ").endswith("the same"):
            assert "tests/" in before or "the same" in before, row
