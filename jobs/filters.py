"""`spp filters`: what a network's filters respond to, in a store's images."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from actors.progress import Progress
from jobs import show
from jobs.asked import Asked, ask
from jobs.exit_codes import DONE, QUARANTINED
from jobs.network import outline
from jobs.options import DataOption, JsonOption, RunsOption, SetOption, StoreArgument
from pipeline import filters as seen
from pipeline.config.features import MOST_SCALE_PX
from pipeline.errors import InputError
from pipeline.networks import Network
from pipeline.report.filters import filters_sheet
from pipeline.store.files import written_aside

TOP = 5  # filters, where none is named
MOST_TILES = 1000  # of a picture: 130 MB of pixels


def filters(
    named: StoreArgument,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Show this image; default: one that many filters respond to."
        ),
    ] = None,
    filter_: Annotated[
        list[int] | None,
        typer.Option(
            "--filter", metavar="NUMBER", help="Show this filter, from 0; may be repeated.", min=0
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            help=f"How many of the image's strongest filters [{TOP}; besides --filter 0].", min=0
        ),
    ] = None,
    among: Annotated[
        int, typer.Option(help="Look at so many images, evenly spread over the store.", min=1)
    ] = 200,
    strongest: Annotated[
        int, typer.Option(help="How many images a filter responds to most strongly.", min=1)
    ] = 4,
    scale: Annotated[
        int | None,
        typer.Option(
            help="Shorter side of the images in pixels; default: the recipe's largest.",
            min=1,
            max=MOST_SCALE_PX,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it, as the paper's Figure 2.")
    ] = None,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a network's filters respond to.

    Of one image the filters are told whose response is most above what they give as a rule, and for
    each of them the images that it responds to most strongly, with the pixels that it saw there. A
    store of maps is read; of any other the network runs over the images again, on the CPU.

    Examples:
        spp filters digits:test --out filters.png
        spp filters digits:test --image test_00003 --filter 12 --out filters.png
    """
    chosen = tuple(filter_ or ())
    besides = (0 if chosen else TOP) if top is None else top
    wanted = seen.Wanted(image, chosen, besides, among, strongest)
    if out is not None:
        _require_drawable(out, tiles=(len(chosen) + besides) * (2 + strongest))
    if not chosen and not besides:
        raise typer.BadParameter("--top 0 goes with --filter, which names what to show")
    asked, progress = ask(named, runs, data, set_), Progress(quiet=as_json)
    at_px, start = seen.scale_in(asked.store, scale), time.perf_counter()
    images = seen.looked_at(asked.store, wanted)
    with ExitStack() as held, progress.shown():
        reader = _reader(asked, named, at_px, held)
        bar = held.enter_context(progress.bar("filters: images", len(images)))
        looked = seen.look(images, reader, wanted, bar.advance)
    answer = _Answer(asked, looked, reader.sight, out, time.perf_counter() - start)
    for image_id, reason in looked.unseen.items():
        progress.note(f"left out: image {image_id}: {reason}")
    if out is not None:
        answer.draw(out)
    if as_json:
        show.print_json(answer.as_json())
    else:
        answer.print()
    raise typer.Exit(QUARANTINED if looked.unseen else DONE)


def _require_drawable(out: Path, tiles: int) -> None:
    """Refuse a picture that cannot be written, before anything is done for it."""
    if out.is_dir() or not out.parent.is_dir():
        raise typer.BadParameter(f"--out {out}: give a file in a folder that is there")
    if out.suffix.lower() != ".png":
        raise typer.BadParameter(f"--out {out}: pictures are written to FILE.png")
    if tiles > MOST_TILES:
        raise typer.BadParameter(
            f"a picture has room for {MOST_TILES:,} images, and --top and --strongest ask for "
            f"{tiles:,}: lower them, or leave out --out"
        )


def _reader(asked: Asked, named: str, scale_px: int, held: ExitStack) -> seen.Reader:
    """Return what gives the store's maps."""
    if asked.store.kind == "maps":
        known = None if asked.recipe is None else outline(asked.recipe)
        return held.enter_context(seen.StoredMaps(asked.store, scale_px, known))
    return seen.NetworkMaps(asked.store, scale_px, _network(asked, named))


