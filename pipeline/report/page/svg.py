"""SVG as text: elements with their attributes, escaped."""

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup, escape


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


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
