"""What several commands take: their arguments, and the recipe that they name."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from pipeline import config
from pipeline.errors import RecipeError

RECIPES = Path(__file__).parent / "recipes"
ROLES = ("train", "test")


def recipes_like(incomplete: str) -> list[str]:
    """Return what a shell may complete a word to: shipped recipes, files, folders."""
    own = Path(incomplete).parent
    files = [str(own / each.name) for each in sorted(own.glob("*.toml"))] if own.is_dir() else []
    folders = [f"{own / each.name}/" for each in sorted(own.glob("*/"))] if own.is_dir() else []
    shipped = sorted(each.stem for each in RECIPES.glob("*.toml"))
    return [each for each in (*shipped, *files, *folders) if each.startswith(incomplete)]


def stores_like(incomplete: str) -> list[str]:
    """Return the stores of such recipes, and folders."""
    recipe, colon, _ = incomplete.partition(":")
    named = [recipe] if colon else recipes_like(recipe)
    held = [each if each.endswith("/") else f"{each}:{role}" for each in named for role in ROLES]
    return [each for each in dict.fromkeys(held) if each.startswith(incomplete)]


RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A TOML file, or the name of a shipped one.",
        autocompletion=recipes_like,
    ),
]
RunsOption = Annotated[Path, typer.Option(help="Folder that holds every run's output.")]
DataOption = Annotated[
    Path | None, typer.Option(help="Folder that relative paths in the recipe start from.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Change a field of the recipe; may be repeated.",
    ),
]
SerialOption = Annotated[bool, typer.Option("--serial", help="Run in this process, without Ray.")]
AddressOption = Annotated[str | None, typer.Option(help="Ray cluster; default: start one here.")]
StoresOption = Annotated[
    str | None,
    typer.Option("--stores", help="Where stores go, such as s3://bucket/stores; default: --runs."),
]
PicturesOption = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the hits.")]
ShelfOption = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE", help="Where marks and classifiers are kept; default: beside the store."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
StoreArgument = Annotated[
    str,
    typer.Argument(
        metavar="STORE",
        help="A folder, a URI, or RECIPE:train or RECIPE:test.",
        autocompletion=stores_like,
    ),
]


def is_shipped(recipe: str) -> bool:
    """Whether a name is that of a shipped recipe, and of no file."""
    return not Path(recipe).is_file() and (RECIPES / f"{recipe}.toml").is_file()


def is_recipe(name: str) -> bool:
    """Whether a name is that of a recipe, shipped or a file."""
    return is_shipped(name) or (name.endswith(".toml") and Path(name).is_file())


def load(recipe: str, overrides: list[str] | None, data: Path | None) -> config.Recipe:
    """Read a recipe from a file, or by its name from those that are shipped."""
    path = RECIPES / f"{recipe}.toml" if is_shipped(recipe) else Path(recipe)
    if not path.exists() and not path.suffix:
        names = sorted(each.stem for each in RECIPES.glob("*.toml"))
        own = [str(each) for each in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        near = get_close_matches(recipe, [*names, *own], n=1, cutoff=0.7)
        if f"{recipe}.toml" in own:
            near = [f"{recipe}.toml"]
        others = f"give a TOML file, or one of {', '.join(names)}"
        raise RecipeError(f"no recipe {recipe}; {f'did you mean {near[0]}?' if near else others}")
    return config.load(path, tuple(overrides or ()), data, RECIPES)
