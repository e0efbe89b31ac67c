"""README and documentation: commands run and answer as shown, examples run, links lead somewhere.

Commands are run, those of a page in their order, in a folder that has what the page speaks of, but
small; of the README each block has such a folder. `NOT_RUN` names those that are only held against
what they take.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from jobs.cli import Spp, app
from jobs.exit_codes import QUARANTINED
from pipeline import networks
from tests.jobs_tests.shown import PAGES, PROJECT, SCENES, blocks
from tests.jobs_tests.small_world import LARGE, PREPARED, SMALL, noise
from tests.s3 import BUCKET

NOT_RUN = {
    "submit": "needs a cluster: test_submit has one",
    "table": "takes minutes: test_table runs small ones",
}
KNOWN = {name for held in Spp.listed.values() for name in held}
RECORDED = ("docs/how-to/new-class.md", "docs/how-to/query.md")  # of a store like the tests'


def words(line: str) -> list[str]:
    """What a line says, without figures and file names."""
    return re.findall(r"[a-z]{3,}", line.partition("; in runs/")[0])


def is_hit(line: str) -> bool:
    """Whether it is a row of hits: how many there are depends on the store."""
    return re.match(r"\s*(-?[\d.]+|test_\d+)\s", line) is not None


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
        if "--set" in taken and LARGE & {word.partition(":")[0] for word in given}:
            options += [word for each in SMALL for word in ("--set", each)]
        said = spp(*given[1:], *options)
        assert said.code == (QUARANTINED if given[1] == "quarantine" else 0), said
        return said

    return run


def known(name: str) -> Any:
    return get_command(app).get_command(None, name)  # pyright: ignore[reportAttributeAccessIssue]


def served(command: str) -> None:
    """Start what runs until it is ended, ask it for its page, and end it."""
    words = [sys.executable, "-m", "jobs", *shlex.split(command)[1:], "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().rpartition(": ")[2].strip()
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                assert "<title>tiny:test</title>" in answer.read().decode()
        finally:
            serving.terminate()


# --- what runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", SCENES)
def test_commands_run_and_answer_as_shown(
    scene: str, world: Path, do: Callable[[str], Any], request: pytest.FixtureRequest
) -> None:
    page = scene.partition(",")[0]
    PREPARED.get(scene, lambda _: None)(world)
    for block in blocks(PAGES[page], "toml"):
        recipe = "\n".join(block)
        if name := tomllib.loads(recipe).get("name"):
            (world / f"{name}.toml").write_text(recipe)
    if any("s3://" in command for command, _ in SCENES[scene]):
        request.getfixturevalue("s3_server")
    for command, shown in SCENES[scene]:
        name = command.split()[1]
        if name in NOT_RUN:
            continue
        if name == "serve":
            served(command)
            continue
        said = do(command.replace("s3://bucket", f"s3://{BUCKET}"))
        if page in RECORDED:
            told = [words(line) for line in said.out.splitlines()]
            assert [line for line in shown if not is_hit(line) and words(line) not in told] == []


# What the comments of the examples say, block by block.
SAID = {
    "docs/how-to/python.md": (
        "assert (found.vectors.dtype, *found.vectors.shape) == ('float16', len(found.boxes), 7168)",
        "assert tuple(vectors.shape) == (2, 50 * 256) and cells[1].tolist()[2:] == [40, 30]",
        "assert len(kept) > 0 and scores[kept[0]] == scores.max()",
        "assert judged.curves['wide'].precision[0] == 1.0",
        "assert vectors.shape[1] == features.spec.length and len(nearest) == 9",
        "assert set(fitted.classes_) == set(names) and len(names) == len(rows) > 1",
        "assert 'those of the windows' in model._repr_html_()\n"
        "assert table.column_names[:2] == ['image_id', 'class'] and (width, height) == (120, 90)",
    ),
    "docs/how-to/own-network.md": (
        "import torch",
        "assert network.geometry.stride == 8 and network.receptive_field_px == 41\n"
        "assert (found.vectors.dtype, found.vectors.shape[1]) == ('float16', 96 * 14)\n"
        "assert network.logits(torch.ones(1, 3, 64, 64)).shape == (1, 20)",
    ),
    "README.md": (
        "assert (found.vectors.dtype, *found.vectors.shape) == ('float16', len(found.boxes), 7168)",
    ),
}


@pytest.mark.parametrize("page", SAID)
def test_python_examples_run(page: str, world: Path, do: Callable[[str], Any]) -> None:
    shutil.copy(world / "new" / "new.jpg", world / "photo.jpg")
    if page == "docs/how-to/python.md":
        do("spp model digits --out zebras")
    examples = zip(blocks(PAGES[page], "python"), SAID[page], strict=True)
    parts = ["\n".join((*block, told)) for block, told in examples]
    (world / "example.py").write_text("\n".join(parts).replace("480,", "96,"))
    ran = subprocess.run(
        [sys.executable, "example.py"], capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


# --- what is there --------------------------------------------------------------------------------


def inline() -> list[str]:
    """Commands with options that stand within a sentence."""
    found = (re.findall(r"`(spp [a-z][^`]* -[^`]*)`", text) for text in PAGES.values())
    return [" ".join(each.split()) for held in found for each in held]


@pytest.mark.parametrize("line", inline())
def test_commands_within_sentences_have_only_options_that_there_are(line: str) -> None:
    _, name, *given = shlex.split(line.replace("…", ""))
    taken = {opt for each in known(name).params for opt in each.opts}
    assert {word.partition("=")[0] for word in given if word.startswith("-")} - taken == set()


@pytest.mark.parametrize(
    "line", [line for held in SCENES.values() for line, _ in held if line.split()[1] in NOT_RUN]
)
def test_other_commands_have_only_what_they_take(line: str) -> None:
    _, name, *given = shlex.split(line)
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
