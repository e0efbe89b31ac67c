"""How fast items get done of late, and how long the rest will take: from when each was done."""

from collections.abc import Iterable
from itertools import pairwise
from statistics import median

STRETCH_S = 600.0  # "of late": several shards of a minute each, and soon enough to show a change
FEWEST = 10  # gaps that a rate is told from at least, where there are so many
MOST = 1000  # items looked at: enough, however many there are
PAUSE_S, PAUSE_GAPS = 60.0, 10  # a gap is a pause when it is as long as both: so many usual ones


def per_second(done_s: Iterable[float], now_s: float, since_s: float | None = None) -> float | None:
    """Return how many items a second were done of late, up to now.

    Times before a pause tell nothing about what comes after it: a run that was killed in the
    evening and goes on in the morning is as fast as it is, not as fast as the night made it.

    Args:
        done_s: when each was done, in seconds of some clock, in any order.
        now_s: of the same clock. Where that clock was set back, the last item's time counts.
        since_s: when the work on them began; what was done before is not counted. None: unknown,
            then the first one only starts the watch.

    Returns:
        None where it cannot be told: too few were done, or none for so long that it would be
        stale.

    >>> per_second([100.0, 130.0, 160.0], 190.0)  # two in 90 s
    0.022222222222222223
    >>> per_second([100.0, 130.0, 160.0], 190.0, since_s=70.0) == 3 / 120
    True
    """
    done = sorted(each for each in done_s if since_s is None or each > since_s)[-MOST:]
    if since_s is not None:
        done.insert(0, since_s)
    if not done:
        return None
    now_s = max(now_s, done[-1])
    gaps = [later - each for each, later in pairwise(done)]
    pause_s = max(PAUSE_S, PAUSE_GAPS * median(gaps)) if gaps else PAUSE_S
    if now_s - done[-1] > pause_s:
        return None
    start = max((index + 1 for index, gap in enumerate(gaps) if gap > pause_s), default=0)
    recent = sum(each >= now_s - STRETCH_S for each in done)
    marks = done[max(start, len(done) - max(recent, FEWEST + 1)) :]
    span_s = now_s - marks[0]
    return (len(marks) - 1) / span_s if len(marks) > 1 and span_s > 0 else None


def left_s(done: int, total: int, rate: float | None) -> float | None:
    """Return the seconds that the rest will take, or None where that cannot be told.

    >>> left_s(40, 100, 0.5), left_s(101, 100, None), left_s(0, 100, None)
    (120.0, 0.0, None)
    """
    if done >= total:
        return 0.0
    return (total - done) / rate if rate else None


def duration(seconds: float) -> str:
    """Return a length of time in the two units that matter.

    >>> [duration(s) for s in (0.4, 59.6, 61, 3600, 7505, 180_000)]
    ['0 s', '1 min', '1 min', '1 h 00 min', '2 h 05 min', '2 d 02 h']
    """
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"


def a_minute(rate: float | None, unit: str = "") -> str:
    """Return a rate a second as one a minute, with as many digits as say something.

    >>> a_minute(None), a_minute(0.0105), a_minute(1.0), a_minute(250.0, " rows")
    ('', '0.63/min', '60/min', '15,000 rows/min')
    """
    if rate is None:
        return ""
    minute = rate * 60
    return f"{minute:,.0f}{unit}/min" if minute >= 10 else f"{minute:.2g}{unit}/min"
