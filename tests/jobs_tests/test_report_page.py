"""`spp report`: the page about a run of which everything is real."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import steps
from jobs.execution import execute
from jobs.exit_codes import DONE
from jobs.options import load

Run = Callable[..., Any]


@pytest.fixture
def reported(tiny_run: Path, tiny: Path, spp: Run) -> Callable[..., Any]:
    """Report on a copy of the tiny run, which has everything but its pictures."""
    runs = Path(shutil.copytree(tiny_run, tiny.parent / "runs"))

    def run(*recipes: str | Path, **options: str | Path | None) -> Any:
        given = [word for name, value in options.items() for word in (f"--{name}", value)]
        words = [word for word in given if word is not None]
        return spp("report", *(recipes or (tiny,)), "--runs", runs, "--serial", *words)

    return run


def test_a_run_s_page_has_its_figures_and_pictures(
    reported: Callable[..., Any], tiny: Path
) -> None:
    said = reported()
    assert said.code == 0, said.err
    file = tiny.parent / "runs" / "tiny" / "report.html"
    assert f"all of it, as a page: {file}" in said.out
    html = file.read_text(encoding="utf-8")
    (done,) = (tiny.parent / "runs/jobs").glob("evaluate-*/done.json")
    summary = json.loads(done.read_text())["summary"]
    assert f"<strong>{100 * summary['mAP']:.1f}</strong><span>mean AP</span>" in html
    for name, ap in summary["ap"].items():
        assert re.search(
            rf"<title>{name}: {'–' if ap is None else f'{100 * ap:.1f}'}</title>", html
        )
    assert html.count("data:image/jpeg;base64,") > 20
    assert "Missed objects" in html
    assert html.count('class="node') == 2 * 11  # jobs, for both widths
    assert "windows.method" in html
    before = file.read_bytes()
    assert reported().code == 0
    assert file.read_bytes() == before


def test_two_runs_stand_beside_each_other(reported: Callable[..., Any], tiny: Path) -> None:
    other = tiny.with_name("other.toml")
    other.write_text('extends = "tiny.toml"\nname = "other"\n[svm]\nC = 0.01\n')
    said = reported(tiny, other)
    assert (said.code, said.out.startswith("tiny:\n| class")) == (0, True)
    html = (tiny.parent / "runs" / "tiny-and-other.html").read_text(encoding="utf-8")
    found = re.findall(r"<tr><th>([\w.]+)</th>\s*((?:<td class=\"text\">.*?</td>\s*)+)</tr>", html)
    rows = dict(found)
    assert list(rows) == ["svm.C"]  # and the name, which stands above
    assert (rows["svm.C"].count("<td"), "0.01" in rows["svm.C"]) == (2, True)
    assert "dataset.kind" not in rows  # the same in both
    assert "other, against tiny" in html
    assert re.search(r"[a-z]+: \d+ better, \d+ worse, of \d+", html)
    out = tiny.parent / "beside.html"
    assert reported(other, out=out).code == 0
    assert "<h1><span" in out.read_text(encoding="utf-8")


def test_a_page_does_not_wait_for_the_numbers_of_others(
    tiny_run: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Path(shutil.copytree(tiny_run, tiny.parent / "runs"))
    other = tiny.with_name("other.toml")
    other.write_text('extends = "tiny.toml"\nname = "other"\n[svm]\nC = 0.01\n')
    recipes = [load(str(each), None, None) for each in (tiny, other)]
    targets = [steps.targets(recipes[0], "run"), steps.targets(recipes[1], "evaluate")]
    assert execute(recipes, targets, runs, serial=True) == DONE
    said = capsys.readouterr()
    file = runs / "tiny" / "report.html"
    assert 0 < said.err.index(f"all of it, as a page: {file}") < said.err.index("other\n")
    assert said.out.count(f"all of it, as a page: {file}") == 1
    assert not (runs / "other" / "report.html").exists()


def test_a_recipe_stands_beside_its_run_before(
    reported: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    said = reported(tiny, before=None)
    assert (said.code, "there is no whole run of tiny before this one" in said.err) == (1, True)
    assert reported(tiny).code == 0
    tiny.write_text(tiny.read_text().replace("[svm]", "[svm]\nC = 1e-7"))
    said = reported(tiny, before=None)
    assert said.code == 0, said.err
    assert re.search(r"^tiny, before: mAP 0\.\d+\ntiny: mAP 0\.\d+$", said.out, re.MULTILINE)
    file = tiny.parent / "runs" / "tiny-and-before.html"
    assert f"all of it, as a page: {file}" in said.out
    html = file.read_text(encoding="utf-8")
    assert re.search(r"tiny, against tiny, before", html)
    assert "svm.C" in html
    assert 'class="box-run0"' in html
    said = reported(tiny, tiny.with_name("other.toml"), before=None)
    assert said.code == 2


def test_what_no_page_can_show_is_told_before_anything_runs(
    reported: Callable[..., Any], tiny: Path
) -> None:
    def other(name: str, text: str) -> Path:
        file = tiny.with_name(f"{name}.toml")
        file.write_text(f'extends = "tiny.toml"\nname = "{name}"\n{text}')
        return file

    five = [other(f"r{number}", "") for number in range(5)]
    animals = tiny.with_name("animals.toml")  # VOC's classes
    animals.write_text('name = "animals"\ndataset.kind = "voc"\ndataset.root = "none"\n')
    photographs = tiny.with_name("whole.toml")
    photographs.write_text('name = "whole"\ntask = "classification"\ndataset.kind = "digits"\n')
    wrong: list[tuple[list[Path], dict[str, Path], str]] = [
        ([tiny], {"out": tiny.parent / "none" / "page.html"}, "give a file in a folder that is"),
        ([tiny], {"out": tiny.parent}, "give a file in a folder that is there"),
        ([tiny, tiny], {}, "recipes on one page need different names"),
        (five, {}, "a page has room for 4 runs, not 5"),
        ([photographs, tiny], {}, "tiny detects objects and whole classifies whole images"),
        ([photographs], {"out": tiny.parent}, "give a file in a folder that is there"),
        ([tiny, animals], {}, "tiny and animals have different classes"),
    ]
    for recipes, options, why in wrong:
        said = reported(*recipes, **options)
        assert (said.code, why in " ".join(said.err.replace("│", "").split())) == (2, True), why
    assert not list((tiny.parent / "runs/jobs").glob("report-*"))


def test_a_page_that_cannot_be_written_fails_only_who_asked_for_it(
    reported: Callable[..., Any], spp: Run, tiny: Path
) -> None:
    runs = tiny.parent / "runs"
    file = runs / "tiny" / "report.html"
    file.mkdir()  # in its way
    said = spp("run", tiny, "--runs", runs, "--serial")
    assert (said.code, "no page was written:" in said.err) == (0, True)
    assert "mAP" in said.out
    said = reported()
    assert (said.code, "no page was written:" in said.err) == (1, True)
