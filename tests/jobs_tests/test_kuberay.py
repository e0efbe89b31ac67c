"""`spp submit --kuberay`: what it prints, against the schema of who reads it."""

import copy
import importlib.util
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline import config

GOLDEN = Path(__file__).parents[1] / "golden"
RAYJOB = json.loads((GOLDEN / "rayjob_schema.json").read_text())

Made = Callable[..., tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture
def made(spp: Callable[..., Any]) -> Made:
    """Return the config map and the RayJob that the command prints for some options."""

    def make(*options: str) -> tuple[dict[str, Any], dict[str, Any]]:
        words = ["--kuberay", "--image", "i:1", "--runs", "/shared/runs"]
        said = spp("submit", "digits", *words, *options)
        assert said.code == 0, said.err
        config_map, rayjob = yaml.safe_load_all(said.out)
        jsonschema.validate(rayjob, RAYJOB)
        return config_map, rayjob

    return make


def worker(rayjob: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The worker group, and its container."""
    (group,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    return group, container


def test_the_pods_find_recipe_runs_and_code(made: Made) -> None:
    config_map, rayjob = made("--set", "svm.C=0.007")
    name = config_map["metadata"]["name"]
    assert rayjob["metadata"]["name"] == name
    recipe = config.parse(tomllib.loads(config_map["data"]["recipe.toml"]))
    assert (recipe.name, recipe.svm.C) == ("digits", 0.007)
    assert rayjob["spec"]["entrypoint"].split()[:5] == [
        "python", "-m", "jobs", "run", "/recipe/recipe.toml",
    ]  # fmt: skip
    head = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounted = {each["name"]: each["mountPath"] for each in head["containers"][0]["volumeMounts"]}
    assert mounted == {"shared": "/shared", "recipe": "/recipe"}
    assert {"name": "recipe", "configMap": {"name": name}} in head["volumes"]
    _, container = worker(rayjob)
    assert [each["mountPath"] for each in container["volumeMounts"]] == ["/shared"]
    assert container["image"] == "i:1"
    assert rayjob["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert rayjob["spec"]["shutdownAfterJobFinishes"] is True


# Memory: 6 GB of svm.memory_bytes a CPU, or of extractors, and 2 GB for Ray; 8e9 / 2**30 = 7.5.
@pytest.mark.parametrize(
    ("fields", "replicas", "amount", "start"),
    [
        ([], (1, 10), {"cpu": "1", "memory": "8Gi"}, ("1", "6000000000")),
        (
            ["min_actors=3", "max_actors=7", "cpus=2"],
            (3, 7),
            {"cpu": "2", "memory": "14Gi"},  # 14e9 / 2**30 = 13.04
            ("2", "12000000000"),
        ),
        (
            ["gpus=1", "memory_bytes=9_000_000_000"],
            (1, 10),
            {"cpu": "1", "memory": "11Gi", "nvidia.com/gpu": "1"},  # 11e9 / 2**30 = 10.2
            ("1", "9000000000"),
        ),
        (
            ["gpus=0.5", "min_actors=3", "max_actors=5"],  # two share a GPU, so a pod has two
            (2, 3),
            {"cpu": "2", "memory": "14Gi", "nvidia.com/gpu": "1"},
            ("2", "12000000000"),
        ),
        (
            ["gpus=0.5", 'decode="cluster"', "cpus=3"],  # and for each a CPU that decodes for it
            (1, 5),
            {"cpu": "8", "memory": "47Gi", "nvidia.com/gpu": "1"},  # (8 × 6e9 + 2e9) / 2**30 = 46.6
            ("8", "48000000000"),
        ),
        (["min_actors=20"], (20, 20), {"cpu": "1", "memory": "8Gi"}, ("1", "6000000000")),
    ],
)
def test_a_pod_has_what_an_extractor_reserves(
    made: Made,
    fields: list[str],
    replicas: tuple[int, int],
    amount: dict[str, str],
    start: tuple[str, str],
) -> None:
    _, rayjob = made(*(word for each in fields for word in ("--set", f"extractor.{each}")))
    group, container = worker(rayjob)
    assert (group["minReplicas"], group["maxReplicas"]) == replicas
    assert group["replicas"] == replicas[0]
    assert container["resources"] == {"requests": amount, "limits": amount}
    assert (group["rayStartParams"]["num-cpus"], group["rayStartParams"]["memory"]) == start


def test_values_of_named_variables_are_not_printed(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    documents = made("--env", "AWS_SECRET_ACCESS_KEY", "--env", "A=b")
    assert "hunter2" not in str(documents)
    _, container = worker(documents[1])
    (variable,) = container["env"]
    assert variable["valueFrom"] == {
        "secretKeyRef": {"name": "spp-env", "key": "AWS_SECRET_ACCESS_KEY"}
    }
    assert yaml.safe_load(documents[1]["spec"]["runtimeEnvYAML"]) == {"env_vars": {"A": "b"}}


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (["digits", "--runs", "/data/runs"], "/data/runs"),
        (["voc_squeezenet", "--runs", "/shared/r", "--data", "/sharedx"], "/sharedx/detection"),
    ],
)
def test_what_no_pod_would_see_is_refused(
    spp: Callable[..., Any], refused: Callable[..., None], options: list[str], path: str
) -> None:
    said = spp("submit", *options, "--kuberay", "--image", "i:1")
    refused(said, 2, path, "is not under /shared", "spp-shared")


FREE = ("rayStartParams", "requests", "limits", "metadata")  # their keys are nobody's


def closed_objects(found: Any) -> Iterator[dict[str, Any]]:
    """Every object in it whose keys the schema knows."""
    if isinstance(found, dict):
        yield found
    children = found.items() if isinstance(found, dict) else enumerate(found)
    for name, child in children:
        if isinstance(child, dict | list) and name not in FREE:
            yield from closed_objects(child)


def test_a_misspelt_key_anywhere_fails_the_schema(made: Made) -> None:
    _, rayjob = made("--env", "A")
    valid = jsonschema.validators.validator_for(RAYJOB)(RAYJOB).is_valid
    keys = [(number, key) for number, each in enumerate(closed_objects(rayjob)) for key in each]
    assert len(keys) > 80
    for number, key in keys:
        broken = copy.deepcopy(rayjob)
        changed = list(closed_objects(broken))[number]
        changed[f"{key}x"] = changed.pop(key)
        assert not valid(broken), key


def test_the_schema_comes_from_a_definition() -> None:
    spec = importlib.util.spec_from_file_location("rayjob_schema", GOLDEN / "rayjob_schema.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    affinity = {"type": "object", "properties": {"x": {"type": "string"}}}
    below = {"description": "d", "format": "int32", "type": "integer", "default": 0}
    job = {
        "description": "what it is",
        "type": "object",
        "required": ["a"],
        "properties": {"a": below, "affinity": affinity, "spec": affinity},
    }
    whole = {"type": "object", "properties": {"spec": job, "status": {"type": "object"}}}
    other = {"name": "v1alpha1", "schema": {}}
    text = yaml.safe_dump(
        {"spec": {"versions": [other, {"name": "v1", "schema": {"openAPIV3Schema": whole}}]}}
    )
    assert script.reduced(script.definition(text)) == {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "spec": {
                "type": "object",
                "required": ["a"],
                "additionalProperties": False,
                "properties": {
                    "a": {"type": "integer"},
                    "affinity": {"type": "object"},
                    "spec": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"x": {"type": "string"}},
                    },
                },
            }
        },
    }
