"""The house rules that no other tool checks: floors, pickle, names, words (HOUSE §2, §3, §7)."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FLOORS = ("pipeline", "actors", "jobs")
SOURCES = sorted(path for floor in FLOORS for path in (PROJECT / floor).rglob("*.py"))

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(found.name)
print(*sys.modules)
"""


def loaded_by(*packages: str) -> set[str]:
    """What a fresh interpreter has loaded after importing all modules of some packages."""
    command = [sys.executable, "-c", IMPORT_ALL, *packages]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=90)
    assert said.returncode == 0, said.stderr
    return {name.partition(".")[0] for name in said.stdout.split()}


def test_the_library_never_loads_ray_nor_the_floors_above() -> None:
    loaded = loaded_by("pipeline")
    assert "pipeline" in loaded
    assert loaded & {"ray", "actors", "jobs"} == set()
    assert (
        loaded & {"transformers", "timm", "torchvision"} == set()
    )  # seconds, and may not be there


def test_that_check_can_fail() -> None:
    assert {"ray", "actors", "pipeline"} <= loaded_by("actors")


def test_workers_load_torch_only_for_what_computes_with_it() -> None:
    said = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(WITHOUT_TORCH)}, sys; print(*sys.modules)"],
        cwd=PROJECT, capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    assert "torch" not in said.stdout.split(), "each task would take two seconds longer"
    assert "torch" in loaded_by("pipeline")


# What tasks of runs are made of, and what reads stores of vectors.
WITHOUT_TORCH = (
    "actors.task", "actors.worker", "pipeline.store", "pipeline.detection", "pipeline.outcome",
    "pipeline.learning.rounds", "pipeline.classification", "pipeline.windows.table",
)  # fmt: skip
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "_pickle"}


def pickling(source: str) -> list[str]:
    """Return the pieces of code that could run what a file says."""
    return [ast.unparse(node) for node in ast.walk(ast.parse(source)) if _is_pickling(node)]


def _is_pickling(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(name.name.partition(".")[0] in PICKLES for name in names)
        case ast.ImportFrom(module=str(module)):
            return module.partition(".")[0] in PICKLES
        case ast.Attribute(attr=attr) if attr in PICKLES | {"read_pickle", "to_pickle"}:
            return True
        case ast.Call(func=ast.Name(id="eval" | "exec")):
            return True
        case ast.Call(func=function, keywords=keywords):
            given = {each.arg: ast.unparse(each.value) for each in keywords}
            careless = given.get("weights_only") != "True"
            called = ast.unparse(function)
            return (called == "torch.load" and careless) or given.get("allow_pickle") == "True"
    return False


def test_nothing_is_unpickled() -> None:
    assert [(path, found) for path in SOURCES for found in pickling(path.read_text())] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", True),
        ("import a, cloudpickle as c", True),
        ("from pickle import loads", True),
        ("from joblib import load", True),
        ("ray.cloudpickle.loads(x)", True),
        ("pandas.read_pickle(x)", True),
        ("torch.load(x)", True),
        ("torch.load(x, weights_only=False)", True),
        ("torch.load(x, weights_only=flag)", True),
        ("numpy.load(x, allow_pickle=True)", True),
        ("eval(x)", True),
        ("torch.load(x, weights_only=True)", False),
        ("numpy.load(x, allow_pickle=False)", False),
        ("network.eval()", False),
        ("json.loads(x)", False),
    ],
)
def test_that_check_knows_what_it_looks_for(source: str, found: bool) -> None:
    assert bool(pickling(source)) is found


