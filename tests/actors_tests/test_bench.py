"""Who gets the next shard: least in hand first, then who has waited longest."""

from typing import Any

import pytest

from actors.actor import Actor
from actors.bench import Bench


def test_who_has_least_in_hand_is_first_and_of_these_who_had_so_much_for_longest() -> None:
    bench, a, b = Bench(), Actor("a"), Actor("b")
    got = []

    def note(actor: Actor) -> None:
        bench.note(actor, takes=len(actor.flights) < 2)

    note(a)
    note(b)
    note(a)  # nothing new: it keeps its turn
    for number in range(5):
        if (actor := bench.least(alone=False)) is not None:
            flights: Any = actor.flights  # by any key
            flights[number] = None
            note(actor)
            got.append(actor.handle)
    assert got == ["a", "b", "a", "b"]
    for actor in (b, a):
        actor.flights.popitem()
        note(actor)
    assert bench.least(alone=False) is b
    assert bench.least(alone=True) is None  # each has one in hand
    a.flights.clear()
    note(a)
    assert (bench.least(alone=False), bench.least(alone=True)) == (a, a)


@pytest.mark.parametrize("in_hand", [0, 1])
def test_who_takes_no_more_gets_none(in_hand: int) -> None:
    bench, actor, flights = Bench(), Actor("a"), dict[Any, Any].fromkeys(range(in_hand))
    actor.flights = flights
    bench.note(actor, takes=True)
    bench.note(actor, takes=False)
    assert (bench.least(alone=False), bench.least(alone=True)) == (None, None)
