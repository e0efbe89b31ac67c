"""Reading tables, their recipes, and all that they make one DAG of."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs import errors, options, suite
from jobs.table_file import TableFile, TableRow
from pipeline.config import Recipe
from pipeline.config.loading import MOST_RECIPE_BYTES
from pipeline.datasets.catalogue import class_names
from pipeline.errors import InputError, RecipeError
from pipeline.plain_files import read_text

TABLES = Path(__file__).parent / "recipes" / "tables"


def read(table: str) -> tuple[str, TableFile, Path]:
    """Return a table by its file, or by the name of a shipped one; its name, and its folder.

    Raises:
        RecipeError: there is none, it is not TOML, or a field is wrong.
    """
    shipped = TABLES / f"{table}.toml"
    path = shipped if not Path(table).is_file() and shipped.is_file() else Path(table)
    if not path.is_file():
        names = ", ".join(sorted(each.stem for each in TABLES.glob("*.toml")))
        raise RecipeError(f"no table {table}; give a TOML file, or one of {names}")
    try:
        content = tomllib.loads(read_text(path, MOST_RECIPE_BYTES))
    except InputError as error:
        raise RecipeError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from None
    try:
        return path.stem, TableFile.model_validate(content), path.parent
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        )
        raise RecipeError(f"{path}: {told.removeprefix(': ')}") from None


def is_table(named: str) -> bool:
    """Whether a name is a table's, and no recipe's."""
    if not Path(named).is_file():
        return not options.is_shipped(named) and (TABLES / f"{named}.toml").is_file()
    try:
        return "rows" in tomllib.loads(Path(named).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
        return False  # whoever reads it says what is wrong


def plan(
    file: TableFile, recipes: dict[str, Recipe], runs: Path
) -> tuple[suite.Suite, tuple[str, ...]]:
    """Return all jobs of a table, and those that its rows are brought to.

    Raises:
        RecipeError: rows cannot be combined.
    """
    combinations = {row.name: row.combine for row in file.rows if row.combine}
    planned = suite.plan(recipes, combinations, runs.resolve())
    wanted = (planned.places[name][job] for name in file.all_members for job in file.jobs)
    return planned, tuple(dict.fromkeys(wanted))


def recipes(
    file: TableFile, folder: Path, changes: list[str], data: Path | None
) -> dict[str, Recipe]:
    """Return the recipe of each row that has one; of several seeds, each one's.

    Args:
        file: the table.
        folder: of its file: recipes are looked for there first.
        changes: of every recipe, `section.field=value`; they have the last word.
        data: where relative paths in the recipes start.

    Raises:
        RecipeError: a recipe is absent or wrong.
    """
    found = {}
    for row in file.rows:
        if row.recipe is not None:
            near = folder / row.recipe
            named = str(near) if near.is_file() else row.recipe
            own = [f"{field}={_toml(value)}" for field, value in row.set.items()]
            for name, fixed in zip(file.members(row), _fixed(file, row), strict=True):
                given = [f"{field}={_toml(value)}" for field, value in fixed.items()]
                _require_free(fixed, [*own, *changes], row)
                found[name] = options.load(named, [*own, *changes, *given], data)
            recipe = next(found[name] for name in file.members(row))
            _require_measure(file, row, recipe)
            _require_all_classes(row, recipe)
    return found


def _fixed(file: TableFile, row: TableRow) -> list[dict[str, Any]]:
    """Return the fields that the table itself sets, for each of a row's members."""
    shown = {} if row.view is None else {"errors.views": [row.view], "errors.top": [1, 5]}
    return [shown | {"pretrain.seed": seed} for seed in file.seeds] or [shown]


def _require_free(fixed: Mapping[str, Any], changes: Sequence[str], row: TableRow) -> None:
    for change in changes:
        field = change.partition("=")[0].strip()
        if field in fixed:
            raise RecipeError(
                f"row {row.name!r}: {field} is set to {fixed[field]} by the table's view or seeds: "
                "leave it out of --set and of the row's set"
            )


def _require_measure(file: TableFile, row: TableRow, recipe: Recipe) -> None:
    if file.measure == "accuracy" and recipe.task != "classification":
        raise RecipeError(
            f'row {row.name!r}: measure is "accuracy", which {recipe.name} has none of: its task '
            "is detection"
        )
    if file.seeds and recipe.network.weights != "pretrain":
        raise RecipeError(
            f"row {row.name!r}: seeds are of training a network, and {recipe.name} trains none: "
            'set network.weights = "pretrain", or leave seeds out'
        )
    if file.measure == "errors":
        try:
            errors.require(recipe)
        except RecipeError as error:
            raise RecipeError(f"row {row.name!r}: {error}") from None


def _require_all_classes(row: TableRow, recipe: Recipe) -> None:
    given = row.paper_ap
    if given is not None and len(given) != (classes := len(class_names(recipe.dataset))):
        raise RecipeError(
            f"row {row.name!r}: paper_ap has {len(given)} numbers, and the recipe {classes} classes"
        )


def _toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # A string in JSON is one in TOML.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
