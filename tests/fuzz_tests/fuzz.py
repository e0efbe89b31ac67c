"""`python -m tests.fuzz_tests.fuzz [TARGET...] [--seconds 60]`: try inputs for as long as wanted.

Each reader is tried in a process of its own, with little memory and a limit of time: by Atheris
(see `guided`), and where there is no Atheris, by inputs of `mutate` alone. What breaks something is
kept in `found/`; once that is mended, move it to `kept/TARGET/`.
"""

import argparse
import importlib.util
import re
import resource
import subprocess
import sys
import time
import warnings
from random import Random

from tests.fuzz_tests.mutate import mutate
from tests.fuzz_tests.target import Target, working_folder
from tests.fuzz_tests.targets import FOUND, MOST_MB, PROJECT, SLOWEST_S, TARGETS, kept

START_S = 120  # imports, and the seeds
_COUNTED = re.compile(r"^(?:stat::number_of_executed_units:|tried) +(\d+)$", re.MULTILINE)


def main() -> None:
    """Try all targets or some, one after the other; exit with 1 if one broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-random", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if unknown := set(asked.targets) - TARGETS.keys():
        parser.error(f"no target {min(unknown)}; there are {', '.join(TARGETS)}")
    if asked.at_random:
        _at_random(TARGETS[asked.targets[0]], asked.seconds, asked.seed)
        return
    total = broken = 0
    for name in asked.targets or TARGETS:
        tried, fault = _apart(name, asked.seconds, asked.seed)
        total, broken = total + tried, broken + bool(fault)
        print(f"{name:16} {tried:>12,} inputs  {fault or 'nothing broke'}", flush=True)  # noqa: T201
    print(f"{'in all':16} {total:>12,} inputs  {broken} targets broke")  # noqa: T201
    sys.exit(broken > 0)


def _apart(name: str, seconds: float, seed: int) -> tuple[int, str]:
    """Try a target in a process of its own; return how many inputs were tried, and what broke."""
    FOUND.mkdir(exist_ok=True)
    log, words = FOUND / f"{name}.log", [name, str(seconds), str(seed)]
    command = [sys.executable, "-m", "tests.fuzz_tests.guided", *words]
    if importlib.util.find_spec("atheris") is None:
        options = ["--at-random", "--seconds", str(seconds), "--seed", str(seed)]
        command = [sys.executable, "-m", "tests.fuzz_tests.fuzz", name, *options]
    most_s = seconds + SLOWEST_S + START_S
    try:
        with log.open("w") as told:
            ended = subprocess.run(
                command, cwd=PROJECT, stdout=told, stderr=told, check=False, timeout=most_s
            )
    except subprocess.TimeoutExpired:
        return 0, f"did not end within {most_s:g} s: see {log}"
    tried = sum(map(int, _COUNTED.findall(log.read_text(errors="replace"))))
    return tried, f"exit code {ended.returncode}: see {log}" if ended.returncode else ""


def _at_random(target: Target, seconds: float, seed: int) -> None:
    """Try made up inputs; each is written down before, for a reader may end the process."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MB << 20, MOST_MB << 20))
    warnings.simplefilter("ignore")
    seeds, last = [*target.seeds(), *kept(target)], FOUND / f"{target.name}-last"
    end, tried = time.monotonic() + seconds, 0
    with working_folder() as folder:
        while time.monotonic() < end:
            data = mutate(Random(f"{seed} {tried}"), seeds, target.words)
            last.write_bytes(data)
            target(data, folder)
            tried += 1
    last.unlink(missing_ok=True)
    print(f"tried {tried}")  # noqa: T201


if __name__ == "__main__":
    main()
