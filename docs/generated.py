"""Pages of the site that come from elsewhere: from the code, and from files that have a place."""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))  # where the package is not installed

ELSEWHERE = {
    "project/design.md": "pipeline/DESIGN.md",
    "project/security.md": "SECURITY.md",
    "project/deploy.md": "deploy/README.md",
    "project/scale.md": "deploy/SCALE.md",
    "project/benchmarks.md": "benchmarks/RESULTS.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
}
# What stays callable under these names, whatever is rebuilt behind them.
API = {
    "Boxes": "pipeline.boxes",
    "Images": "pipeline.images",
    "Windows": "pipeline.windows",
    "One image": "pipeline.one_image",
    "Pooling": "pipeline.spp",
    "Networks": "pipeline.networks",
    "Learning": "pipeline.learning",
    "Evaluation": "pipeline.evaluation",
    "Store": "pipeline.store",
    "Models": "pipeline.model",
    "Errors": "pipeline.errors",
}

# Of the store what readers need; how it is written is an affair of the house.
PARTS = {"pipeline.store": "open, Store, vectors, VectorSpec"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages = {where: (PROJECT / source).read_text("utf-8") for where, source in ELSEWHERE.items()}
    pages = {where: moved(text, where) for where, text in pages.items()}
    pages["reference/commands.md"] = "\n".join(commands())
    pages["reference/recipe.md"] = "\n".join(recipe())
    pages["reference/python.md"] = "\n".join(python())
    for where, text in pages.items():
        files.append(File.generated(config, where, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put in what the README says: words and conventions are written down once."""
    readme = (PROJECT / "README.md").read_text("utf-8")

    def section(found: re.Match[str]) -> str:
        return readme.partition(f"\n## {found[1]}\n")[2].partition("\n## ")[0].strip()

    return re.sub(r"<!-- README: (.*) -->", section, markdown)


def moved(text: str, where: str) -> str:
    """Return a page whose links to files of the project lead to their pages, if there are some."""
    source = (PROJECT / ELSEWHERE[where]).parent
    pages = {(PROJECT / file).resolve(): page for page, file in ELSEWHERE.items()}
    pages[PROJECT / "README.md"] = "index.md"

    def link(found: re.Match[str]) -> str:
        words, target = found.groups()
        page = pages.get((source / target).resolve())
        return f"[{words}](../{page})" if page else f"`{target}`" if words == target else words

    return re.sub(r"\[([^]]+)\]\((?!https?:|#)([^)#]+)\)", link, text)


def commands() -> Iterator[str]:
    """Yield what every command says of itself, by task."""
    from typer.main import get_command

    from jobs.cli import Spp, app

    group: Any = get_command(app)
    yield "# Commands\n"
    yield "`spp COMMAND --help` says the same. `--debug`, added to any, shows where an error comes"
    yield "from; `spp --install-completion` lets the shell complete commands, recipes and stores.\n"
    yield from ("| exit code | |", "|---|---|")
    from jobs import exit_codes

    yield from re.findall(r"^\| \d.*", exit_codes.__doc__ or "", re.MULTILINE)
    for title, held in Spp.listed.items():
        yield f"\n## {title}\n"
        for name in held:
            yield from _command(name, group.get_command(None, name))


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"### spp {name}\n"
    yield f"{command.help}\n"
    if command.examples:
        yield from ("```sh", *command.examples, "```\n")
    yield from ("| option | |", "|---|---|")
    with command.make_context(name, [], resilient_parsing=True) as context:
        told = [each.get_help_record(context) for each in command.params]
    for names, words in filter(None, told):
        yield f"| `{_cell(names)}` | {_cell(words)} |"
    yield ""


def recipe() -> Iterator[str]:
    """Yield every field of a recipe: its default, and what it is."""
    from pipeline import config

    whole = config.Recipe
    yield "# Fields of a recipe\n"
    yield "A recipe is a TOML file; what it leaves out has the default, which is the paper's where"
    yield "the paper says one. `--set SECTION.FIELD=VALUE` changes one field of a run. A misspelt"
    yield "field is an error that lists what exists.\n"
    sections = {
        name: field.annotation
        for name, field in whole.model_fields.items()
        if inspect.isclass(field.annotation) and issubclass(field.annotation, config.Section)
    }
    yield "## Of the whole\n"
    yield from _fields(whole, {name for name in whole.model_fields if name not in sections})
    for name, section in sections.items():
        yield f"\n## [{name}] {{ #{name} }}\n"
        yield f"{inspect.getdoc(section)}\n"
        yield from _fields(section, set(section.model_fields))


def _fields(section: Any, wanted: set[str]) -> Iterator[str]:
    yield from ("| field | default | |", "|---|---|---|")
    for name, field in section.model_fields.items():
        if name in wanted:
            default = "" if field.is_required() else f"`{_toml(field.get_default())}`"
            kind = _kind(field.annotation)
            yield f"| `{name}` | {default} | {_cell(field.description or kind)} |"


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _kind(annotation: Any) -> str:
    told = re.sub(r"\w+\.", "", getattr(annotation, "__name__", "") or str(annotation))
    return f"`{told}`"


def _cell(text: str) -> str:
    """Return a text as it may stand in a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def python() -> Iterator[str]:
    """Yield the modules whose names stay."""
    yield "# Python\n"
    yield "`import pipeline` is enough for all of it; see [examples](../how-to/python.md). Shapes"
    yield "are in brackets, boxes are 0-based and half-open in pixels of the image, images RGB.\n"
    for title, module in API.items():
        yield f"## {title}\n"
        yield f"::: {module}"
        if module in PARTS:
            yield f"    options:\n      members: [{PARTS[module]}]"
        yield ""
