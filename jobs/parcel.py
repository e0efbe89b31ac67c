"""What a submitted job takes along: a name, the recipe in one file, the code, and its command.

A cluster does not see the folders of the machine that submits. So the recipe travels resolved, with
everything that it extends and `--set`, and the paths in it are the cluster's.
"""

import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.options import load
from pipeline import config
from pipeline.errors import RecipeError

PACKAGES = ("pipeline", "actors", "jobs")
RECIPE = "recipe.toml"
# Where relative paths start while the recipe is read: tells them from absolute ones.
_DATA = Path("/ --data ")
_NAME_CHARACTERS = 80  # Ray makes a file name of it


@dataclass(frozen=True)
class Parcel:
    """One job for a cluster."""

    recipe: config.Recipe
    """Resolved; its paths are the cluster's."""
    job: str
    """A word of the command line: `run`, `extract`, …"""
    runs: Path
    stores: str | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """For the job and its workers."""
    packages: tuple[str, ...] = ()
    """Requirements to install there first."""

    @property
    def name(self) -> str:
        """The same for the same work: what makes submitting it again harmless.

        Neither variables nor packages are in it: credentials change, the work does not.
        """
        made_of = config.digest(self.recipe, self.job, str(self.runs), self.stores)
        return f"spp-{self.recipe.name[:_NAME_CHARACTERS]}-{made_of[:12]}"

    def command(self, recipe: str = RECIPE) -> str:
        """Return the line of shell that runs the job."""
        words = ["python", "-m", "jobs", self.job, recipe, "--runs", str(self.runs)]
        return shlex.join(words + (["--stores", self.stores] if self.stores else []))

    def runtime_env(self) -> dict[str, Any]:
        """Return what Ray sets up for the job on each machine, but for its files."""
        wanted = {"env_vars": dict(self.env), "pip": list(self.packages)}
        return {name: content for name, content in wanted.items() if content}

    def pack(self, folder: Path) -> dict[str, Any]:
        """Write the recipe into an empty folder; return what Ray sets up, with all files.

        The code goes apart from the recipe: with another recipe it is the same to Ray, lies on the
        machines already, and so do the kernels that were compiled there.
        """
        (folder / RECIPE).write_text(recipe_text(self.recipe), encoding="utf-8")
        return {
            **self.runtime_env(),
            "working_dir": str(folder),
            "py_modules": [str(_source(package)) for package in PACKAGES],
            "excludes": ["__pycache__"],
        }


def load_for_cluster(recipe: str, overrides: list[str] | None, data: Path | None) -> config.Recipe:
    """Read a recipe whose relative paths start from `data`, a folder that the cluster sees.

    Raises:
        RecipeError: a path is relative and there is no `data`, or `data` itself is relative.
    """
    if data is not None and not data.is_absolute():
        raise RecipeError(f"--data {data} is relative: give the path that the cluster knows it by")
    known = load(recipe, overrides, _DATA)
    content = known.model_dump(mode="json")
    for section, name, path in _relative(content):
        if data is None:
            raise RecipeError(
                f"{section}.{name} = {str(path)!r} is relative, and a submitted job starts in a "
                "folder of its own: give --data FOLDER, under which every machine of the cluster "
                "finds it"
            )
        content[section][name] = str(data / path)
    return config.parse(content)


def paths_of(recipe: config.Recipe) -> list[Path]:
    """Return the files and folders that the recipe names."""
    found = (recipe.dataset.root, recipe.windows.path, recipe.network.weights)
    return [path for path in found if isinstance(path, Path)]


def recipe_text(recipe: config.Recipe) -> str:
    """Return a recipe as TOML, without what is the default anyway.

    Raises:
        RuntimeError: reading it again would give another recipe.
    """
    content = recipe.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    plain = {name: value for name, value in content.items() if name not in tables}
    parts = ["\n".join(_lines(plain))]
    parts += ["\n".join([f"[{name}]", *_lines(table)]) for name, table in tables.items()]
    text = "\n\n".join(parts) + "\n"
    if config.parse(tomllib.loads(text)) != recipe:
        raise RuntimeError(f"the recipe changes when it is written down:\n{text}")
    return text


def requirements(path: Path) -> tuple[str, ...]:
    """Return the lines of a requirements file that ask for something."""
    text = re.sub(r"(^|\s+)#.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _relative(content: dict[str, Any]) -> Iterator[tuple[str, str, Path]]:
    for section, table in content.items():
        for name, value in table.items() if isinstance(table, dict) else ():
            if isinstance(value, str) and Path(value).is_relative_to(_DATA):
                yield section, name, Path(value).relative_to(_DATA)


def _lines(table: dict[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        # JSON's strings, numbers and arrays are TOML's, but for one character.
        yield f"{name} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")


def _source(package: str) -> Path:
    """Return the folder of a package, wherever it is installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {package} to submit")
    return Path(spec.submodule_search_locations[0])
