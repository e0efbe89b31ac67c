"""Readers of what comes from outside end in a result or a refusal, whatever they are given.

`make fuzz` tries them for as long as wanted; here each reader gets what it once broke at, and some
made up inputs.
"""

import os
import warnings
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.fuzz_tests.mutate import mutate
from tests.fuzz_tests.target import Target
from tests.fuzz_tests.targets import TARGETS, kept

COUNT = int(os.environ.get("FUZZ_COUNT", "40"))


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_results_and_refusals(name: str, tmp_path: Path) -> None:
    target, seeds = TARGETS[name], list(TARGETS[name].seeds())
    made = (
        mutate(Random(f"{name} {k}"), seeds, target.words)
        for k in range(COUNT // 10 if target.is_slow else COUNT)
    )
    became = Counter[str]()
    for number, data in enumerate([*seeds, *kept(target), *made]):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                became[target(data, tmp_path)] += 1
        except Exception as fault:
            (tmp_path / "input").write_bytes(data)
            fault.add_note(f"input {number} of {name}, {data[:200]!r}, is in {tmp_path / 'input'}")
            raise
    # The reader does take what is right, and what is made up is not all of one kind.
    assert became["taken"], became
    assert became["refused"], became


def test_made_up_inputs_are_the_same_for_a_seed_and_many() -> None:
    seeds = [b"<a>12</a>", b"[34.5]"]
    made = [mutate(Random(k), seeds, [b"word"]) for k in range(200)]
    assert made == [mutate(Random(k), seeds, [b"word"]) for k in range(200)]
    assert len(set(made)) > 150
    assert any(b"1e999" in each for each in made)


def test_a_fault_is_no_refusal(tmp_path: Path) -> None:
    def attempt(data: bytes, folder: Path) -> None:
        raise KeyError(data, folder)

    with pytest.raises(KeyError):
        Target("x", lambda: [b""], attempt)(b"", tmp_path)
