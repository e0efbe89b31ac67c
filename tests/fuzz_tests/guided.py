"""`python -m tests.fuzz_tests.guided TARGET SECONDS SEED`: one reader, by Atheris.

It keeps inputs that reach lines which no other one has reached, and goes on from these.
"""

import sys
import warnings
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import atheris

PROJECT = Path(__file__).parents[2]
# Numba compiles what a function's own bytes say, and takes none that count lines.
COMPILED = [
    ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    for path in (PROJECT / "pipeline").rglob("*.py")
    if "numba" in path.read_text(encoding="utf-8")
]
with atheris.instrument_imports(include=["pipeline", "PIL", "defusedxml"], exclude=COMPILED):
    from tests.fuzz_tests.mutate import LONGEST, mutate
    from tests.fuzz_tests.target import working_folder
    from tests.fuzz_tests.targets import FOUND, MOST_MB, SLOWEST_S, TARGETS, kept


def main() -> None:
    """Try inputs until the time is over, or one breaks something."""
    name, seconds, seed = sys.argv[1:]
    target = TARGETS[name]
    seeds = [*target.seeds(), *kept(target)]
    warnings.simplefilter("ignore")

    def made_up(data: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.5:
            return atheris.Mutate(data, most)
        return mutate(random, [data, random.choice(seeds)], target.words)[:most]

    with working_folder() as folder, TemporaryDirectory(prefix="spp-corpus-") as corpus:
        for number, data in enumerate(seeds):
            (Path(corpus) / f"seed-{number}").write_bytes(data)
        options = {
            "max_total_time": int(float(seconds)),
            "seed": seed,
            "max_len": LONGEST,
            "rss_limit_mb": MOST_MB,
            "timeout": SLOWEST_S,
            "print_final_stats": 1,
            "artifact_prefix": f"{FOUND}/{target.name}-",
        }
        words = [f"-{name}={value}" for name, value in options.items()]

        def attempt(data: bytes) -> None:
            target(data, folder)

        atheris.Setup([sys.argv[0], *words, corpus], attempt, custom_mutator=made_up)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
