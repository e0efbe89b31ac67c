"""The files of deploy/: each against the schema, or the command, that it is for."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.main import get_command

from jobs import options
from jobs.cli import app

PROJECT = Path(options.__file__).parents[1]
DEPLOY = PROJECT / "deploy"


def test_the_example_is_what_the_command_prints(spp: Callable[..., Any]) -> None:
    lines = (DEPLOY / "README.md").read_text(encoding="utf-8").splitlines()
    (line,) = (each for each in lines if "--kuberay" in each and each.startswith("    spp submit"))
    words, _, file = line.partition(" > ")
    assert spp(*shlex.split(words)[1:]).out == (DEPLOY / file).read_text(encoding="utf-8")


def cluster() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "cluster.yaml").read_text(encoding="utf-8"))


def test_the_launchers_file_fits_rays_schema() -> None:
    schema = json.loads((resources.files("ray.autoscaler") / "ray-schema.json").read_text())
    found = cluster()
    jsonschema.validate(found, schema)
    for misspelt in ({"max_worker": 1}, {"docker": {**found["docker"], "images": "x"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**found, **misspelt}, schema)


def test_the_launchers_head_is_safe_and_its_workers_come_and_go() -> None:
    found = cluster()
    types = found["available_node_types"]
    head = types.pop(found["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"] == {"CPU": 0}
    for each in types.values():
        assert each["min_workers"] < each["max_workers"] <= found["max_workers"]
        assert each["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "--env RAY_AUTH_MODE=token" in found["docker"]["run_options"]
    assert found["file_mounts"] == {"/home/spp/.ray/auth_token": "~/.ray/auth_token"}


def test_the_guide_names_every_option_of_submit() -> None:
    command = get_command(app).get_command(None, "submit")  # pyright: ignore[reportAttributeAccessIssue]
    options = {name for each in command.params for name in each.opts if name.startswith("--")}
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert {name for name in options if name not in text} == {"--json"}


def dockerfile() -> list[str]:
    """The instructions of the last line to the first, each on one line."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [line for line in text.splitlines() if line]


def test_the_image_is_pinned_and_nobodys_root() -> None:
    lines = dockerfile()
    installs = [line for line in lines if re.search(r"\bpip\b", line)]
    calls = [call for line in installs for call in re.findall(r"\bpip [^&]+", line)]
    assert len(calls) == 5
    for call in calls:
        assert "--no-index" in call or (
            "--require-hashes" in call and "--only-binary :all:" in call
        )
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"]
    assert lines.index("USER 1000:1000") > lines.index(installs[-1])
    set_there = " ".join(line for line in lines if line.startswith(("ENV", "ARG")))
    assert not re.search("secret|key|password|auth_token", set_there, re.IGNORECASE)


@pytest.mark.slow
def test_what_the_image_copies_makes_a_whole_package(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    copied = [line.split()[1:-1] for line in dockerfile() if line.startswith("COPY")]
    for name in (name for names in copied for name in names):
        if (PROJECT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / name, source / name, ignore=ignored)
        else:
            shutil.copy(PROJECT / name, source)
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    assert {f"!{name}" for names in copied for name in names} == {
        line for line in let_in if line.startswith("!")
    }
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", tmp_path]
    subprocess.run([*wheel, source], check=True, timeout=110)
    (made,) = tmp_path.glob("sppnet-*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(made) as packed:
        packed.extractall(installed)
    # From there, `spp submit` finds its code and recipes.
    code = "import sys; from jobs.parcel import *; from jobs import options; "
    code += "made = Parcel(load_for_cluster('digits', None, None), 'run', Path('/r')); "
    code += "print(*made.pack(Path(sys.argv[1]))['py_modules'])"
    said = subprocess.run(
        [sys.executable, "-c", code, source], env={"PYTHONPATH": str(installed)}, cwd=tmp_path,
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    places = [installed / name for name in ("pipeline", "actors", "jobs")]
    assert said.stdout.split() == [str(place) for place in places]
    assert (source / "recipe.toml").is_file()
