"""Which whole images a page shows of each class.

Where images show one class each: those that are clearest to be right, the clearest mistakes, with
what they were taken for, and those that others were taken for it by. Where they show several, the
highest scores, and the false ones among them, which are what spoils AP. Of both the class's own
images with the lowest scores.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.evaluation.answers import Answers
from pipeline.report.page.thumbnails import MOST_CLASSES, SPARE, Chosen, Shown

MOST = 4  # images of a kind of a class
RIGHT = "Right, the clearest first"
TAKEN_FOR_OTHERS = "Wrong: taken for another class"
TAKEN_FOR_IT = "Wrong: taken for this class"
HIGHEST = "Highest scores of its images"
FALSE = "Wrong: do not show it, and score higher than some that do"
LOWEST = "Lowest scores of its images"


@dataclass
class _Kind:
    """The images of one kind of one class that are clearest, whichever split asked about them."""

    title: str
    best: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By image: how clear it is, and its caption."""
    seen: list[Int[np.ndarray, " some"]] = field(default_factory=list)
    """Numbers of all images of that kind, for each split."""

    def add(
        self,
        answers: Answers,
        numbers: Int[np.ndarray, " images"],
        chosen: Bool[np.ndarray, " images"],
        clear: Float[np.ndarray, " images"],
        caption: Callable[[int], str],
    ) -> None:
        """Take the images that are chosen, and keep those that are clearest.

        Args:
            answers: of a split.
            numbers: of its images: the same in all splits.
            chosen: those of that kind.
            clear: of each: higher is shown first.
            caption: of an image, by its place in the split.
        """
        rows = np.flatnonzero(chosen)
        self.seen.append(numbers[rows])
        order = np.argsort(-clear[rows], kind="stable")
        for row in map(int, rows[order[: SPARE * MOST]]):
            name, told = answers.image_ids[row], (float(clear[row]), caption(row))
            self.best[name] = max(told, self.best.get(name, told))
        first = sorted(self.best.items(), key=lambda each: (-each[1][0], each[0]))
        self.best = dict(first[: SPARE * MOST])

    def chosen(self) -> Chosen:
        """Return what is shown of them."""
        shown = [Shown(name, None, (), told) for name, (_, told) in self.best.items()]
        return Chosen(self.title, shown, MOST, len(np.unique(np.concatenate(self.seen))))


def choose(
    splits: Iterable[Answers], classes: Sequence[str], single: bool
) -> dict[str, list[Chosen]]:
    """Return what is shown of each class; of very many classes the first ones.

    An image that several random splits ask about is shown once, with its clearest answer.

    Args:
        splits: one after the other: none of them is kept.
        classes: in their order.
        single: whether each image shows one class.
    """
    titles = (RIGHT, TAKEN_FOR_OTHERS, TAKEN_FOR_IT, LOWEST) if single else (HIGHEST, FALSE, LOWEST)
    held = {name: [_Kind(title) for title in titles] for name in classes[:MOST_CLASSES]}
    known: dict[str, int] = {}
    add = _add_single if single else _add_several
    for answers in splits:
        numbers = np.array([known.setdefault(name, len(known)) for name in answers.image_ids], int)
        for k, kinds in enumerate(held.values()):
            add(kinds, answers, numbers, k, classes)
    found = {name: [kind.chosen() for kind in kinds] for name, kinds in held.items()}
    return {name: [kind for kind in kinds if kind.shown] for name, kinds in found.items()}


def _add_single(
    kinds: Sequence[_Kind],
    answers: Answers,
    numbers: Int[np.ndarray, " images"],
    k: int,
    classes: Sequence[str],
) -> None:
    """Add the images of class `k`: each is right or taken for another."""
    shown, taken = answers.labels[:, k] > 0, answers.taken_for == k
    scores, wrong, margins = answers.scores[:, k], answers.wrong, answers.margins

    def right_by(row: int) -> str:
        return f"by {margins[row]:.2f}"

    def other_by(row: int) -> str:
        return f"{answers.taken(row, classes)}, by {-margins[row]:.2f}"

    def shows(row: int) -> str:
        return f"shows {answers.shown(row, classes)}, by {-margins[row]:.2f}"

    def lowest(row: int) -> str:
        told = f", taken for {answers.taken(row, classes)}" if wrong[row] else ""
        return f"{scores[row]:.2f}{told}"

    right, others, it, low = kinds
    right.add(answers, numbers, shown & taken, margins, right_by)
    others.add(answers, numbers, shown & wrong, -margins, other_by)
    it.add(answers, numbers, taken & wrong, -margins, shows)
    low.add(answers, numbers, shown, -scores, lowest)


def _add_several(
    kinds: Sequence[_Kind],
    answers: Answers,
    numbers: Int[np.ndarray, " images"],
    k: int,
    classes: Sequence[str],
) -> None:
    """Add the images that show class `k`, among others, and those that should score lower."""
    labels, scores = answers.labels[:, k], answers.scores[:, k]
    shown = labels > 0
    lowest = scores[shown].min(initial=np.inf)

    def told(row: int) -> str:
        return f"{scores[row]:.2f}"

    def false(row: int) -> str:
        others = answers.shown(row, classes)
        return f"{told(row)}, shows {others}" if others else told(row)

    high, wrong, low = kinds
    high.add(answers, numbers, shown, scores, told)
    wrong.add(answers, numbers, (labels < 0) & (scores > lowest), scores, false)
    low.add(answers, numbers, shown, -scores, told)
