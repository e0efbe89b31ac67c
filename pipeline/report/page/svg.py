"""SVG as text: elements with their attributes, escaped."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

ROOMY, NARROW = 640.0, 340.0  # px of a drawing: beside a desk, and on a phone
LETTER_PX = 6.6  # of text of 12 px, at most on average


def element(name: str, *inside: Any, **attributes: Any) -> Markup:
    """Return an element; `_` in names of attributes becomes `-`, and `class_` becomes `class`.

    >>> element("text", "a < b", x=1.50, class_="name", text_anchor="end")
    Markup('<text x="1.5" class="name" text-anchor="end">a &lt; b</text>')
    """
    words = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(escape(each) for each in inside)
    return Markup(f"<{name}{''.join(words)}>{content}</{name}>")


def path(points: Iterable[tuple[float | int, float | int]]) -> str:
    """Return the commands of a line through points.

    >>> path([(0, 1), (2.25, 3)])
    'M0 1L2.25 3'
    """
    told = "L".join(f"{_text(x)} {_text(y)}" for x, y in points)
    return f"M{told}" if told else ""


def drawing(
    wide: float | int,
    high: float | int,
    told: str,
    parts: Sequence[Markup],
    least: float | int | None = None,
) -> Markup:
    """Put parts on a sheet.

    Args:
        wide: of the sheet, px.
        high: likewise.
        told: what a screen reader says of it.
        parts: of the drawing.
        least: px that it shrinks to; then it is moved sideways. None: to nothing.
    """
    narrowest = "" if least is None else f";min-width:{least:g}px"
    return element(
        "svg", element("title", told), *parts, viewBox=f"0 0 {wide:g} {high:g}", role="img",
        style=f"max-width:{wide * 1.25:g}px{narrowest}",
    )  # fmt: skip


def fitting(draw: Callable[..., Markup], *told: Any) -> Markup:
    """Draw for screens of both widths; the style sheet shows the one that fits.

    Args:
        draw: takes `wide`, in px, after all else.
        *told: what else it takes.
    """
    sizes = (("roomy", ROOMY), ("narrow", NARROW))
    return Markup("").join(
        element("div", draw(*told, wide=wide), class_=name) for name, wide in sizes
    )


def cut_name(name: str, most_px: float | int) -> str:
    """Return a name no wider than so many pixels."""
    most = int(most_px / LETTER_PX)
    return name if len(name) <= most else name[: max(1, most - 1)] + "…"


def note(text: str, x: float | int, y: float | int) -> Markup:
    """A few quiet letters, the middle of their line at (`x`, `y`)."""
    return element("text", text, class_="tick", x=x, y=y, text_anchor="middle")


def ticks(top: float | int, about: int = 4) -> list[float | int]:
    """Return about so many round numbers from 0 to the top."""
    rough = top / about
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * each for each in (1, 2, 5, 10) if unit * each >= rough)
    return [step * k for k in range(int(top / step) + 1)]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
