"""Write constraints.txt and lock/ anew: every package that is installed, its version and its files.

    make lock                                   # after a change to pyproject.toml
    make lock UPDATE='--upgrade-package NAME'   # that to the newest that fits; --upgrade: all

uv resolves for all platforms and Pythons at once, and the hashes are of all files of the index.
A set's file has what the set needs beyond those of `run`, so that `run` and any others go together.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1]
LOCK = PROJECT / "lock"
EXTRAS = (
    "s3",
    "gs",
    "aws",
    "backbones",
    "dev",
)  # not timm: its torchvision must fit the torch that is there
WITH_CUDA = re.compile(r"nvidia-|cuda-|triton$")  # what only builds of torch with CUDA ask for
SAYS = "# Made by `make lock`; to be installed with --require-hashes.\n"
VERSIONS = "# Versions that work together, made by `make lock`; pyproject.toml has the ranges.\n"
Pins = dict[str, str]  # requirements with their hashes, by the package's name


def pins(text: str) -> Pins:
    r"""Return the requirements of a file by name.

    >>> pins("# why\na==1 \\\n    --hash=sha256:0f\nb-c==2 ; python_version < '3.12'\n")
    {'a': 'a==1 \\\n    --hash=sha256:0f', 'b-c': "b-c==2 ; python_version < '3.12'"}
    """
    found = re.findall(r"^([\w.-]+)(==.*(?:\n .*)*)", text, re.MULTILINE)
    return {name: name + rest for name, rest in found}


def divide(run: Pins, extras: dict[str, Pins], asked: dict[str, list[str]]) -> dict[str, Pins]:
    """Divide requirements among files: torch, what its CUDA builds need, the rest, and extras.

    torch has a file of its own: which build it is, only the installed one tells. Of what CUDA
    needs, an extra has what it asks for by name.

    >>> run = dict.fromkeys(["numpy", "nvidia-nccl", "torch", "triton"], "==2")
    >>> dev = run | {"pytest": "==9"}
    >>> [(file, *each) for file, each in divide(run, {"dev": dev}, {"dev": ["triton"]}).items()][1:]
    [('cuda', 'nvidia-nccl', 'triton'), ('run', 'numpy'), ('dev', 'triton', 'pytest')]
    >>> wider = {"c": "==1"}
    >>> divide(run | {"c": "==1 ; win"}, {"dev": run | wider}, {"dev": []})["dev"]
    {'c': '==1'}
    """
    cuda = {name: each for name, each in run.items() if WITH_CUDA.match(name)}
    rest = {name: each for name, each in run.items() if name not in {"torch", *cuda}}
    files = {"torch": {"torch": run["torch"]}, "cuda": cuda, "run": rest}
    for extra, found in extras.items():
        known = {"torch", *(name for name in cuda if name not in str(asked[extra]))}
        # As it is there: an extra may need on all platforms what `run` needs on one.
        files[extra] = {
            name: each
            for name, each in found.items()
            if name not in known and rest.get(name) != each
        }
    return files


def with_cpu_builds(torch: str, listed: str) -> str:
    r"""Add the files of torch that the default index does not list to its requirement.

    >>> with_cpu_builds("torch==2.1 \\\n    --hash=sha256:ee", "# why\n0f  torch-2.1+cpu-a.whl\n")
    'torch==2.1 \\\n    --hash=sha256:0f \\\n    --hash=sha256:ee'
    """
    version = torch.partition("==")[2].split()[0]
    builds = dict(line.split()[::-1] for line in listed.splitlines() if line[:1] != "#")
    other = [name for name in builds if not name.startswith(f"torch-{version}+")]
    if other:
        raise ValueError(
            f"torch is now {version}, and lock/torch-cpu.sha256 has {other[0]}: "
            "put there what PyTorch's index for CPUs lists of it"
        )
    first, *hashes = torch.split(" \\\n")
    more = [f"    --hash=sha256:{digest}" for digest in builds.values()]
    return " \\\n".join([first, *sorted({*hashes, *more})])


def resolve(*arguments: str | Path, begin_with: Path | None = None) -> str:
    """Have uv resolve, and return the requirements; versions of a file are kept where they fit."""
    command = [Path(sys.executable).with_name("uv"), "pip", "compile", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "requirements.txt")
        if begin_with is not None:
            shutil.copy(begin_with, made)
        command += ["--universal", "--python-version", "3.11", "--no-header", "--no-annotate"]
        subprocess.run([*command, "--output-file", made, *arguments], cwd=PROJECT, check=True)
        return made.read_text()


def main(update: list[str]) -> None:
    """Resolve everything together, look up the files of each part at those versions, and write."""
    project, versions = PROJECT / "pyproject.toml", PROJECT / "constraints.txt"
    says = tomllib.loads(project.read_text())
    with_all = [option for extra in EXTRAS for option in ("--extra", extra)]
    with tempfile.TemporaryDirectory() as folder:
        build, fixed = Path(folder, "build.in"), Path(folder, "constraints.txt")
        build.write_text("\n".join(says["build-system"]["requires"]))
        fixed.write_text(resolve(project, build, *with_all, *update, begin_with=versions))
        at = ("--generate-hashes", "--constraint", fixed)
        run, parts = pins(resolve(project, *at)), {"build": pins(resolve(build, *at))}
        extras = {extra: pins(resolve(project, "--extra", extra, *at)) for extra in EXTRAS}
        text = VERSIONS + fixed.read_text()
    parts |= divide(run, extras, says["project"]["optional-dependencies"])
    without_cuda = (LOCK / "torch-cpu.sha256").read_text()
    parts["torch"] = {"torch": with_cpu_builds(run["torch"], without_cuda)}
    own = ("--group", "supply", "--generate-hashes", *update)
    parts["supply"] = pins(resolve(*own, begin_with=LOCK / "supply.txt"))
    versions.write_text(text)
    for name, found in parts.items():
        (LOCK / f"{name}.txt").write_text(SAYS + "".join(f"{each}\n" for each in found.values()))
        print(f"lock/{name}.txt: {len(found)} packages, {str(found).count('sha256:')} files")


if __name__ == "__main__":
    main(sys.argv[1:])
