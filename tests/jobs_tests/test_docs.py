"""README and documentation: commands run and answer as shown, examples run, links lead somewhere.

`console` blocks are run, in their order, in a folder that has what their page speaks of, but small;
`sh` blocks and the README's commands are held against what their commands take, for they need a
cluster, an object store, or data of others.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command

from jobs.cli import Spp, app
from pipeline import networks
from pipeline.datasets import digits

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PAGES = {
    page.relative_to(PROJECT).as_posix(): page.read_text(encoding="utf-8")
    for page in (PROJECT / "README.md", *sorted(DOCS.rglob("*.md")))
}
KNOWN = {name for held in Spp.listed.values() for name in held}
RECORDED = ("docs/how-to/new-class.md", "docs/how-to/query.md")  # of a store like the tests'
# Instead of an hour.
SMALL = ("windows.method=grid", "features.scales=[96]", "mining.max_rounds=1")
CLASSES = ("aeroplane", "bird", "cat", "dog")


def blocks(text: str, language: str) -> list[list[str]]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in found]


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a page, in order, and the lines that are shown below each."""
    for block in blocks(PAGES[page], "console"):
        shown: list[str] = []
        command = ""
        for line in [*block, "$ "]:
            if line.startswith("$ "):
                if command:
                    yield command, shown
                command, shown = line.removeprefix("$ "), []
            else:
                shown.append(line)


def words(line: str) -> list[str]:
    """What a line says, without figures and file names."""
    return re.findall(r"[a-z]{3,}", line.partition("; in runs/")[0])


def is_hit(line: str) -> bool:
    """Whether it is a row of hits: how many there are depends on the store."""
    return re.match(r"\s*(-?[\d.]+|test_\d+)\s", line) is not None


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (90, 120, 3), np.uint8))


# --- a small world --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SqueezeNet that has learnt nothing."""
    file = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    torch.save(networks.load("squeezenet1_1").state_dict(), file)
    return file


