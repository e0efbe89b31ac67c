"""Items that threads share."""

import threading

import pytest

from pipeline.threads import share


def test_each_item_falls_to_one_thread_in_order():
    both = threading.Barrier(2, timeout=20)

    def work(items):
        taken = [next(items)]
        both.wait()  # each has one before the rest goes to whoever is first
        return [*taken, *items]

    parts = share(range(40), work, 2)
    assert len(parts) == 2
    assert sorted(parts[0] + parts[1]) == list(range(40))
    assert all(part == sorted(part) for part in parts)
    assert share(range(3), list, 1) == [[0, 1, 2]]
    assert share([], list, 3) == [[], [], []]


def test_where_one_fails_the_others_stop():
    taken, failed = [], threading.Event()

    def work(items):
        for item in items:
            if item == 1:
                failed.set()
                raise ValueError("seven")
            failed.wait(20)
            taken.append(item)
            threading.Event().wait(0.01)

    with pytest.raises(ValueError, match="seven"):
        share(range(2000), work, 3)
    assert len(taken) < 1000