# Other people's tests call these: the name, and how it is called (HOUSE §7).
NAMES = {
    "pipeline.boxes.iou": "boxes_a, boxes_b",
    "pipeline.boxes.nms": "boxes, scores, threshold",
    "pipeline.boxes.flip": "boxes, width",
    "pipeline.boxes.encode": "windows, targets",
    "pipeline.boxes.decode": "windows, deltas",
    "pipeline.spp.bin_edges": "length, level",
    "pipeline.spp.project": "boxes, geometry, map_size",
    "pipeline.spp.pool": "feature_map, cells, levels",
    "pipeline.spp.choose_scale": "boxes, image_size, scales, rule='area'",
    "pipeline.networks.Geometry": "stride, centre, shrink",
    "pipeline.networks.load": "name, weights=None",
    "pipeline.evaluation.average_precision": "recall, precision, method='voc07'",
    "pipeline.evaluation.evaluate_detections": "detections, ground_truth, iou=0.5, method='voc07'",
    "pipeline.learning.fit_svm": "X, y, C, positive_weight, bias",
    "pipeline.learning.LinearSVM": "weights, intercept, objective",
    "pipeline.learning.fit_box_regressor": "X, Y, ridge",
    "pipeline.learning.BoxRegressor.predict": "self, X",
    "pipeline.learning.select_hard": "scores, threshold",
    "pipeline.learning.evict_easy": "scores, threshold",
    "pipeline.store.open": "uri",
    "pipeline.store.Store.scan": "self, columns=None, where=None, classes=None",
    "pipeline.store.Store.sql": "self, query",
    "pipeline.store.Store.verify": "self",
}


def resolve(name: str) -> object:
    """Return what a dotted name stands for."""
    parts = name.split(".")
    module = importlib.import_module(".".join(parts[:2]))
    found: object = module
    for part in parts[2:]:
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(("name", "call"), NAMES.items())
def test_public_names_are_called_as_promised(name: str, call: str) -> None:
    found = resolve(name)
    assert callable(found)
    signature = inspect.signature(found)
    promised = call.split(", ")
    given = [each.partition("=")[0] for each in promised]
    assert list(signature.parameters)[: len(given)] == given
    defaults = {each.partition("=")[0]: each.partition("=")[2] for each in promised if "=" in each}
    for argument, default in defaults.items():
        assert repr(signature.parameters[argument].default) == default
    # By place and by name; the rest may be left out.
    signature.bind(*given)
    keywords = [each for each in given if each != "self"]
    signature.bind(*given[: len(given) - len(keywords)], **dict.fromkeys(keywords))


@pytest.mark.parametrize("package", ["boxes", "spp", "networks", "evaluation", "learning", "store"])
def test_tables_of_contents_are_true(package: str) -> None:
    module = importlib.import_module(f"pipeline.{package}")
    listed = getattr(module, "__all__", [])
    assert [name for name in listed if not hasattr(module, name)] == []
    assert module.__doc__


UNUSED = {"roi", "proposal", "blob", "embedding", "helper", "manager", "util"}


def words(identifier: str) -> set[str]:
    """The words of an identifier, in the singular.

    >>> sorted(words("_read_RoIs")), sorted(words("contextmanager")), sorted(words("BlobUtils"))
    (['read', 'roi'], ['contextmanager'], ['blob', 'util'])
    """
    parts = re.findall(r"RoI|[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)
    return {part.lower().removesuffix("s") for part in parts} - {""}


def identifiers(source: str) -> Iterator[str]:
    """Every name that the code gives to something of its own."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.alias(asname=str(name)):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def test_words_have_one_meaning() -> None:
    assert len(SOURCES) > 50
    for path in SOURCES:
        place = path.relative_to(PROJECT).with_suffix("")
        names = [*place.parts, *identifiers(path.read_text())]
        assert (place, [name for name in names if words(name) & UNUSED]) == (place, [])


def test_that_check_finds_the_words() -> None:
    source = "import x as utils\ndef pool_rois(blob, *, k):\n    Manager_ = self.embeddings = k"
    found = [name for name in identifiers(source) if words(name) & UNUSED]
    assert sorted(found) == ["Manager_", "blob", "embeddings", "pool_rois", "utils"]