@pytest.fixture
def world(tiny_run: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe `digits`, small and done, weights, and images to look into."""
    (tmp_path / "digits").write_text((tiny_run.parent / "tiny.toml").read_text())
    # Its jobs alone: what is taught here goes aside.
    (tmp_path / "runs" / "jobs").mkdir(parents=True)
    for job in (tiny_run / "jobs").iterdir():
        (tmp_path / "runs" / "jobs" / job.name).symlink_to(job)
    shutil.copy(weights, tmp_path)
    for folder in ("new", "more"):
        (tmp_path / folder).mkdir()
        noise(len(folder)).save(tmp_path / folder / f"{folder}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_boxes(folder: Path) -> None:
    """Photographs of the tutorial's classes, in VOC's layout."""
    digits.write(folder / "photos", 0, n_train=8, n_test=4)
    for file in (folder / "photos" / "Annotations").iterdir():
        text = file.read_text()
        for number, name in enumerate(digits.DIGIT_CLASSES):
            text = text.replace(f"<name>{name}</name>", f"<name>{CLASSES[number % 4]}</name>")
        file.write_text(text)


def with_folders(folder: Path) -> None:
    """Photographs in a folder for each class."""
    for number, name in enumerate(("zebra", "giraffe")):
        (folder / "photos" / name).mkdir(parents=True)
        for k in range(6):
            noise(10 * number + k).save(folder / "photos" / name / f"{k}.jpg")


PREPARED: dict[str, Callable[[Path], None]] = {
    "docs/how-to/images.md": with_folders,
    "docs/tutorial.md": with_boxes,
    "docs/how-to/whole-images.md": with_folders,
}


@pytest.fixture
def do(spp: Callable[..., Any]) -> Callable[[str], Any]:
    """Run a command of a page: without Ray, and with small settings where it takes some."""

    def run(command: str) -> Any:
        given = shlex.split(command)
        if given[0] != "spp":
            said = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
            assert (said.returncode, bool(said.stdout)) == (0, True)
            return said
        taken = {opt for each in known(given[1]).params for opt in each.opts}
        options = ["--serial"] if "--serial" in taken else []
        if "--set" in taken and any(".toml" in word for word in given):
            options += [word for each in SMALL for word in ("--set", each)]
        said = spp(*given[1:], *options)
        assert said.code == 0, said
        return said

    return run


def known(name: str) -> Any:
    return get_command(app).get_command(None, name)  # pyright: ignore[reportAttributeAccessIssue]


# --- what runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [each for each in PAGES if blocks(PAGES[each], "console")])
def test_commands_run_and_answer_as_shown(page: str, world: Path, do: Callable[[str], Any]) -> None:
    PREPARED.get(page, lambda _: None)(world)
    for block in blocks(PAGES[page], "toml"):
        recipe = "\n".join(block)
        if name := tomllib.loads(recipe).get("name"):
            (world / f"{name}.toml").write_text(recipe)
    for command, shown in commands(page):
        said = do(command)
        if page in RECORDED:
            told = [words(line) for line in said.out.splitlines()]
            assert [line for line in shown if not is_hit(line) and words(line) not in told] == []


# What the comments of the examples say, block by block.
SAID = (
    "assert (found.vectors.dtype, found.vectors.shape) == ('float16', (len(found.boxes), 7168))",
    "assert tuple(vectors.shape) == (2, 50 * 256) and cells[1].tolist()[2:] == [40, 30]",
    "assert len(kept) > 0 and scores[kept[0]] == scores.max()",
    "assert judged.curves['wide'].precision[0] == 1.0",
    "assert vectors.shape[1] == features.spec.length and len(nearest) == 9",
    "assert set(fitted.classes_) == set(names) and len(names) == len(rows) > 1",
    "assert 'those of the windows' in model._repr_html_()\n"
    "assert table.column_names[:2] == ['image_id', 'class'] and (width, height) == (120, 90)",
)


@pytest.mark.parametrize("page", ["docs/how-to/python.md", "README.md"])
def test_python_examples_run(page: str, world: Path, do: Callable[[str], Any]) -> None:
    shutil.copy(world / "new" / "new.jpg", world / "photo.jpg")
    examples = blocks(PAGES[page], "python")
    said = SAID[: len(examples)]
    if page != "README.md":
        do("spp model digits --out zebras")
        assert len(examples) == len(SAID)
    parts = ["\n".join((*block, told)) for block, told in zip(examples, said, strict=True)]
    (world / "example.py").write_text("\n".join(parts).replace("480,", "96,"))
    ran = subprocess.run(
        [sys.executable, "example.py"], capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


# --- what is there --------------------------------------------------------------------------------


def not_run() -> list[tuple[str, str]]:
    """Commands that are shown and not run here."""
    found = []
    for page, text in PAGES.items():
        lines = [line for block in blocks(text, "sh") for line in block]
        lines += re.findall(r"^    (spp .*)", text, re.MULTILINE)
        found += [(page, line) for line in lines if line.startswith("spp ")]
    return found


@pytest.mark.parametrize(("page", "line"), not_run())
def test_other_commands_have_only_what_they_take(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    _, name, *given = shlex.split(line, comments=True)
    with known(name).make_context(name, given):
        pass


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    text = PAGES[page]
    assert {*re.findall(r"[`\n ]spp ([a-z][\w-]+)", text)} - KNOWN == set()
    assert {*re.findall(r"`make ([a-z]+)", text)} <= {*re.findall(
        r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE
    )}  # fmt: skip
    for block in blocks(text, "toml"):
        tomllib.loads("\n".join(block))


def test_every_command_is_shown_somewhere() -> None:
    text = "\n".join(PAGES.values())
    assert {name for name in KNOWN if not re.search(rf"\bspp {name}\b", text)} <= {
        # Parts of `spp run`: in the reference, which is made from the code.
        "windows", "extract", "finetune", "train", "mine", "regress", "evaluate", "demo",
    }  # fmt: skip


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES["README.md"]):
        file, _, anchor = target.partition("#")
        text = (PROJECT / file).read_text(encoding="utf-8") if file.endswith(".md") else ""
        assert (PROJECT / file).is_file(), target
        assert not anchor or f"{{ #{anchor} }}" in text, target


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    said = subprocess.run(
        build, cwd=PROJECT, capture_output=True, text=True, timeout=110, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert (said.returncode, "WARNING" in said.stderr) == (0, False), said.stderr
    made = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f'id="spp-{name}"' in made for name in KNOWN)
    recipe = (site / "reference" / "recipe.html").read_text(encoding="utf-8")
    assert all(f"<code>{name}</code>" in recipe for name in ("min_side_px", "levels", "nms_iou"))
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in (
        "boxes.iou", "boxes.nms", "boxes.flip", "boxes.encode", "boxes.decode", "one_image.extract",
        "spp.bin_edges", "spp.project", "spp.pool", "spp.choose_scale",
        "networks.Geometry", "networks.load", "evaluation.average_precision",
        "evaluation.evaluate_detections", "learning.fit_svm", "learning.fit_box_regressor",
        "learning.select_hard", "learning.evict_easy", "store.open",
        "store.Store.scan", "store.Store.sql", "store.Store.verify",
    ):  # fmt: skip
        assert f'id="pipeline.{name}"' in python, name
    outside = {"script", "link", "img"}
    for page in site.rglob("*.html"):
        fetched = re.findall(r"<(script|link|img)\b[^>]*?(?:src|href)=\"https?:", page.read_text())
        assert not outside & {*fetched}, page