def _network(asked: Asked, named: str) -> Network:
    """Return the network that made the store.

    Raises:
        InputError: it is not known, or its weights are gone or damaged.
    """
    root = asked.store.root
    try:
        network = asked.network()
    except InputError as error:
        raise InputError(
            f"the network that made {root} cannot be loaded ({error}): spp extract "
            f"{named.rpartition(':')[0]} makes again what a run has lost; and a store of maps "
            '(features.store = "maps") needs no network'
        ) from None
    if network is None:
        raise InputError(
            f"{root} has no maps, and the network that made it is not known: name the store as "
            "RECIPE:train or RECIPE:test, or take a store of maps"
        )
    return network


@dataclass(frozen=True)
class _Answer:
    asked: Asked
    looked: seen.Looked
    sight: seen.Sight
    out: Path | None
    seconds: float

    @property
    def _network(self) -> str | None:
        network = self.sight.network
        return None if network is None else network.name

    def draw(self, out: Path) -> None:
        """Write the picture.

        Raises:
            InputError: the image that is shown cannot be read; of others frames stay empty.
        """
        most = seen.settings_of(self.asked.store).max_pixels
        shown = self.looked.picture

        def pixels(picture: seen.Picture) -> np.ndarray | None:
            try:
                return seen.read_picture(picture, most)
            except InputError as error:
                if picture.image_id != shown.image_id:
                    return None
                raise InputError(f"image {shown.image_id} cannot be shown: {error}") from None

        by = f"{self.looked.channels:,} filters"
        by += "" if self._network is None else f" of {self._network}"
        title = f"{self.asked.name}: what the {by} respond to at {self.sight.scale_px} px"
        sheet = filters_sheet(self.looked, self.sight, pixels, title)
        with written_aside(out) as aside:
            sheet.save(aside, format="PNG")

    def as_json(self) -> dict[str, Any]:
        """Return all of it, for programs."""
        looked, sight = self.looked, self.sight
        return {
            "store": str(self.asked.store.root),
            "seen_by": "maps" if self.asked.store.kind == "maps" else "network",
            "network": self._network,
            "channels": looked.channels,
            "scale_px": sight.scale_px,
            "receptive_field_px": sight.receptive_field_px,
            "images": looked.images,
            "left_out": looked.unseen,
            "image": looked.picture.image_id,
            "filters": [
                {
                    "filter": each.number,
                    **self._told(each.response),
                    "mean": each.mean,
                    "deviation": each.deviation,
                    "standing": each.standing,
                    "strongest": [self._told(one) for one in each.strongest],
                }
                for each in looked.filters
            ],
            "out": None if self.out is None else str(self.out),
            "seconds": self.seconds,
        }

    def _told(self, response: seen.Response) -> dict[str, Any]:
        spot = self.sight.spot(self.looked.pictures[response.image_id], response.cell)
        return {
            "image_id": response.image_id,
            "response": response.value,
            "cell": response.cell,
            "centre": spot.centre,
            "receptive_field": spot.receptive_field,
        }

    def print(self) -> None:
        """Print a table, and how it was made."""
        looked, sight = self.looked, self.sight
        columns = ["filter", "response", "mean", "standing", "cell", "place", "strongest in"]
        show.print_table(columns, map(self._row, looked.filters))
        show.say(
            f"responses in image {looked.picture.image_id} at {sight.scale_px} px, and in "
            f"{looked.images:,} images, {self._how()} in {self.seconds:.1f} s"
        )
        if sight.receptive_field_px is None:
            show.say(f"place: the centre of the cell, for {self._why()}")
        else:
            show.say(
                f"place: the receptive field, {sight.receptive_field_px} px of the resized image, "
                "in pixels of the original"
            )
        if self.out is not None:
            show.say(f"drawn: {self.out}")

    def _how(self) -> str:
        if self.asked.store.kind == "maps":
            return "read from the store's maps"
        return f"by {self._network}"

    def _why(self) -> str:
        if self._network is not None:
            return f"what reaches a cell of {self._network} cannot be derived from its layers"
        return "the network is not known: RECIPE:train or RECIPE:test names it"

    def _row(self, each: seen.Filter) -> Sequence[str]:
        spot = self.sight.spot(self.looked.picture, each.response.cell)
        place = spot.centre if spot.receptive_field is None else spot.receptive_field
        return [
            str(each.number),
            f"{each.response.value:.4g}",
            f"{each.mean:.4g}",
            f"{each.standing:+.2f}",
            ",".join(map(str, each.response.cell)),
            ",".join(f"{edge:.0f}" for edge in place),
            ", ".join(f"{one.image_id} {one.value:.4g}" for one in each.strongest),
        ]
