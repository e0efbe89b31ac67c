"""`spp status`: which jobs of a recipe are done."""

from pathlib import Path

from jobs import dag, show, steps
from jobs.execution import status_row
from jobs.options import DataOption, JsonOption, RecipeArgument, RunsOption, SetOption, load


def status(
    recipe: RecipeArgument,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which jobs of a recipe are done, with their figures."""
    known = load(recipe, set_, data)
    planned = dag.plan(steps.detection_jobs(known), known, runs)
    rows = [status_row(step) for step in planned.values()]
    if as_json:
        show.print_json(rows)
        return
    columns = ("job", "state", "seconds", "result")
    show.print_table(columns, [[row[name] for name in columns] for row in rows])
