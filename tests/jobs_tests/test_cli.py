"""The command line: its exit codes, and one sentence for whatever is wrong."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli, dag, steps
from pipeline import config
from pipeline.networks import load, save
from pipeline.store.plan import SCALARS_BYTES

Run = Callable[..., Any]
PROJECT = Path(cli.__file__).parents[1]
RECIPES = sorted(path.stem for path in cli.RECIPES.glob("*.toml"))


def refused(said: Any, code: int, *parts: str) -> None:
    """Check the exit code, that one line is the reason, and that it holds all parts."""
    lines = [line for line in said.err.splitlines() if line.startswith(("error: ", "✗ "))]
    assert said.code == code, said
    assert len(lines) == 1, said.err
    assert "Traceback" not in said.err + said.out
    assert [part for part in parts if part not in lines[0]] == [], lines[0]


def edit(voc: Path, image_id: str, **texts: str) -> None:
    """Change fields of an image's first object."""
    path = voc / "Annotations" / f"{image_id}.xml"
    tree = ElementTree.parse(path)
    for field, text in texts.items():
        element = tree.find(f".//object//{field}")
        assert element is not None
        element.text = text
    tree.write(path)


def with_object(voc: Path, split: str) -> str:
    """The first image of a set that has an object."""
    ids = (voc / f"ImageSets/Main/{split}.txt").read_text().split()
    return next(each for each in ids if "<object>" in (voc / f"Annotations/{each}.xml").read_text())


def summary(said: Any, job: str) -> dict:
    return next(row["summary"] for row in json.loads(said.out) if row["job"] == job)


def test_help_lists_every_command(spp: Run) -> None:
    said = spp("--help")
    listed = re.findall(r"^  ([a-z]+)  ", said.out, flags=re.MULTILINE)
    assert set(listed) == {*steps.TARGETS, "demo", "plan", "status", "verify", "query"}
    assert said.code == 0


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_says_how_to_run_it_and_can_be_read(name: str, tmp_path: Path) -> None:
    text = (cli.RECIPES / f"{name}.toml").read_text()
    opening = text.partition("\nname = ")[0].partition("\nextends = ")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    assert f"spp run {name}" in opening
    assert "xpected" in opening
    recipe = cli.load(name, None, tmp_path)
    assert recipe.name == name
    if recipe.dataset.kind == "voc":
        assert recipe.dataset.root is not None
        assert recipe.dataset.root.is_relative_to(tmp_path)


def test_shipped_recipes_share_what_they_agree_on(tmp_path: Path) -> None:
    folders = {}
    for name in ("digits", "digits_untrained"):
        recipe = cli.load(name, None, None)
        planned = dag.plan(steps.detection_jobs(recipe), recipe, tmp_path)
        folders[name] = {job: step.folder for job, step in planned.items()}
    trained, untrained = folders["digits"], folders["digits_untrained"]
    shared = {job for job in untrained if trained[job] == untrained[job]}
    assert shared == {"dataset", "windows_train", "windows_test"}
    assert set(trained) - set(untrained) == {"pretrain"}


