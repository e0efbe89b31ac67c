"""The README and the documentation: what they show of commands, recipes and Python."""

import re
import shlex
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PAGES = {
    page.relative_to(PROJECT).as_posix(): page.read_text(encoding="utf-8")
    for page in (PROJECT / "README.md", *sorted(DOCS.rglob("*.md")))
}
Commands = list[tuple[str, list[str]]]
"""In order, and the lines that are shown below each."""


def blocks(text: str, language: str) -> list[list[str]]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in found]


def commands(block: list[str]) -> Commands:
    """The commands of a block: of a session, or with comments behind them."""
    if not any(line.startswith("$ ") for line in block):
        plain = [shlex.join(shlex.split(line, comments=True)) for line in block]
        assert all(line.startswith(("spp ", "export ")) for line in plain), plain
        return [(line, []) for line in plain if line.startswith("spp ")]
    found: Commands = []
    for line in block:
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return found


def scenes() -> dict[str, Commands]:
    """Commands that share a folder: of a page, or of a block of the README."""
    found = {}
    for page, text in PAGES.items():
        held = [each for block in blocks(text, "(?:console|sh)") for each in commands(block)]
        found[page] = held
    shown = re.findall(r"(?:^    spp .*\n)+", PAGES["README.md"], re.MULTILINE)
    for number, block in enumerate(shown):
        found[f"README.md, {number}"] = commands([line.strip() for line in block.splitlines()])
    return {name: held for name, held in found.items() if held}


SCENES = scenes()
