"""Tables: recipes and combinations side by side, with the paper's figures where it has some.

A table is a TOML file:

    title = "Which layer"
    [[rows]]
    name = "pool5"
    recipe = "mine.toml"          # beside this file, shipped, or from where you are
    paper = 44.9                  # mAP in percent
    [[rows]]
    name = "fine-tuned"
    recipe = "mine.toml"
    set = { "features.layer" = "ftfc7" }
    [[rows]]
    name = "both"
    combine = ["pool5", "fine-tuned"]

Errors of a network's own classifier, each row trained three times:

    title = "Which view"
    measure = "errors"
    seeds = [0, 1, 2]
    [[rows]]
    name = "full image"
    recipe = "mine.toml"
    view = "full"
"""

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from jobs import options, suite
from jobs.classification import errors
from pipeline.config import Recipe, Section
from pipeline.config.errors import View
from pipeline.datasets.catalogue import class_names
from pipeline.errors import RecipeError

TABLES = Path(__file__).parent / "recipes" / "tables"


class TableRow(Section):
    """One line: a recipe, or a combination of rows before."""

    name: str = Field(min_length=1)
    recipe: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    """Fields of the recipe that this row changes, such as `"features.layer" = "fc6"`."""
    combine: tuple[str, ...] = ()
    """Names of rows whose models are combined (paper §4.4)."""
    paper: float | None = None
    """The paper's figure, in percent: mAP, or what `measure` says; of errors, top-1."""
    paper_top5: float | None = None
    """Likewise its top-5 error."""
    view: View | None = None
    """Of errors: the test view that is shown."""
    paper_ap: tuple[float, ...] | None = None
    """The paper's AP of each class, in percent and in the recipe's order."""
    paper_s: float | None = None
    """The paper's seconds an image, conv and fc layers together."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "TableRow":
        if (self.recipe is None) == (not self.combine):
            raise ValueError(f"row {self.name!r} needs a recipe, or rows to combine")
        if self.combine and self.set:
            raise ValueError(f"row {self.name!r} combines others, and sets nothing of its own")
        for field, value in self.set.items():
            if isinstance(value, dict):
                raise ValueError(
                    f"row {self.name!r}: {field} is a table; write its fields one by one, "
                    f'"{field}.…" = …'
                )
        return self


class TableFile(Section):
    """A whole table."""

    title: str
    note: str = ""
    """Said below it."""
    baseline: str | None = None
    """Name of the row that speeds are compared with."""
    measure: Literal["mAP", "accuracy", "errors"] = "mAP"
    """What each row came to: mAP; or of classification the mean of the classes' accuracies, or
    top-1 and top-5 errors of the network's own classifier."""
    seeds: tuple[int, ...] = ()
    """Values of `pretrain.seed`: each row is made with each of them, and shown by mean and standard
    deviation. None: once, as its recipe says."""
    per_class: bool = False
    """Whether the AP of each class is shown."""
    rows: tuple[TableRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rows_are_known(self) -> "TableFile":
        seen: dict[str, TableRow] = {}
        for row in self.rows:
            if row.name in seen:
                raise ValueError(f"two rows are called {row.name!r}")
            for name in row.combine:
                if name not in seen or seen[name].combine:
                    raise ValueError(
                        f"row {row.name!r} combines {name!r}, which is no recipe's row above it"
                    )
            seen[row.name] = row
        if self.baseline is not None and self.baseline not in seen:
            raise ValueError(f"baseline {self.baseline!r} is no row")
        return self

    @model_validator(mode="after")
    def _rows_suit_the_measure(self) -> "TableFile":
        counts_errors = self.measure == "errors"
        for row in self.rows:
            if (row.view is not None) != counts_errors:
                raise ValueError(
                    f"row {row.name!r}: view goes with errors as the table's measure, and is "
                    f"needed there; measure is {self.measure!r}"
                )
            if row.combine and (counts_errors or self.seeds):
                raise ValueError(
                    f"row {row.name!r} combines others, and a table of errors, or of several "
                    "seeds, has no combinations"
                )
        if counts_errors and (self.per_class or self.baseline):
            raise ValueError("a table of errors has no per_class and no baseline: leave them out")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds, default=0) < 0:
            raise ValueError("seeds: give different whole numbers from 0")
        return self

    @property
    def jobs(self) -> tuple[str, ...]:
        """Those that each row is brought to."""
        return ("errors",) if self.measure == "errors" else ("evaluate", "report")

    def members(self, row: TableRow) -> tuple[str, ...]:
        """Return the names of what a row is the mean of: itself, or one of each seed."""
        return tuple(f"{row.name}, seed {seed}" for seed in self.seeds) or (row.name,)

    @property
    def all_members(self) -> tuple[str, ...]:
        """Those of every row."""
        return tuple(name for row in self.rows for name in self.members(row))


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
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
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
            if row.view is not None:
                own += [f"errors.views={_toml([row.view])}", "errors.top=[1, 5]"]
            seeds = [[f"pretrain.seed={seed}"] for seed in file.seeds] or [[]]
            for name, seed in zip(file.members(row), seeds, strict=True):
                found[name] = options.load(named, [*own, *changes, *seed], data)
            recipe = next(found[name] for name in file.members(row))
            _require_measure(file, row, recipe)
            _require_all_classes(row, recipe)
    return found


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
    if file.measure == "errors" and (reason := errors.why_not(recipe)):
        raise RecipeError(f"row {row.name!r}: {reason}")


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
