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

from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.config import Section
from pipeline.config.errors import View


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
            if row.paper_top5 is not None and not counts_errors:
                raise ValueError(f"row {row.name!r}: paper_top5 goes with errors as the measure")
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
