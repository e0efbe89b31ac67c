"""Architectures that other installed packages bring, each an entry point of the group `GROUP`."""

import inspect
from functools import cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from pipeline.errors import RecipeError
from pipeline.networks.network import Network

GROUP = "sppnet.networks"


@cache
def names() -> tuple[str, ...]:
    """Return what the installed architectures are called, sorted."""
    return tuple(sorted({each.name for each in entry_points(group=GROUP)}))


@cache
def installed(name: str) -> type[Network]:
    """Return the architecture that a package brings under one of `names`.

    Raises:
        RecipeError: it cannot be imported, is no `Network`, or two packages bring one.
    """
    point = _point(name)
    said = f"network {name!r}, which {_package(point)} brings as {point.value},"
    try:
        architecture = point.load()
    except Exception as error:  # whatever another's module raises while it is imported
        raise RecipeError(
            f"{said} cannot be imported ({type(error).__name__}: {error}): mend that package"
        ) from error
    if not (isinstance(architecture, type) and issubclass(architecture, Network)):
        raise RecipeError(
            f"{said} is {architecture!r}, not a class made from pipeline.networks.Network: mend "
            "the entry point"
        )
    return architecture


def code_digest(name: str) -> str:
    """Return a digest of the code of an installed architecture: of its file, and its version.

    Other modules that the file imports are not read: what changes there shows by the version only.

    Args:
        name: one of `names`.

    Raises:
        RecipeError: as for `installed`.
    """
    content, file = sha256(_package(_point(name)).encode()), inspect.getsourcefile(installed(name))
    if file is not None:  # a compiled module has none
        content.update(Path(file).read_bytes())
    return content.hexdigest()


def _point(name: str) -> EntryPoint:
    points = [each for each in entry_points(group=GROUP) if each.name == name]
    if len({each.value for each in points}) > 1:  # one that is found twice on the path is one
        raise RecipeError(
            f"network {name!r} is brought by {len(points)} packages, "
            f"{' and '.join(map(_package, points))}: remove one of them"
        )
    return points[0]


def _package(point: EntryPoint) -> str:
    return "a package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