def test_a_run_and_all_that_can_be_asked_of_it(tiny: Path, spp: Run) -> None:
    runs = tiny.parent / "runs"
    said = spp("run", tiny, "--runs", runs, "--serial")
    assert said.code == 0, said.err
    assert "tiny: mAP" in said.out
    (sheet,) = runs.glob("jobs/report-*/pictures/sheet.png")
    assert str(sheet) in said.out
    assert "\x1b" not in said.err  # colours and bars are for terminals

    again = spp("run", tiny, "--runs", runs, "--serial")
    assert again.out == said.out
    assert [line.split()[2] for line in again.err.splitlines()[1:]] == ["done"] * 10

    as_json = spp("run", tiny, "--runs", runs, "--serial", "--json")
    assert as_json.err == ""
    rows = json.loads(as_json.out)
    assert json.loads(spp("status", tiny, "--runs", runs, "--json").out) == rows
    assert {row["state"] for row in rows} == {"done"}
    shown = spp("status", tiny, "--runs", runs)
    assert shown.code == 0
    assert [line.split()[:2] for line in shown.out.splitlines()[1:11]] == [
        [row["job"], "done"] for row in rows
    ]

    store = next(runs.glob("jobs/extract_test-*/store"))
    whole = spp("verify", store)
    assert whole.code == 0
    assert whole.out.endswith("rows: whole\n")
    count = spp("query", store, "SELECT count(*) AS n FROM images", "--json")
    assert json.loads(count.out) == [{"n": 8}]
    odd = spp("query", store, "SELECT '[/x]' AS \"[red]\", vector FROM windows LIMIT 1")
    stored = 26 * (4 + 1) * 2  # channels, bins, bytes
    assert odd.out.split() == ["[red]", "vector", "[/x]", str(stored), "bytes"]
    many = spp("query", store, "SELECT window_id FROM windows")
    assert re.fullmatch(r"100 of \d+ rows; --json gives all\n", many.err)

    shard = next((store / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1])
    broken = spp("verify", store)
    assert broken.code == 1
    assert shard.stem in broken.out


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["run", "nonsense"], 2, ["no recipe nonsense", "digits, digits_untrained"]),
        (["run", "no/such.toml"], 2, ["no recipe no/such.toml"]),
        (["status", "nonsense"], 2, ["no recipe nonsense"]),
        (["run", "."], 2, ["is a folder"]),
        (["run", "voc_squeezenet", "--data", "/no/such"], 1, ["/no/such", "does not exist"]),
        (["status", "voc_squeezenet", "--data", "/no/such"], 1, ["/no/such", "does not exist"]),
        (["run", "digits", "--set", "nonsense"], 2, ['"nonsense" does not set anything']),
        (["run", "digits", "--set", "=3"], 2, ["does not set anything"]),
        (["run", "digits", "--set", "windows=3"], 2, ["windows: "]),
        (["run", "digits", "--set", "svm.C=large"], 2, ["svm.C: "]),
        (["run", "digits", "--set", "svm.c=1"], 2, ["svm.c is not a key", "C, positive_weight"]),
        (["run", "digits", "--set", "a.b.c=1"], 2, ["a is not a key", "dataset, windows"]),
        (["pretrain", "digits_untrained"], 2, ["has no job pretrain", "it has dataset"]),
        (["verify", "/no/such"], 1, ["/no/such is not a store"]),
        (["query", "/no/such", "SELECT 1"], 1, ["/no/such is not a store"]),
        (["verify", "s3://bucket/store"], 1, ["s3"]),
    ],
)
def test_nonsense_is_refused_in_one_sentence(
    spp: Run, tmp_path: Path, arguments: list[str], code: int, parts: list[str]
) -> None:
    runs = [] if arguments[0] in ("verify", "query") else ["--runs", tmp_path]
    refused(spp(*arguments, *runs), code, *parts)


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["run", "digits", "--nonsense"]])
def test_wrong_usage_is_code_2(spp: Run, arguments: list[str]) -> None:
    said = spp(*arguments)
    assert said.code == 2
    assert "Usage" in said.err


def test_a_misspelt_key_is_named_with_those_that_exist(spp: Run, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("max_windows", "max_window"))
    said = spp("run", tiny, "--runs", tiny.parent / "runs")
    refused(said, 2, "windows.max_window is not a key", "max_windows")
    assert not (tiny.parent / "runs").exists()


def test_a_folder_of_that_name_does_not_hide_a_shipped_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.load("digits", None, None).name == "digits"


def test_runs_that_cannot_be_written_are_named(spp: Run, tiny: Path) -> None:
    blocked = tiny.parent / "file"
    blocked.touch()
    refused(spp("run", tiny, "--runs", blocked, "--serial"), 1, str(blocked))


