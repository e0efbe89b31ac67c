"""Average precision of one ranked list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.evaluation import average_precision

MARKS = "TFTFFT"


def curve(marks: str, positives: int) -> tuple[list[float], list[float]]:
    true = [marks[: k + 1].count("T") for k in range(len(marks))]
    return [n / positives for n in true], [n / (k + 1) for k, n in enumerate(true)]


def test_spec_example():
    recall, precision = curve(MARKS, 4)
    # 11 points: precision 1 at 0, .1, .2; 2/3 at .3, .4, .5; 1/2 at .6, .7; nothing beyond.
    assert average_precision(recall, precision) == pytest.approx((3 + 3 * 2 / 3 + 2 / 2) / 11)
    assert average_precision(recall, precision) == pytest.approx(0.545455, abs=5e-7)
    # area: each positive found adds a quarter at the best precision from there on
    area = average_precision(recall, precision, "area")
    assert area == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)
    assert area == pytest.approx(0.541667, abs=5e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tenth", range(11))
def test_recall_of_exactly_a_tenth_reaches_it(dtype, tenth):
    recall = np.array([tenth], dtype=dtype) / dtype(10)
    assert average_precision(recall, [1.0]) == pytest.approx((tenth + 1) / 11)
    # rounded to float32 on the way, as a table may have it
    assert average_precision(recall.astype(np.float32).tolist(), [1.0]) == pytest.approx(
        (tenth + 1) / 11
    )


@pytest.mark.parametrize(("found", "positives"), [(3, 5), (7, 10), (6, 10), (9, 30), (21, 30)])
def test_recall_as_a_fraction(found, positives):
    reached = 10 * found // positives + 1
    assert average_precision([found / positives], [1.0]) == pytest.approx(reached / 11)
    just_below = (found * 100_000 - 1) / (positives * 100_000)
    assert average_precision([just_below], [1.0]) == pytest.approx((reached - 1) / 11)
    assert average_precision(np.float32([just_below]), [1.0]) == pytest.approx((reached - 1) / 11)


@given(st.text("TF", max_size=30), st.integers(0, 10))
def test_equals_the_definition(marks, missed):
    positives = marks.count("T") + missed
    if not positives:
        return
    recall, precision = curve(marks, positives)
    true = [marks[: k + 1].count("T") for k in range(len(marks))]

    def best(enough) -> float:
        return max((p for p, n in zip(precision, true, strict=True) if enough(n)), default=0.0)

    # whole numbers decide, no rounding: n / positives ≥ t / 10
    eleven = [best(lambda n, t=t: 10 * n >= t * positives) for t in range(11)]
    assert average_precision(recall, precision) == pytest.approx(sum(eleven) / 11)
    steps = [best(lambda n, k=k: n >= k) for k in range(1, positives + 1)]
    assert average_precision(recall, precision, "area") == pytest.approx(sum(steps) / positives)


@pytest.mark.parametrize("method", ["voc07", "area"])
def test_nothing_found(method):
    assert average_precision([], [], method) == 0.0
    assert average_precision([0.0, 0.0], [0.0, 0.0], method) == 0.0


@pytest.mark.parametrize(
    ("recall", "precision", "says"),
    [
        ([0.5], [1.0, 0.5], "1 recalls but 2 precisions"),
        ([0.5, 0.25], [1.0, 0.5], "recall falls"),
        ([float("nan")], [1.0], "not numbers"),
        ([[0.5]], [[1.0]], "shape"),
    ],
)
def test_refuses(recall, precision, says):
    with pytest.raises(InputError, match=says):
        average_precision(recall, precision)
