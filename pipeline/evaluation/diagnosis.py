"""Why is my AP low: what false detections are, which objects are missed, and what bounds it all.

The kinds of errors are those of Hoiem et al., "Diagnosing Error in Object Detectors" (ECCV 2012).
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.boxes import area, iou
from pipeline.errors import InputError
from pipeline.evaluation.matching import DIFFICULT, TRUE, Matches, class_index, known_images
from pipeline.evaluation.ranking import best_first
from pipeline.evaluation.tables import (
    Detections,
    GroundTruth,
    TableLike,
    read_detections,
    read_ground_truth,
)
from pipeline.evaluation.voc import evaluate_tables

KINDS = ("localisation", "similar class", "other class", "background")
LOCALISATION, SIMILAR, OTHER, BACKGROUND = range(4)
RIGHT, NO_FAULT = -1, -2  # instead of a kind: true, and on a difficult object
NEAR = 0.1  # IoU from which a false detection has to do with an object (Hoiem et al., §2.1)
SIZES = ("small", "medium", "large")
SHARES = (0.3, 0.4, 0.3)  # of a class's objects by area: Hoiem's five sizes, the outer two joined


@dataclass(frozen=True)
class Missed:
    """Objects of one size that no detection found."""

    objects: int
    """Of that size, found or not."""
    missed: int
    uncovered: int | None
    """Of the missed: those that no window covers; only box regression could have found them."""


@dataclass(frozen=True)
class ClassDiagnosis:
    """What is wrong with the detections of one class."""

    ap: float
    positives: int
    """Objects to be found."""
    best: dict[str, int]
    """Of the best detections, as many as there are objects: how many are `true`, and how many
    false ones there are of each of `KINDS`."""
    ap_without: dict[str, float]
    """AP if there were no false detections of that kind."""
    missed: dict[str, Missed]
    """By size."""
    ap_by_size: dict[str, float]
    """AP where only objects of that size are looked for, the others are as difficult ones."""
    window_recall: float | None
    """Share of the objects that some window covers: the ceiling of recall, but for windows that box
    regression moves onto more."""


def diagnose(
    detections: TableLike,
    ground_truth: TableLike,
    iou: float | int = 0.5,
    method: str = "voc07",
    classes: Iterable[Hashable] | None = None,
    image_ids: Iterable[Hashable] | None = None,
    similar: Collection[Collection[Hashable]] = (),
    window_ious: Sequence[float] | None = None,
) -> dict[Hashable, ClassDiagnosis]:
    """Return for each class what its false detections and its missed objects are.

    A false detection is a *localisation* error where its class has an object that it overlaps by
    0.1 or more (duplicates are among these), else a confusion with a *similar* or an *other* class
    whose object it overlaps as much, else *background*.

    Args:
        detections: as for `evaluate_detections`.
        ground_truth: likewise.
        iou: likewise.
        method: likewise.
        classes: likewise.
        image_ids: likewise.
        similar: sets of classes that look alike; a class may be in several.
        window_ious: of each object, in table order, its highest IoU with a candidate window; the
            window recall and what is uncovered are not told without.

    Raises:
        InputError: as `evaluate_detections`; or `window_ious` is of another length.
    """
    found, truth = read_detections(detections), read_ground_truth(ground_truth)
    listed = None if image_ids is None else list(image_ids)
    images = known_images(found, truth, listed)
    covered = _covered(window_ious, len(truth.difficult), float(iou))
    evaluation = evaluate_tables(found, truth, float(iou), method, classes, listed)
    index = class_index(found, truth)
    names = [name for name in evaluation.ap if name in index]
    kinds = _kinds(found, truth, images, index, _alike(index, similar), evaluation.matches)
    sizes = _sizes(truth, index)
    of_found, of_truth = found.classes.within(index), truth.classes.within(index)

    def aps(found: Detections, truth: GroundTruth) -> dict[Hashable, float]:
        return evaluate_tables(found, truth, float(iou), method, names, images).ap

    without = {kind: aps(_rows(found, kinds != k), truth) for k, kind in enumerate(KINDS)}
    by_size = {size: aps(found, _only(truth, sizes == k)) for k, size in enumerate(SIZES)}
    told = {}
    for name in names:
        mine, wanted = of_found == index[name], (of_truth == index[name]) & ~truth.difficult
        told[name] = ClassDiagnosis(
            ap=evaluation.ap[name],
            positives=int(wanted.sum()),
            best=_best(kinds[mine], found.scores[mine], int(wanted.sum())),
            ap_without={kind: aps[name] for kind, aps in without.items()},
            missed={
                size: _missed(wanted & (sizes == k), evaluation.matches.found, covered)
                for k, size in enumerate(SIZES)
            },
            ap_by_size={size: aps[name] for size, aps in by_size.items()},
            window_recall=_share(covered, wanted),
        )
    return told


def detection_kinds(
    detections: TableLike,
    ground_truth: TableLike,
    matches: Matches,
    similar: Collection[Collection[Hashable]] = (),
) -> Int[np.ndarray, " detections"]:
    """Return for each detection, in table order, its place in `KINDS`; `RIGHT` or `NO_FAULT`, else.

    Args:
        detections: as for `diagnose`.
        ground_truth: likewise.
        matches: of these two.
        similar: as for `diagnose`.

    Raises:
        InputError: a malformed table.
    """
    found, truth = read_detections(detections), read_ground_truth(ground_truth)
    names = dict.fromkeys((*truth.images.names, *found.images.names))
    images, index = {name: k for k, name in enumerate(names)}, class_index(found, truth)
    return _kinds(found, truth, images, index, _alike(index, similar), matches)


def _kinds(
    found: Detections,
    truth: GroundTruth,
    images: Mapping[Hashable, int],
    index: Mapping[Hashable, int],
    alike: Bool[np.ndarray, "classes classes"],
    matches: Matches,
) -> Int[np.ndarray, " detections"]:
    """Return the kind of each false detection; `RIGHT` and `NO_FAULT` for the others."""
    codes = matches.codes
    kinds = np.full(len(codes), BACKGROUND)
    kinds[codes == TRUE], kinds[codes == DIFFICULT] = RIGHT, NO_FAULT
    false = np.flatnonzero(kinds == BACKGROUND)
    image = found.images.within(images)[false]
    false = false[np.argsort(image, kind="stable")]
    image, theirs = np.sort(image, kind="stable"), truth.images.within(images)
    classes, objects = found.classes.within(index), truth.classes.within(index)
    by_image = np.argsort(theirs, kind="stable")
    starts = np.searchsorted(theirs[by_image], np.unique(image), side="left")
    ends = np.searchsorted(theirs[by_image], np.unique(image), side="right")
    for rows, start, end in zip(_runs(image, false), starts, ends, strict=True):
        here = by_image[start:end]
        near = iou(found.boxes[rows], truth.boxes[here]) >= NEAR
        same = classes[rows][:, None] == objects[here]
        like = alike[classes[rows]][:, objects[here]]
        # From the least telling to the most: what is written last holds.
        kinds[rows[(near & ~same).any(axis=1)]] = OTHER
        kinds[rows[(near & like & ~same).any(axis=1)]] = SIMILAR
        kinds[rows[(near & same).any(axis=1)]] = LOCALISATION
    return kinds


def _runs(
    image: Int[np.ndarray, " sorted"], rows: Int[np.ndarray, " sorted"]
) -> list[Int[np.ndarray, " rows"]]:
    """Return the rows of each image."""
    if not len(image):
        return []
    return np.split(rows, np.flatnonzero(np.diff(image)) + 1)


def _alike(
    index: Mapping[Hashable, int], similar: Collection[Collection[Hashable]]
) -> Bool[np.ndarray, "classes classes"]:
    alike = np.zeros((len(index), len(index)), dtype=bool)
    for group in similar:
        places = [index[name] for name in group if name in index]
        alike[np.ix_(places, places)] = True
    return alike


def _sizes(truth: GroundTruth, index: Mapping[Hashable, int]) -> Int[np.ndarray, " objects"]:
    """Return the place in `SIZES` of each object among those of its class; difficult ones: any."""
    areas, classes = area(truth.boxes), truth.classes.within(index)
    sizes = np.zeros(len(areas), np.int64)
    for k in np.unique(classes):
        own = np.flatnonzero((classes == k) & ~truth.difficult)
        ranked = own[np.argsort(areas[own], kind="stable")]
        ends = np.round(np.cumsum(SHARES) * len(own)).astype(int)
        for size, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            sizes[ranked[start:end]] = size
    return sizes


def _best(
    kinds: Int[np.ndarray, " detections"], scores: Float[np.ndarray, " detections"], count: int
) -> dict[str, int]:
    ranked = kinds[best_first(scores)]
    top = ranked[ranked != NO_FAULT][:count]
    return {
        "true": int((top == RIGHT).sum()),
        **{kind: int((top == k).sum()) for k, kind in enumerate(KINDS)},
    }


def _missed(
    wanted: Bool[np.ndarray, " objects"],
    found: Bool[np.ndarray, " objects"],
    covered: Bool[np.ndarray, " objects"] | None,
) -> Missed:
    missed = wanted & ~found
    bare = None if covered is None else int((missed & ~covered).sum())
    return Missed(int(wanted.sum()), int(missed.sum()), bare)


def _rows(found: Detections, kept: Bool[np.ndarray, " detections"]) -> Detections:
    return Detections(
        replace(found.images, codes=found.images.codes[kept]),
        replace(found.classes, codes=found.classes.codes[kept]),
        found.boxes[kept],
        found.scores[kept],
    )


def _only(truth: GroundTruth, looked_for: Bool[np.ndarray, " objects"]) -> GroundTruth:
    return replace(truth, difficult=truth.difficult | ~looked_for)


def _covered(
    window_ious: Sequence[float] | None, objects: int, threshold: float
) -> Bool[np.ndarray, " objects"] | None:
    if window_ious is None:
        return None
    if len(window_ious) != objects:
        raise InputError(
            f"{len(window_ious)} IoUs of windows, and {objects} objects: give one each"
        )
    return np.asarray(window_ious) >= threshold


def _share(
    covered: Bool[np.ndarray, " objects"] | None, wanted: Bool[np.ndarray, " objects"]
) -> float | None:
    return float(covered[wanted].mean()) if covered is not None and wanted.any() else None