def test_a_cluster_that_does_not_answer_is_named() -> None:
    # In a process of its own: this one may have joined the tests' cluster.
    code = """
import sys
from actors.resources import connect
from pipeline.errors import InputError
for address in sys.argv[1:]:
    try:
        connect(address)
    except InputError as error:
        assert str(error).startswith(f"no Ray cluster answers at {address} ("), error
    else:
        raise SystemExit(f"joined {address}")
"""
    addresses = ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:1"]
    command = [sys.executable, "-c", code, *addresses]
    subprocess.run(command, cwd=PROJECT, check=True, timeout=90)


def test_a_list_that_names_a_missing_image(voc: Path, run_voc: Run) -> None:
    (voc / "JPEGImages/train_00003.jpg").unlink()
    refused(run_voc("evaluate"), 1, "'train' lists train_00003", "add the image")


def test_a_class_that_the_recipe_does_not_know(voc: Path, run_voc: Run) -> None:
    image_id = with_object(voc, "test")
    edit(voc, image_id, name="zebra")
    refused(run_voc("evaluate"), 1, f"image {image_id}, object 1 is a 'zebra'", "10 classes")


def test_a_failed_run_leaves_its_reason_and_goes_on_when_that_is_mended(
    voc: Path, run_voc: Run
) -> None:
    annotation = voc / "Annotations/test_00002.xml"
    whole = annotation.read_bytes()
    annotation.write_bytes(whole[:100])
    said = run_voc("evaluate")
    refused(said, 1, "test_00002.xml is not well-formed XML")
    blocked = "windows_train, windows_test, extract_train, extract_test, train"
    assert f"not run, for they need it: {blocked}" in said.err
    rows = {row["job"]: row for row in json.loads(run_voc("status", "--json").out)}
    assert rows["dataset"]["state"] == "failed"
    assert "not well-formed" in rows["dataset"]["result"]
    assert "not well-formed" in " ".join(run_voc("status").out.split())
    error = Path(rows["dataset"]["folder"]) / "error.json"
    assert "Traceback" in json.loads(error.read_text())["traceback"]
    annotation.write_bytes(whole)
    assert run_voc("windows").code == 0


def test_a_box_outside_its_image(voc: Path, run_voc: Run) -> None:
    image_id = with_object(voc, "train")
    edit(voc, image_id, xmax="9999")
    refused(run_voc("evaluate"), 1, f"image {image_id}, object 1", "9999", "leaves the image")
    said = run_voc("evaluate", "--set", "dataset.skip_invalid=true", "--json")
    assert said.code == 0
    (skipped,) = summary(said, "dataset")["skipped"]
    assert image_id in skipped


def test_a_truncated_image_is_quarantined_and_the_counts_reconcile(voc: Path, run_voc: Run) -> None:
    image = voc / "JPEGImages/train_00005.jpg"
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    said = run_voc("evaluate")
    assert said.code == 3
    assert "quarantined: image train_00005: " in said.err
    assert "mAP" in said.out
    again = run_voc("evaluate", "--json")
    assert again.code == 3
    extracted = summary(again, "extract_train")
    (quarantined,) = extracted["reasons"].items()
    assert quarantined[0] == "train_00005"
    assert quarantined[1]
    assert (extracted["images"], extracted["quarantined"]) == (11, 1)
    assert summary(again, "dataset")["images_train"] == 12
    folder = next(row["folder"] for row in json.loads(again.out) if row["job"] == "extract_train")
    manifest = json.loads((Path(folder) / "store/manifest.json").read_text())
    counts = [manifest[f"images_{name}"] for name in ("in", "done", "quarantined")]
    assert counts == [12, 11, 1]


