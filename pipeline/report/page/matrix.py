"""Who is taken for whom, as a drawing: a cell for each class and each that it is taken for."""

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report.page.svg import LETTER_PX, cut_name, drawing, element

CELL = 20.0  # px
LONGEST, MARGIN = 150.0, 32.0  # px, of a name, and of them around it
SMALLEST = 0.85  # of its size: names must be read on a telephone, too
FAINTEST = 0.25  # rare mistakes must be seen: what is not zero begins at a quarter of full colour
STRONG = 0.55  # share from which on letters have the colour of paper


def confusion_matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """Images of each class, a row, that are taken for each class, a column.

    A cell is as strong as its share of the row; right answers, on the diagonal, have their colour.
    """
    left = min(LONGEST, max(60.0, LETTER_PX * max(map(len, names), default=0) + MARGIN))
    side = CELL * len(names)
    parts: list[Markup] = []
    for k, name in enumerate(names):
        middle = left + (k + 0.5) * CELL
        label, hint = cut_name(name, left - MARGIN), element("title", name)
        row = {"x": left - 8, "y": middle + 4, "text_anchor": "end"}
        column = {"x": middle, "y": left - 8, "transform": f"rotate(-90 {middle:g} {left - 8:g})"}
        parts.append(element("text", label, hint, **row))
        parts.append(element("text", label, hint, dominant_baseline="central", **column))
    size = {"width": side, "height": side}
    parts.append(element("rect", class_="frame", x=left, y=left, **size))
    for row, (name, held) in enumerate(zip(names, counts, strict=True)):
        total = sum(held)
        for column, count in enumerate(held):
            if count:
                told = f"{name}, taken for {names[column]}: {count:,} of {total:,}"
                place = (left + column * CELL, left + row * CELL)
                parts += _cell(place, count, count / total, row == column, told)
    whole = left + side + 2
    return drawing(whole, whole, "who is taken for whom", parts, least=SMALLEST * whole)


def _cell(
    place: tuple[float, float], count: int, share: float, right: bool, told: str
) -> list[Markup]:
    x, y = place
    depth = FAINTEST + (1 - FAINTEST) * share
    kind, shade = ("right" if right else "wrong"), (" light" if share > STRONG else "")
    inside = {"x": x + 0.5, "y": y + 0.5, "width": CELL - 1, "height": CELL - 1}
    hint = element("title", told)
    return [
        element("rect", hint, class_=f"cell {kind}", fill_opacity=depth, **inside),
        element(
            "text", f"{count}" if count < 1000 else f"{count / 1000:.0f}k", class_=f"count{shade}",
            x=x + CELL / 2, y=y + CELL / 2 + 3.5, text_anchor="middle", pointer_events="none",
        ),
    ]  # fmt: skip
