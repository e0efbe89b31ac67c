"""Lines and labels: told apart, and inside the picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from pipeline.errors import InputError
from pipeline.report import marks


def stroke(mark, box=(10, 20, 110, 80), width=3):
    image = Image.new("RGB", (130, 100))
    marks.outline(ImageDraw.Draw(image), box, mark, width)
    return np.asarray(image)


def test_outline_is_crisp_and_half_open():
    pixels = stroke(marks.MARKS["true"])
    drawn = (pixels == marks.MARKS["true"].line).all(axis=2)
    assert drawn[20:23, 10:110].all()
    assert drawn[77:80, 10:110].all()
    assert drawn[20:80, 107:110].all()
    assert drawn.sum() == 100 * 60 - 94 * 54  # a frame three pixels wide, and nothing else
    halo = (pixels == marks.HALO).all(axis=2)
    assert halo[19, 9:111].all()
    assert halo[80, 9:111].all()


def test_dashes():
    # five widths drawn, three left out: with width 2 (0.8 × 3) that is 10 and 6 pixels
    wrong = marks.MARKS["false"]
    top = (stroke(wrong)[20] == wrong.line).all(axis=1)[12:108]
    # the left side ends at 12, the right one begins at 108
    expected = [(x - 10) % 16 < 10 for x in range(12, 108)]
    assert top.tolist() == expected


def test_outcomes_differ_in_more_than_colour():
    looks = [(mark.dash, mark.sign) for mark in marks.MARKS.values()]
    assert len(set(looks)) == len(looks)
    assert len({mark.dash for name, mark in marks.MARKS.items() if name != "object"}) == 5


CLASSES = [marks.of_class(number) for number in range(80)]  # as many as COCO has


@pytest.mark.parametrize("mark", [*marks.MARKS.values(), *CLASSES])
def test_white_text_is_readable_on_every_label(mark):
    def luminance(colour):  # WCAG 2.2, relative luminance
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    contrast = 1.05 / (luminance([value / 255 for value in mark.ground]) + 0.05)
    assert contrast >= 4.5  # level AA


def test_classes_have_colours_of_their_own():
    assert len({mark.line for mark in CLASSES}) == 80
    lines = np.array([mark.line for mark in CLASSES[:10]])
    apart = np.abs(lines[:, None] - lines).max(axis=2) + 255 * np.eye(10, dtype=int)
    assert apart.min() > 40  # of ten, each is told from all others
    assert {(mark.sign, mark.dash) for mark in CLASSES} == {("•", ())}
    assert not {mark.line for mark in CLASSES} & {mark.line for mark in marks.MARKS.values()}


def test_unknown_outcome():
    with pytest.raises(InputError, match="no outcome 'maybe'"):
        marks.mark_of("maybe")


@given(
    st.tuples(*[st.integers(-30, 230)] * 4),
    st.tuples(st.integers(1, 200), st.integers(1, 120)),
    st.lists(st.tuples(*[st.integers(0, 200)] * 4), max_size=3),
)
def test_labels_stay_inside_the_picture(box, size, taken):
    x_min, y_min, x_max, y_max = marks.place_label(box, size, (200, 120), taken)
    assert x_min >= 0
    assert y_min >= 0
    assert x_max <= 200
    assert y_max <= 120
    assert (x_max - x_min, y_max - y_min) == size


def test_label_goes_above_its_box_or_off_another_label():
    assert marks.place_label((40, 50, 90, 80), (30, 10), (200, 120), []) == (40, 40, 70, 50)
    taken = [(40, 40, 70, 50)]
    assert marks.place_label((40, 50, 90, 80), (30, 10), (200, 120), taken) == (40, 50, 70, 60)


@given(st.text(max_size=30), st.integers(0, 150))
def test_text_is_cut_to_its_place(text, width):
    cut = marks.fit_text(text, 14, width)
    assert cut == "" or marks.font(14).getlength(cut) <= width
    assert len(cut) <= max(len(text), 1)
    assert "\n" not in cut


def test_text_that_fits_is_left_alone():
    assert marks.fit_text("diningtable 0.93", 14, 1000) == "diningtable 0.93"
    assert marks.fit_text("diningtable 0.93", 14, 60).startswith("dini")