def test_an_image_without_windows_is_done(voc: Path, run_voc: Run, spp: Run) -> None:
    # Windows for all images but one, which has no object either.
    annotation = voc / "Annotations/test_00004.xml"
    tree = ElementTree.parse(annotation)
    for element in tree.getroot().findall("object"):
        tree.getroot().remove(element)
    tree.write(annotation)
    ids = [path.stem for path in (voc / "JPEGImages").iterdir() if path.stem != "test_00004"]
    columns = {"image_id": ids}
    for name, value in (("x_min", 0.0), ("y_min", 0.0), ("x_max", 50.0), ("y_max", 60.0)):
        columns[name] = pa.array([value] * len(ids), pa.float32())
    pq.write_table(pa.table(columns), voc.parent / "windows.parquet")
    chosen = ("--set", "windows.method=file", "--set", "windows.path=windows.parquet")
    said = run_voc("evaluate", *chosen, "--json")
    assert said.code == 0
    assert summary(said, "windows_test")["windows"] == 7
    assert summary(said, "extract_test")["images"] == 8
    assert summary(said, "evaluate")["mAP"] is not None
    root = voc.parent
    said = spp(
        "plan", root / "voc.toml", "--data", root, "--runs", root / "runs", *chosen, "--json"
    )
    assert [each["windows_are"] for each in json.loads(said.out)["stores"]] == ["counted"] * 2


def test_a_class_without_positives_is_named(voc: Path, run_voc: Run) -> None:
    recipe = voc.parent / "voc.toml"
    recipe.write_text(recipe.read_text().replace('"nine"]', '"nine", "zebra", "yak"]'))
    said = run_voc("evaluate")
    refused(said, 1, "2 of 12 classes have no positive window", "zebra, yak", "dataset.classes")
    assert "not run, for they need it: mine, detect, evaluate" in said.err
    assert "without objects zebra, yak" in said.err  # before anything is extracted


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["network.weights=nowhere.safetensors"], "there is no file"),
        (["network.name=resnet9"], "choose among zf5, plain_zf5"),
        (["features.layer=fc7", "network.fc7_rank=17"], "fc7_rank is 17: fc7 has 16x16 weights"),
        (["network.preprocessing=imagenet_bgr"], "choose among imagenet_rgb, caffe_bgr"),
    ],
)
def test_a_network_that_is_not_there_is_told_before_any_job(
    run_voc: Run, settings: list[str], says: str
) -> None:
    said = run_voc("evaluate", *(each for one in settings for each in ("--set", one)))
    refused(said, 2, says)
    assert "✓" not in said.err


def test_weights_of_the_wrong_shape_are_named_with_both_shapes(voc: Path, run_voc: Run) -> None:
    weights = voc.parent / "narrow.safetensors"
    save(load("zf5", width=0.2, fc_units=16, levels=(2, 1)), weights)
    said = run_voc("extract", "--set", "network.weights=narrow.safetensors")
    failed = [line for line in said.err.splitlines() if line.startswith("✗")]
    assert said.code == 1
    assert len(failed) == 2  # train and test each say so
    for part in ("conv1", "(19, 3, 7, 7)", "(10, 3, 7, 7)"):
        assert part in failed[0]


def test_a_layer_that_the_network_lacks_is_the_recipes_fault(voc: Path, run_voc: Run) -> None:
    recipe = voc.parent / "voc.toml"
    text = (voc.parent / "tiny.toml").read_text()
    network = '[network]\nname = "zf5"\nwidth = 0.1\nfc_units = 16'
    (voc.parent / "tiny.toml").write_text(
        text.replace(network, '[network]\nname = "squeezenet1_1"').replace(
            "[features]", '[features]\nlayer = "fc7"'
        )
    )
    assert recipe.exists()
    said = run_voc("extract")
    refused(said, 2, "squeezenet1_1 has no layer 'fc7': choose among pool5")
    assert "✓" not in said.err


def test_a_query_that_fails_says_why(tiny: Path, spp: Run) -> None:
    runs = tiny.parent / "runs"
    assert spp("extract", tiny, "--runs", runs, "--serial").code == 0
    store = next(runs.glob("jobs/extract_test-*/store"))
    for sql in ("nonsense", "SELECT x FROM windows", "DROP VIEW windows", ""):
        said = spp("query", store, sql)
        assert (said.code, said.out) == (1, ""), sql
        assert said.err.startswith("error: ")
        assert "Traceback" not in said.err


