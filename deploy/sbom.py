"""Print what an environment consists of, as CycloneDX: `make sbom`, or `python - <deploy/sbom.py`.

It begins at sppnet and follows what each distribution asks for and what is there; the tests' tools,
`pip`, and whatever else was installed beside, are not in it. The same environment gives the same
bytes: there is no time, no number drawn at random and no path in it.
"""

import json
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "sppnet"


def needed(found: Distribution, extras: set[str]) -> list[tuple[str, set[str]]]:
    """Return what a distribution with some extras asks for here: names, and their extras."""
    asked = [Requirement(each) for each in found.requires or []]
    return [
        (canonicalize_name(each.name), each.extras)
        for each in asked
        if not each.marker or any(each.marker.evaluate({"extra": e}) for e in {"", *extras})
    ]


def walk(root: str) -> dict[str, tuple[Distribution, set[str]]]:
    """Return every distribution that is reached from one, and the names of those that it needs.

    What is asked for and is not there (an extra that nobody installed) is left out.
    """
    reached: dict[str, tuple[Distribution, set[str]]] = {}
    asked: dict[str, set[str]] = {}
    extras = set(distribution(root).metadata.get_all("Provides-Extra") or []) - {"dev"}
    waiting = [(root, extras)]
    while waiting:
        name, extras = waiting.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        if name in reached and extras <= asked[name]:
            continue
        asked[name] = asked.get(name, set()) | extras
        needs = needed(found, asked[name])
        reached[name] = (found, {each for each, _ in needs})
        waiting += needs
    return {name: (found, needs & set(reached)) for name, (found, needs) in reached.items()}


def licenses(found: Distribution) -> list[dict[str, Any]]:
    """Return the licence: an SPDX expression where there is one, or else what it is called."""
    expression = found.metadata.get("License-Expression")
    if expression:
        return [{"expression": expression}]
    classified = [
        each.rpartition(" :: ")[2]
        for each in found.metadata.get_all("Classifier") or []
        if each.startswith("License :: ") and each != "License :: OSI Approved"
    ]
    named = found.metadata.get("License") or ""
    short = [named] if named and "\n" not in named and len(named) < 80 else []
    return [{"license": {"name": name}} for name in classified or short]


def component(name: str, found: Distribution) -> dict[str, Any]:
    """Return what there is to say of one distribution."""
    purl = f"pkg:pypi/{name}@{quote(found.version, safe='.-_')}"
    kind = "application" if name == ROOT else "library"
    said = {"type": kind, "bom-ref": purl, "name": name, "version": found.version, "purl": purl}
    return said | ({"licenses": licensed} if (licensed := licenses(found)) else {})


def bill() -> dict[str, Any]:
    """Return the bill of materials of this environment, sorted by name."""
    reached = walk(ROOT)
    parts = {name: component(name, reached[name][0]) for name in sorted(reached)}
    needs = {name: sorted(reached[name][1]) for name in parts}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": parts[ROOT]},
        "components": [part for name, part in parts.items() if name != ROOT],
        "dependencies": [
            {"ref": part["bom-ref"], "dependsOn": [parts[each]["bom-ref"] for each in needs[name]]}
            for name, part in parts.items()
        ],
    }


if __name__ == "__main__":
    print(json.dumps(bill(), indent=2))
