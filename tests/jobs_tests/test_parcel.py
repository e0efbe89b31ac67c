"""What a job takes to a cluster: one resolved recipe, paths of the cluster, a name for the work."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import options, parcel
from jobs.parcel import Parcel, load_for_cluster
from pipeline import config
from pipeline.errors import RecipeError

RECIPES = sorted(path.stem for path in options.RECIPES.glob("*.toml"))
DATA = Path("/cluster/data")
RUNS = Path("/cluster/runs")


@pytest.mark.parametrize("name", RECIPES)
def test_a_resolved_recipe_says_the_same_in_one_file(name: str, tmp_path: Path) -> None:
    recipe = load_for_cluster(name, ["mining.rounds=converged"], DATA)
    path = tmp_path / "recipe.toml"
    path.write_text(parcel.recipe_text(recipe), encoding="utf-8")
    assert "extends" not in path.read_text()
    assert config.load(path) == recipe
    assert recipe == options.load(name, ["mining.rounds=converged"], DATA)


def test_odd_names_and_small_numbers_come_through(tmp_path: Path) -> None:
    odd = 'a "b" \\ \t \x7f é 😀 # ='
    dataset = {"root": f"/{odd}", "classes": [odd, "[x]"]}
    content = {"name": "odd", "dataset": dataset, "detection": {"nms_iou": 1e-05}}
    recipe = config.parse(content)
    path = tmp_path / "recipe.toml"
    path.write_text(parcel.recipe_text(recipe), encoding="utf-8")
    assert config.load(path) == recipe


def test_relative_paths_need_a_folder_that_the_cluster_sees(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"dataset.root = 'VOC2007' is relative.*give --data"):
        load_for_cluster("voc07_zf5_1scale", None, None)
    with pytest.raises(RecipeError, match="--data data is relative"):
        load_for_cluster("voc07_zf5_1scale", None, Path("data"))
    recipe = load_for_cluster("voc07_zf5_1scale", ["dataset.root=/elsewhere/VOC"], DATA)
    assert parcel.paths_of(recipe) == [Path("/elsewhere/VOC"), DATA / "zf5.safetensors"]

    # What a name leads to here says nothing of the cluster.
    (tmp_path / "link").symlink_to("/usr")
    recipe = load_for_cluster("voc07_zf5_1scale", None, tmp_path / "link")
    assert recipe.dataset.root == tmp_path / "link" / "VOC2007"


def test_the_name_is_that_of_the_work() -> None:
    digits = load_for_cluster("digits", None, None)
    first = Parcel(digits, "run", RUNS)
    assert first.name.startswith("spp-digits-")
    assert len(first.name) == len("spp-digits-") + 12
    same = [
        Parcel(load_for_cluster("digits", ["seed=0"], None), "run", RUNS),
        replace(first, env={"AWS_ACCESS_KEY_ID": "other"}),
        replace(first, packages=("numpy",)),
    ]
    assert {each.name for each in same} == {first.name}
    others = [
        replace(first, recipe=load_for_cluster("digits", ["seed=1"], None)),
        replace(first, job="extract"),
        replace(first, runs=Path("/cluster/other")),
        replace(first, stores="s3://bucket/folder"),
    ]
    assert len({each.name for each in [first, *others]}) == 5


def test_the_command_survives_a_shell() -> None:
    made = Parcel(load_for_cluster("digits", None, None), "extract", Path("/cluster/a b"))
    assert made.command() == "python -m jobs extract recipe.toml --runs '/cluster/a b'"
    stored = replace(made, stores="s3://b/$x").command("/r/recipe.toml")
    assert stored.endswith("/r/recipe.toml --runs '/cluster/a b' --stores 's3://b/$x'")


def test_code_and_recipe_travel_apart(tmp_path: Path) -> None:
    made = Parcel(
        load_for_cluster("digits", None, None), "run", RUNS, env={"A": "b"}, packages=("x==1",)
    )
    found = made.pack(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]
    assert found["working_dir"] == str(tmp_path)
    here = Path(parcel.__file__).parents[1]
    assert found["py_modules"] == [str(here / each) for each in ("pipeline", "actors", "jobs")]
    assert found["excludes"] == ["__pycache__"]
    assert (found["env_vars"], found["pip"]) == ({"A": "b"}, ["x==1"])
    assert set(replace(made, env={}, packages=()).runtime_env()) == set()


def test_requirements_are_lines_that_ask_for_something(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("# all\n\nnumpy==2  # why\n  torch\nx @ file:///x#egg=x\n")
    assert parcel.requirements(path) == ("numpy==2", "torch", "x @ file:///x#egg=x")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["digits", "--runs", "runs"], ["--runs runs is relative", "every machine"]),
        (["voc07_zf5_1scale", "--runs", "/r"], ["dataset.root", "--data"]),
        (["digits", "--runs", "/r", "--job", "fly"], ["no job is called 'fly'", "extract"]),
        (["digits", "--runs", "/r", "--env", "SPP_NO"], ["--env SPP_NO: it is not set here"]),
        (["digits", "--runs", "/r", "--env", "=x"], ["--env takes NAME or NAME=VALUE"]),
        (["digits", "--runs", "/r", "--set", "a.b=1"], ["a is not a key"]),
    ],
)
def test_nonsense_is_refused_before_anything_is_asked(
    spp: Callable[..., Any], refused: Callable[..., None], words: list[str], parts: list[str]
) -> None:
    refused(spp("submit", *words), 2, *parts)


@pytest.mark.parametrize("words", [["--status", "--stop"], ["--stop", "--kuberay"], ["--kuberay"]])
def test_what_excludes_itself_is_wrong_usage(spp: Callable[..., Any], words: list[str]) -> None:
    said = spp("submit", "digits", "--runs", "/r", *words)
    assert said.code == 2
    assert "Usage" in said.err