def test_every_job_is_a_module_too() -> None:
    for name in set(steps.TARGETS) - {"run"}:
        tree = ast.parse((PROJECT / "jobs" / f"{name}.py").read_text())
        last = tree.body[-1]
        assert isinstance(last, ast.If), name
        assert ast.unparse(last.test) == "__name__ == '__main__'"
        assert ast.unparse(last.body[-1]) == f"main('{name}')"


def test_a_job_runs_as_a_module(tiny: Path) -> None:
    runs = tiny.parent / "runs"
    command = [sys.executable, "-m", "jobs.windows", str(tiny), "--runs", str(runs), "--serial"]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=90)
    assert said.returncode == 0, said.stderr
    assert sorted(path.parent.name.partition("-")[0] for path in runs.glob("jobs/*/done.json")) == [
        "dataset", "windows_test", "windows_train",
    ]  # fmt: skip


def test_recipes_can_be_made_from_any_field(tiny: Path) -> None:
    recipe = cli.load(str(tiny), ["mining.rounds=converged", "features.scales=[96, 160]"], None)
    assert (recipe.mining.rounds, recipe.features.scales) == ("converged", (96, 160))
    assert config.digest(recipe) != config.digest(cli.load(str(tiny), None, None))


def test_plan_counts_bytes_as_the_stores_then_take_them(run_voc: Run, voc: Path, spp: Run) -> None:
    root = voc.parent
    places = ("--data", root, "--runs", root / "runs")

    def planned(*options: str) -> dict:
        answer = json.loads(spp("plan", root / "voc.toml", *places, "--json", *options).out)
        return {"kind": answer["recommended"].split(":")[0], **answer["stores"][0]}

    before = planned()
    assert before["windows_are"] == "at most"
    run_voc("windows")
    after = planned()
    assert after["windows_are"] == "counted"
    assert after["windows"] <= before["windows"]
    written = summary(run_voc("extract", "--json"), "extract_train")["bytes"]
    assert written == pytest.approx(after["bytes_windows"], rel=0.15)  # Parquet's own few kB
    maps = ("--set", "features.store=maps")
    written = summary(run_voc("extract", "--json", *maps), "extract_train")["bytes"]
    assert written == pytest.approx(after["bytes_maps"], rel=0.5)
    assert written < after["bytes_maps"] * 1.2
    assert after["kind"] == 'features.store = "maps" (the recipe has "windows")'
    assert planned("--set", "features.layer=fc6")["kind"].startswith('features.store = "windows"')


def test_plan_takes_the_sizes_that_weights_record(voc: Path, spp: Run) -> None:
    root = voc.parent
    made = load("zf5", width=0.05, fc_units=16, levels=(2, 1))
    save(made, root / "w.safetensors")
    base = root / "tiny.toml"
    assert "width = 0.1\n" in base.read_text()
    base.write_text(base.read_text().replace("width = 0.1\n", 'weights = "w.safetensors"\n'))
    said = spp("plan", root / "voc.toml", "--data", root, "--runs", root / "runs", "--json")
    assert said.code == 0, said.err
    stores = json.loads(said.out)["stores"]
    vector_bytes = 2 * made.layer_size("pool5", (2, 1))
    for each in stores:
        assert each["bytes_windows"] == each["windows"] * (vector_bytes + SCALARS_BYTES)


@pytest.mark.parametrize("store_kind", ["windows", "maps"])
def test_shards_hold_as_many_images_and_bytes_as_the_recipe_says(
    run_voc: Run, store_kind: str
) -> None:
    kind = ("--set", f"features.store={store_kind}", "--json")
    said = summary(run_voc("extract", *kind), "extract_train")
    alone = summary(run_voc("extract", *kind, "--set", "features.shard_images=1"), "extract_train")
    small = summary(run_voc("extract", *kind, "--set", "features.shard_bytes=1"), "extract_train")
    assert said["shards"] < said["images"] == alone["shards"] == small["shards"]
