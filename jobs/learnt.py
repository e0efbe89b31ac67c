"""What `spp new` has learnt, told and drawn."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import show
from jobs.asked import Asked
from pipeline.report.crops import part
from pipeline.report.sheet import Crop, crop_sheet
from pipeline.store.files import written_aside
from pipeline.store.schema import BOX_COLUMNS
from pipeline.teaching import Shelf, Taught
from pipeline.teaching.marks import shown
from pipeline.teaching.ranking import Hit


@dataclass(frozen=True)
class Answer:
    """A class, and what came of its marks."""

    class_: str
    shelf: Shelf
    taught: Taught

    def as_json(self) -> dict[str, Any]:
        """Return all of it, for programs."""
        version, taught = self.taught.version, self.taught
        instead = [
            {"image_id": each.mark.image_id, "box": each.mark.box, "iou": each.iou}
            for each in taught.nearest
        ]
        told = {"class": self.class_, "version": version.number, "shelf": str(self.shelf.root)}
        return {**told, **version.told, "steps_s": dict(taught.seconds), "instead": instead}

    def print(self) -> None:
        """Print what was learnt from what, how long it took, and what was found."""
        told, ranking = self.taught.version.told, self.taught.ranking
        for each in self.taught.nearest:
            box = ",".join(f"{corner:g}" for corner in each.mark.box)
            show.say(
                f"for {each.mark.image_id}:{box}, which is no stored window, the nearest one: IoU "
                f"{each.iou:.2f}"
            )
        for title, hits in (("best", ranking.top), ("least sure", ranking.borderline)):
            show.say(f"{title}, in images that are not marked yet:")
            show.print_table(["score", "window", *BOX_COLUMNS], map(_row, hits))
        judged = told["judged"]
        if judged is None:
            show.say("no AP: for cross-validation two images have to show the class")
        else:
            show.say(
                f"AP {judged['ap']:.3f} in {judged['folds']}-fold cross-validation over "
                f"{judged['images']:,} images with marks"
                + (" and without" if told["complete"] else "")
            )
        steps = ", ".join(f"{name} {took:.1f}" for name, took in self.taught.seconds.items())
        hard = "with hard negatives of the whole store" if told["complete"] else "sampled"
        show.say(
            f"{shown(self.class_)}, version {self.taught.version.number}: {told['positives']:,} "
            f"positives, {told['negatives']:,} negatives {hard}, {ranking.windows:,} windows "
            f"scored, {ranking.above:,} above 0, in {told['seconds']:.1f} s ({steps})"
        )
        if left_out := told["left_out"]:
            show.say(
                f"{left_out} marks are on images of other stores and have no vector yet: train on "
                "those stores once",
                err=True,
            )
        if unreadable := self.shelf.unreadable(self.class_):
            show.say(f"{unreadable} files of marks in {self.shelf.root} cannot be read", err=True)


def _row(hit: Hit) -> Iterable[str]:
    yield f"{hit.score:.3f}"
    yield f"{hit.image_id}/{hit.window_id}"
    yield from (f"{corner:g}" for corner in hit.box)


def draw(asked: Asked, class_: str, taught: Taught, file: Path) -> None:
    """Draw the best hits, and then those that are least sure."""
    crops: list[Crop] = []
    for hits, word in ((taught.ranking.top, ""), (taught.ranking.borderline, "? ")):
        for hit in hits:
            pixels = part(asked.file_of(hit.image_id), hit.box)
            crops.append(Crop(pixels, f"{word}{hit.score:.2f}  {hit.image_id}"))
    title = f"{class_}: best of {taught.ranking.windows:,} windows, and with ? the least sure"
    with written_aside(file) as aside:
        crop_sheet(crops, title).save(aside, format="PNG")


def next_command(
    named: str,
    class_: str,
    shelf: str | None,
    runs: Path,
    data: Path | None,
    set_: Sequence[str] | None,
) -> str:
    """Return the command that finds the class, with the options of this one that it needs, too."""
    said = ["spp", "detect", named, "--class", class_]
    said += [] if shelf is None else ["--shelf", shelf]
    said += [] if runs == Path("runs") else ["--runs", str(runs)]
    said += [] if data is None else ["--data", str(data)]
    for each in set_ or ():
        said += ["--set", each]
    return shlex.join(said)
