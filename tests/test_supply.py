"""What is installed: declared and imported, pinned and hashed, listed as CycloneDX, asked about."""

import ast
import doctest
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[1]
FLOORS = ("pipeline", "actors", "jobs")
SOURCES = sorted(path for floor in FLOORS for path in (PROJECT / floor).rglob("*.py"))
SAYS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES = SAYS["project"]["dependencies"]
EXTRAS = SAYS["project"]["optional-dependencies"]
LOCKS = sorted((PROJECT / "lock").glob("*.txt"))


def script(name: str) -> ModuleType:
    """One of the scripts in deploy/."""
    spec = importlib.util.spec_from_file_location(name, PROJECT / f"deploy/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


# Least dependencies.

# Not declared here: what brings them. They are imported where what brings them is there.
BROUGHT = {"aiobotocore": "s3fs", "botocore": "s3fs", "triton": "torch"}
# Imported by one function, when there is a triton.
LAZY = PROJECT / "pipeline/spp/cuda.py"


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Every module that is not Python's or ours, and whether only a function's call imports it."""
    tree = ast.parse(source)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    bodies = [each for each in ast.walk(tree) if isinstance(each, functions)]
    called = {id(node) for each in bodies for node in ast.walk(each)}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                found = [each.name for each in aliases]
            case ast.ImportFrom(module=str(module), level=0):
                found = [module]
            case _:
                found = []
        for top in {name.partition(".")[0] for name in found}:
            if top not in {*sys.stdlib_module_names, *FLOORS}:
                yield top, id(node) in called


installed = cache(packages_distributions)


def distributions(module: str) -> set[str]:
    """The distributions that a module may come from: itself where it is not installed."""
    return {canonicalize_name(each) for each in installed().get(module, [module])}


def test_what_is_imported_is_declared() -> None:
    declared, extras = names(DEPENDENCIES), names([each for of in EXTRAS.values() for each in of])
    assert set(BROUGHT.values()) <= declared | extras
    for path in SOURCES:
        for module, lazy in imports(path.read_text(encoding="utf-8")):
            allowed = declared | (extras | set(BROUGHT) if lazy or path == LAZY else set())
            assert distributions(module) & allowed, f"{path}: {module}"


def test_what_is_declared_is_imported() -> None:
    used = {module for path in SOURCES for module, _ in imports(path.read_text(encoding="utf-8"))}
    found = {each for module in used for each in distributions(module)}
    assert names(DEPENDENCIES) - found == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b, c as d", {("a", False), ("c", False)}),
        ("def f():\n    from a.b import c", {("a", True)}),
        ("try:\n    import a\nexcept ImportError: pass", {("a", False)}),
        (
            "class A:\n    import a\n    async def f(self):\n        import b",
            {("a", False), ("b", True)},
        ),
        ("import os, pipeline.spp\nfrom . import a\nfrom .b import c", set()),
    ],
)
def test_that_check_finds_imports(source: str, found: set[tuple[str, bool]]) -> None:
    assert set(imports(source)) == found


# The lock.

ENTRY = r"[a-z0-9-]+==[\w.!+]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n"


def pinned(*files: str) -> dict[str, Version]:
    """The versions in some files of lock/."""
    text = "".join((PROJECT / f"lock/{name}.txt").read_text(encoding="utf-8") for name in files)
    found = re.findall(r"^([\w-]+)==([^\s;]+)", text, re.MULTILINE)
    return {name: Version(version) for name, version in found}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_line_of_a_lock_is_a_version_with_hashes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.fullmatch(rf"# .*\n({ENTRY})+", text), "an option, an address, a range, or no hash"
    assert text.count("==") > text.count(" ; ")  # of markers; so there are versions
    assert pinned(path.stem)


@pytest.mark.parametrize(
    "bad",
    [
        "a>=1",
        "a==1",
        "a @ https://b.c/a.whl",
        "--index-url https://b.c",
        "a==1 \\\n    --hash=md5:0f",
    ],
)
def test_that_check_can_fail(bad: str) -> None:
    good = "a==1 \\\n    --hash=sha256:" + "0f" * 32 + "\n"
    assert re.fullmatch(f"({ENTRY})+", good + good)
    assert not re.fullmatch(f"({ENTRY})+", good + bad + "\n" + good)


PARTS = [
    (DEPENDENCIES, ("torch", "run")),
    (SAYS["build-system"]["requires"], ("build",)),
    (SAYS["dependency-groups"]["supply"], ("supply",)),
    *((EXTRAS[extra], ("torch", "run", extra)) for extra in EXTRAS if extra != "timm"),
]


@pytest.mark.parametrize(("requirements", "files"), PARTS, ids=[files[-1] for _, files in PARTS])
def test_the_lock_has_what_is_declared(requirements: list[str], files: tuple[str, ...]) -> None:
    there = pinned(*files)
    for requirement in map(Requirement, requirements):
        version = there[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} and {version}: make lock"


def test_the_lock_has_what_is_here() -> None:
    parts = [path.stem for path in LOCKS if path.stem != "supply"]
    there = pinned(*parts) | pinned("dev")
    here = script("sbom").bill()["components"]
    assert len(here) > 80
    public = {part["name"]: Version(Version(part["version"]).public) for part in here}
    assert {
        name: (version, there.get(name))
        for name, version in public.items()
        if version != there.get(name)
    } == {}


def test_constraints_are_the_versions_of_the_lock() -> None:
    text = (PROJECT / "constraints.txt").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^([\w-]+)==([^\s;]+)", text, re.MULTILINE))
    locked = pinned(*(path.stem for path in LOCKS if path.stem != "supply"))
    assert {name: Version(each) for name, each in versions.items()} == locked


def test_builds_of_torch_without_cuda_are_in_the_lock() -> None:
    text = (PROJECT / "lock/torch.txt").read_text(encoding="utf-8")
    listed = (PROJECT / "lock/torch-cpu.sha256").read_text(encoding="utf-8")
    lines = [line for line in listed.splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if f"sha256:{line.split()[0]}" not in text] == []
    assert script("lock").with_cpu_builds(script("lock").pins(text)["torch"], listed) in text


def test_cpu_builds_of_another_torch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"torch is now 3\.1, .* torch-3\.0\+cpu-a\.whl"):
        script("lock").with_cpu_builds(
            "torch==3.1 \\\n    --hash=sha256:ee", "0f  torch-3.0+cpu-a.whl"
        )


@pytest.mark.parametrize("given", ["HASHES=", "HASHES=yes"])
def test_make_installs_by_the_lock_unless_told_otherwise(given: str) -> None:
    command = [
        "make",
        "--dry-run",
        "--always-make",
        ".venv/.tools",
        ".venv/supply/.installed",
        given,
    ]
    said = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    calls = re.findall(r"pip install [^|&\n]+", said.stdout.replace("\\\n", ""))
    held = [call for call in calls if "--require-hashes" in call and "-r lock/" in call]
    ours = [call for call in calls if "--no-deps --no-build-isolation --editable ." in call]
    by_version = [call for call in calls if "--constraint constraints.txt" in call]
    expected = (1, 0, 2) if given == "HASHES=" else (5, 1, 0)
    assert (len(held), len(ours), len(by_version)) == expected
    assert len(calls) == sum(expected)


# The bill of materials, and the audit.


@pytest.mark.parametrize("name", ["lock", "audit"])
def test_examples_in_scripts(name: str) -> None:
    result = doctest.testmod(script(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_bill_of_materials_fits_its_schema_and_names_no_place() -> None:
    command = [sys.executable, PROJECT / "deploy/sbom.py"]
    runs = [
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
        for folder in (PROJECT, "/")
    ]
    text = runs[0].stdout
    assert text == runs[1].stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert not re.search(r"file:|https?:|[\"\s]/|timestamp|serialNumber", text)
    parts = {part["name"]: part for part in json.loads(text)["components"]}
    assert names(DEPENDENCIES) <= set(parts)
    assert {"pytest", "pip"} & set(parts) == set()
    assert parts["numpy"]["purl"] == f"pkg:pypi/numpy@{parts['numpy']['version']}"


def test_that_schema_can_refuse() -> None:
    bill = script("sbom").bill()
    bill["components"][0]["type"] = "thing"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is not None


def test_the_bill_follows_what_is_needed() -> None:
    lines = {
        line["ref"].partition("@")[0]: line["dependsOn"]
        for line in script("sbom").bill()["dependencies"]
    }
    assert {each.partition("@")[0] for each in lines["pkg:pypi/sppnet"]} >= {
        "pkg:pypi/torch",
        "pkg:pypi/ray",
    }
    (mpmath,) = lines["pkg:pypi/sympy"]
    assert mpmath.startswith("pkg:pypi/mpmath@")
    assert lines["pkg:pypi/mpmath"] == []


def test_an_audit_asks_once_for_each_package_of_the_lock() -> None:
    everything = pinned(*(path.stem for path in LOCKS))
    asked = []
    for path in script("audit").LISTS:
        names_there = re.findall(r"^([\w-]+)==", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(names_there) == len(
            set(names_there)
        )  # pip-audit refuses one that is there twice
        asked += names_there
    assert set(asked) == set(everything)


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        ('echo \'{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}\'', 0, "no known"),
        ("echo Traceback >&2; echo 'Error: no route' >&2; exit 1", 2, "nothing was checked: Error"),
        (
            'echo \'{"dependencies": [{"name": "a", "skip_reason": "404"}]}\'',
            2,
            "answered for 0 of 2",
        ),
    ],
)
def test_an_audit_that_was_not_answered_is_no_good_news(
    program: str, code: int, said: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "pip-audit").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "pip-audit").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert script("audit").main() == code
    assert said in capsys.readouterr().out
