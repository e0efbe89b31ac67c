"""All benchmarks, or those named: ``python benchmarks [--quick] [--add FILE] [NAME ...]``.

Each runs in an interpreter of its own, so that neither thread settings nor peak memory leak from
one into the next. One that fails is named at the end, and the others go on. The figures are
kept in ``results.json`` and shown in ``RESULTS.md`` beside this file; benchmarks that were not
named keep theirs. Tables of recipes, which ``spp table`` printed and which were copied from its
``table.md`` into ``tables/``, follow them. ``--add`` takes figures that ``--json`` wrote on another
machine: those of each graphics card, and those without one, are kept apart.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import HEADS, NO_CARD, Row, texts

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results.json", HERE / "RESULTS.md"

OPENING = """# Results

Written by `make bench` (`python benchmarks`); an edit by hand is lost. Every figure is a ratio
against a named peer that was measured in the same run: medians, after a call that does not count;
of at least five calls unless a row says otherwise. `ours is` is the peer's time (or bytes) over
ours, `wanted` the least ratio that counts as met. `python benchmarks NAME` measures one section
again.
"""


def names() -> list[str]:
    """The benchmarks: modules here that have ``run``."""
    modules = sorted(HERE.glob("*.py"))
    return [path.stem for path in modules if "\ndef run(" in path.read_text(encoding="utf-8")]


def measured(name: str, quick: bool) -> dict[str, Any] | None:
    """Run one benchmark apart; None if it failed. It prints what it finds by itself."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(file)]
        paths = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            command + ["--quick"] * quick, cwd=HERE.parent, env=os.environ | {"PYTHONPATH": paths}
        )
        return None if done.returncode else json.loads(file.read_text(encoding="utf-8"))


def key(name: str, figures: dict[str, Any]) -> str:
    """Under which figures are kept: the benchmark's name, and the graphics card if any."""
    card = figures["machine"].get("graphics card", NO_CARD)
    return name if card == NO_CARD else f"{name} on {card}"


def page(results: dict[str, dict[str, Any]]) -> str:
    """RESULTS.md: the machines, then a section for each benchmark."""
    machines: list[dict[str, str]] = []
    for figures in results.values():
        if figures["machine"] not in machines:
            machines.append(figures["machine"])
    lines = [OPENING]
    for number, machine in enumerate(machines, start=1):
        lines.append(f"**Machine {number}**: " + ", ".join(f"{k} {v}" for k, v in machine.items()))
        lines.append("")
    for name, figures in sorted(results.items()):
        lines += section(name, figures, 1 + machines.index(figures["machine"]))
    for path in sorted((PAGE.parent / "tables").glob("*.md")):
        lines += [path.read_text(encoding="utf-8").strip(), "", f"`spp table {path.stem}`", ""]
    return "\n".join(lines)


def section(name: str, figures: dict[str, Any], machine: int) -> list[str]:
    """One benchmark: its docstring, its figures and their notes."""
    rows = [Row(**{key: row[key] for key in Row.__annotations__}) for row in figures["rows"]]
    table = [HEADS, ["---"] * len(HEADS), *map(texts, rows)]
    notes = dict.fromkeys(row.note for row in rows if row.note)
    said = (
        f"`{figures['command']}`, {figures['date']}, machine {machine}, "
        f"{figures['spent_s']:.0f} s, peak memory {figures['peak_bytes'] / 2**30:.1f} GiB."
    )
    return [
        *(f"## {name}: {figures['title']}", ""),
        *([figures["about"], ""] if figures["about"] else []),
        *(said, ""),
        *("| " + " | ".join(text.replace("|", "/") for text in line) + " |" for line in table),
        *(["", *(f"- {note}" for note in notes)] if notes else []),
        "",
    ]


def keep(results: dict[str, dict[str, Any]]) -> None:
    """Write what was measured now and what was known before, figures first."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known |= results
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(known), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep, and say which failed; 0 when none did."""
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes no files")
    parser.add_argument("--add", type=Path, nargs="+", default=[], metavar="FILE")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}")
    added = [json.loads(file.read_text(encoding="utf-8")) for file in options.add]
    results = {key(Path(each["command"].split()[-1]).stem, each): each for each in added}
    failed = []
    for name in options.names or ([] if added else names()):
        figures = measured(name, options.quick)
        if figures is None:
            failed.append(name)
        else:
            results[key(name, figures)] = figures
    if results and not options.quick:
        keep(results)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
