"""From a TOML file, what it extends, a profile and `--set`, to a checked recipe."""

import json
import os
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config.recipe import Recipe
from pipeline.config.section import Section
from pipeline.errors import InputError, RecipeError
from pipeline.plain_files import read_text

MOST_RECIPE_BYTES, LONGEST_PATH, LONGEST_NAME = 1 << 20, 4000, 200

PROFILES: dict[str, dict[str, Any]] = {
    "paper": {},
    # SPEC §2-3, §8 and §9: what the released SPP_net code does otherwise.
    "released": {
        "features": {"scale_rule": "released", "scales": [480, 576, 688, 874, 1200]},
        "finetune": {"schedule": "released"},
        "regression": {"ridge": 4000.0},
    },
}


def load(
    path: Path,
    overrides: tuple[str, ...] = (),
    data: Path | None = None,
    shipped: Path | None = None,
) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file. Its key `extends` names another one, relative to it, that is read first.
        overrides: such as `"mining.rounds=0"`; the value is TOML, a bare word is a string.
        data: the folder that relative paths in the recipe start from; default: where you are.
        shipped: folder of recipes that `extends` may name, with or without `.toml`.

    Raises:
        RecipeError: no such file, bad TOML, a misspelt key, a value out of range.
    """
    content = _merge(_read(path, shipped), *(_override(text) for text in overrides))
    profile = str(content.get("profile", "paper"))
    where = " --set ".join([str(path), *overrides])
    recipe = parse(_merge(PROFILES.get(profile, {}), content), where)
    return _under(recipe, (data or Path()).resolve())


def parse(content: dict[str, Any], where: str = "recipe") -> Recipe:
    """Check the content of a recipe; errors name each field."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{where}: {explain(error)}") from None


def digest(*parts: Any) -> str:
    """Return the sha256 of JSON-able parts or sections; equal contents give equal digests."""
    plain = [part.model_dump(mode="json") if isinstance(part, Section) else part for part in parts]
    return sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _under(recipe: Recipe, data: Path) -> Recipe:
    """Let the recipe's relative paths start from `data`, absolute: workers may start elsewhere."""
    sections: dict[str, Section] = {}
    for section, field in (("dataset", "root"), ("windows", "path"), ("network", "weights")):
        model = getattr(recipe, section)
        path = getattr(model, field)
        if isinstance(path, Path):
            sections[section] = model.model_copy(update={field: data / path})
    return recipe.model_copy(update=sections)


def _read(path: Path, shipped: Path | None, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    here = Path(os.path.realpath(path))
    if here in seen:
        raise RecipeError(f"{path} extends itself, through {' -> '.join(p.name for p in seen)}")
    try:
        content = tomllib.loads(read_text(path, MOST_RECIPE_BYTES))
    except FileNotFoundError:
        raise RecipeError(f"no recipe {path}; give the path of a TOML file") from None
    except OSError as error:
        raise RecipeError(f"{str(path)!s:.300} cannot be read: {error.strerror}") from None
    except InputError as error:
        raise RecipeError(f"{error}; give the path of a TOML file") from None
    except (ValueError, RecursionError) as error:  # TOML's and UTF-8's errors are the first
        raise RecipeError(f"{path} is not TOML: {error}") from None
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise RecipeError(f"{path}: extends is {base!r}; give the path of a recipe, in quotes")
    near, known = path.parent / base, shipped and shipped / f"{base.removesuffix('.toml')}.toml"
    long = len(base) > LONGEST_PATH or max(map(len, near.parts)) > LONGEST_NAME
    if long or (not near.is_file() and (known is None or not known.is_file())):
        raise RecipeError(
            f"{path} extends {base!r:.80}, which is neither a file beside it nor a shipped recipe"
        )
    chosen = near if near.is_file() or known is None else known
    return _merge(_read(chosen, shipped, (*seen, here)), content)


def _merge(*tables: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = _merge(merged[key], value) if both else value
    return merged


def _override(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise RecipeError(f'"{text}" does not set anything; write section.field=value')
    parsed: Any = value
    try:
        if (found := tomllib.loads(f"value = {value}")).keys() == {"value"}:
            parsed = found["value"]
    except (ValueError, RecursionError):  # no TOML: a word
        pass
    content: Any = parsed
    for key in reversed(name.strip().split(".")):
        content = {key: content}
    return content


def explain(error: ValidationError, section: type[Section] = Recipe) -> str:
    """One clause a fault: the field, what is wrong, and the names that exist in the section."""
    lines = []
    for fault in error.errors():
        field = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            lines.append(f"{field} is not a key; {_known(section, fault['loc'][:-1])}")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            lines.append(f"{field}: {message}" if field else message)
    return "; ".join(lines)


def _known(section: type[Section], location: tuple[int | str, ...]) -> str:
    model: Any = section
    for part in location:
        model = model.model_fields[part].annotation
    return f"known here: {', '.join(model.model_fields)}"
