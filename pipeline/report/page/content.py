"""What a page about runs shows, whoever gathers it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A number in large type, and what it is."""

    value: str
    name: str
    note: str = ""


@dataclass(frozen=True)
class ClassResult:
    """What became of one class."""

    name: str
    ap: float
    """In 0..1; nan where there is nothing to find."""
    curve: tuple[tuple[float, float], ...]
    """Corners of the steps of precision over recall that AP measures: `charts.curve_corners`."""
    detections: int
    objects: int
    found: int
    kinds: Mapping[str, int] = field(default_factory=dict)
    """Of the best detections, as many as there are objects: `true` and the kinds of errors."""
    gains: Mapping[str, float] = field(default_factory=dict)
    """What AP would gain without false detections of a kind."""
    uncovered: int | None = None
    """Of the missed objects: those that no window covers."""

    @property
    def score(self) -> float:
        """What its bar shows."""
        return self.ap

    @property
    def no_curve(self) -> str:
        """Why there is no curve, if there can be none."""
        if not self.objects:
            return "no objects to find"
        return "" if self.detections else "nothing detected"


@dataclass(frozen=True)
class ClassAnswers:
    """What became of one class of whole images."""

    name: str
    ap: float
    """In 0..1; nan where no image shows it."""
    accuracy: float | None
    """Share of its images that are right; None where images show several classes."""
    images: int
    """That show it; where random splits ask about an image several times, so often."""
    right: int
    """Of them those that are taken for it. Where images show several classes, those among the
    highest scores, as many as there are images."""
    taken: int = 0
    """Other images that are taken for it."""
    curve: tuple[tuple[float, float], ...] = ()
    """As of a `ClassResult`; none where images show one class each."""

    @property
    def score(self) -> float:
        """What its bar shows."""
        return self.ap if self.accuracy is None else self.accuracy

    @property
    def no_curve(self) -> str:
        """Why there is no curve, if there can be none."""
        return "" if self.images else "no image shows it"


@dataclass(frozen=True)
class Confused:
    """Images of one class that are taken for another."""

    shown: str
    taken_for: str
    count: int
    images: int
    """Of the class that they show, right or wrong."""


@dataclass(frozen=True)
class Confusion:
    """Who is taken for whom."""

    counts: tuple[tuple[int, ...], ...] | None
    """Of each class, a row, and each that it is taken for; None: of more classes than a drawing
    can show."""
    frequent: tuple[Confused, ...]
    """The most frequent mistakes."""
    mistakes: int
    """How many pairs of classes are confused, listed or not."""
    answers: int
    right: int


@dataclass(frozen=True)
class Box:
    """A box on a thumbnail, in its pixels, and what it is: see `galleries.BOXES`."""

    corners: tuple[float, float, float, float]
    kind: str


@dataclass(frozen=True)
class Thumbnail:
    """A part of an image, small."""

    jpeg: str
    """The file in base64, as the page holds it."""
    width: int
    height: int
    boxes: tuple[Box, ...]
    caption: str
    image_id: str


@dataclass(frozen=True)
class Strip:
    """Thumbnails of one kind, such as the best hits of a class."""

    title: str
    thumbnails: tuple[Thumbnail, ...]
    count: int
    """How many there are of that kind, shown or not."""


@dataclass(frozen=True)
class Change:
    """What a run found otherwise than the first one on its page, of one class."""

    name: str
    better: int
    worse: int
    of: int
    """Objects or images that both were asked for."""
    points: float = 0.0
    """By which they are better in the mean, in percent."""
    strips: tuple[Strip, ...] = ()


@dataclass(frozen=True)
class Changes:
    """What a run found otherwise than the first one on its page."""

    classes: tuple[Change, ...]
    unpaired: int = 0
    """Objects or images that only one of them was asked for."""
    unopened: int = 0
    """Images that were chosen for a thumbnail, and could not be decoded."""


@dataclass(frozen=True)
class Line:
    """A line of a chart: places along and up."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """Lines over one axis."""

    title: str
    along: str
    lines: tuple[Line, ...]
    highest: float | None = None
    """Of the upright axis; None: a little above the highest point."""
    marked: float | None = None
    """A place along that is marked, such as the step that was kept."""


@dataclass(frozen=True)
class JobTime:
    """One job: when, how long, after which, and what it came to."""

    name: str
    needs: tuple[str, ...]
    spans: tuple[tuple[float, float], ...]
    """When the run that is shown was at it: seconds from its beginning, and how many."""
    seconds: float
    """Of all attempts, by whichever run: one that was killed is gone on with by the next."""
    told: str
    attempts: int = 1
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds of workers, by what they were at."""
    waited: Mapping[str, float] = field(default_factory=dict)
    """Seconds of workers, by what they waited for."""
    bytes: int = 0
    """That it left, on disk or in an object store."""

    @property
    def is_earlier(self) -> bool:
        """Whether another run did it."""
        return not self.spans


@dataclass(frozen=True)
class RunPage:
    """All that a page shows of one run."""

    name: str
    task: str
    figures: Sequence[Figure]
    measure: str
    """What was measured of each class, and how, in words."""
    classes: Sequence[ClassResult] | Sequence[ClassAnswers]
    mean_ap: float
    charts: Sequence[Chart]
    jobs: Sequence[JobTime]
    galleries: Mapping[str, Sequence[Strip]]
    recipe: Mapping[str, Mapping[str, str]]
    """Values by section and field; `""` is the section of fields that are in none."""
    made_with: Sequence[tuple[str, str]]
    """Versions, digests, the machine."""
    quarantined: Sequence[tuple[str, str, str]] = ()
    """Image sets, image ids and reasons."""
    unopened: int = 0
    """Images of which no thumbnail could be made."""
    reference: Mapping[str, float] = field(default_factory=dict)
    """AP by class that somebody else reached, in 0..1."""
    reference_name: str = ""
    reference_mean: float | None = None
    """Likewise, in the mean."""
    mean_accuracy: float | None = None
    """Of the classes; None where it is not what they are judged by."""
    confusion: Confusion | None = None
    changes: Changes | None = None
    """Against the first run on the page; of that none."""

    @property
    def mean(self) -> float:
        """The mean of what the bars show."""
        return self.mean_ap if self.mean_accuracy is None else self.mean_accuracy

    @property
    def measured(self) -> str:
        """What the bars show."""
        return "average precision" if self.mean_accuracy is None else "accuracy"
