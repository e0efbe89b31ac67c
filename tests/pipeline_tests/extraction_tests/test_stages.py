"""Lines of work: in order, bounded, errors where answers are taken, and threads that end."""

import threading

import pytest
import torch

from pipeline.extraction.stages import Stage
from pipeline.extraction.stats import Clock, ShardStats, add_stats

WAIT_S = 10  # for what must happen; what must not happen is never waited for


@pytest.fixture
def clocks():
    return Clock(torch.device("cpu")), Clock(torch.device("cpu"))


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_answers_keep_the_order_whoever_is_first(clocks):
    last = threading.Event()

    def answer(number):
        if number == 0:
            assert last.wait(WAIT_S)  # for the third call, on the other thread
        if number == 2:
            last.set()
        return number * 11

    with Stage("decode", *clocks, bound=3, threads=2) as stage:
        assert list(stage.map(answer, range(5))) == [0, 11, 22, 33, 44]


def test_the_first_calls_begin_before_an_answer_is_asked_for(clocks):
    begun = threading.Event()
    with Stage("decode", *clocks, bound=1) as stage:
        answers = stage.map(lambda _: begun.set(), "a")
        assert begun.wait(WAIT_S)
        assert list(answers) == [None]


def test_no_more_than_the_bound_are_ahead(clocks):
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    with Stage("decode", *clocks, bound=3) as stage:
        for done, _ in enumerate(stage.map(str, items())):
            # the one in the caller's hand, and three ahead
            assert len(taken) == min(done + 1 + 3, 20)
    assert len(taken) == 20


def test_put_waits_while_the_bound_is_in_hand(clocks):
    go, begun = threading.Event(), []

    def work(number):
        begun.append(number)
        assert go.wait(WAIT_S)

    with Stage("write", *clocks, bound=2) as stage:
        for number in range(2):
            stage.put(work, number)  # does not wait: there is room
        third = threading.Thread(target=stage.put, args=(work, 2))
        third.start()
        assert third.is_alive()
        go.set()
        third.join(WAIT_S)
        assert stage.finish(lambda: "the end") == "the end"
    assert begun == [0, 1, 2]


@pytest.mark.parametrize("bound", [1, 2, 5])
def test_an_error_is_raised_where_the_answer_is_taken(clocks, bound):
    done = []

    def work(number):
        if number == 1:
            raise OSError("no space left on device")
        done.append(number)

    def write_all():
        with Stage("write", *clocks, bound=bound) as stage:
            for number in range(4):
                stage.put(work, number)
            stage.finish(work, 4)

    with pytest.raises(OSError, match="no space left"):
        write_all()
    assert done[0] == 0
    assert 4 not in done  # what finishes is not called after an error, such as a commit


def test_an_error_of_the_caller_ends_the_stage(clocks):
    begun, go = [], threading.Event()

    def work(number):
        begun.append(number)
        assert go.wait(WAIT_S)

    with pytest.raises(KeyError), Stage("write", *clocks, bound=3) as stage:  # noqa: PT012
        for number in range(3):
            stage.put(work, number)
        threading.Timer(0.05, go.set).start()
        raise KeyError("elsewhere")
    assert begun == [0]  # what was at work was waited for, what was behind it was dropped


def test_seconds_at_work_and_of_waiting(clocks):
    work, waits = clocks
    with Stage("decode", *clocks, bound=1) as stage:
        list(stage.map(str, range(3)))
    assert work.seconds().keys() == waits.seconds().keys() == {"decode"}


def stats(total_s=10.0, threads=1, **seconds):
    return ShardStats("a", 1, 1, 1, {}, 3, seconds, {"decode": 0.25}, total_s, threads)


@pytest.mark.parametrize(
    ("shards", "says"),
    [
        ([stats(decode=9.0, network=4.0, pooling=2.0)], "decode (90% of 10 s)"),
        # nine seconds of two threads are as good as four and a half
        ([stats(decode=9.0, network=4.0, pooling=2.0, threads=2)], "network (40% of 10 s)"),
        # of a shard that was committed before, nothing is known
        ([stats(decode=9.0, network=5.0, threads=4), stats(0.0)], "network (50% of 10 s)"),
        # network, pooling and fc are one line: the writing is less than their sum
        ([stats(network=4.0, fc=3.0, write=5.0)], "network (40% of 10 s)"),
        ([stats(network=4.0, fc=3.0, write=8.0)] * 2, "write (80% of 20 s)"),
        ([stats(total_s=0.0)], ""),
        ([], ""),
    ],
)
def test_the_stage_that_binds(shards, says):
    told = add_stats(shards)
    assert told["bound_by"] == says
    assert told["windows_reused"] == 3 * len(shards)
    assert told["waited_seconds"].get("decode", 0) == 0.25 * len(shards)
