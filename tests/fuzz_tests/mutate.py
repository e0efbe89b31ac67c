"""Inputs that are nearly right: what a reader takes, with a few things changed."""

import re
from collections.abc import Sequence
from random import Random

NUMBERS = (
    *(b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"-9223372036854775809"),
    *(b"1e999", b"NaN", b"nan", b"Infinity", b"-inf", b"1.5", b"9" * 400, b"0x10", b"null"),
)
BYTES = (0, 1, 0x7F, 0x80, 0xFF)
MOST_EDITS, LONGEST = 6, 1 << 20


def mutate(random: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Return one of the seeds with up to `MOST_EDITS` changes; equal randoms give equal bytes."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, MOST_EDITS)):
        random.choice((_number, _byte, _cut, _again, _word, _other))(random, data, seeds, words)
    return bytes(data[:LONGEST])


def _place(random: Random, data: bytearray) -> int:
    return random.randrange(len(data) + 1)


def _span(random: Random, data: bytearray) -> slice:
    start = _place(random, data)
    return slice(start, min(len(data), start + int(2 ** (random.random() * 10))))


def _number(random: Random, data: bytearray, *_: Sequence[bytes]) -> None:
    found = list(re.finditer(rb"-?\d[\d.]*", data))
    if found:
        one = random.choice(found)
        data[one.start() : one.end()] = random.choice(NUMBERS)


def _byte(random: Random, data: bytearray, *_: Sequence[bytes]) -> None:
    for _ in range(min(len(data), random.randint(1, 4))):
        data[random.randrange(len(data))] = random.choice((*BYTES, random.randrange(256)))


def _cut(random: Random, data: bytearray, *_: Sequence[bytes]) -> None:
    del data[_span(random, data)]


def _again(random: Random, data: bytearray, *_: Sequence[bytes]) -> None:
    place, span = _place(random, data), _span(random, data)
    data[place:place] = data[span]


def _word(random: Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    place = _place(random, data)
    replaced = random.choice((0, 1)) * random.randrange(9)
    data[place : place + replaced] = random.choice((*words, b"\0", b"..", b"\xff\xfe", b"\n"))


def _other(random: Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Go on as another seed does."""
    other = random.choice(seeds)
    data[_place(random, data) :] = other[random.randrange(len(other) + 1) :]
