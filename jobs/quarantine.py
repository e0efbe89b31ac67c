"""`spp quarantine`: the images that were left out, why, and another try once they are mended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs import dag, last_run, show, steps
from jobs.asked import ask, is_store
from jobs.context import STORE
from jobs.execution import DONE, QUARANTINED, execute
from jobs.job import Step
from jobs.options import (
    AddressOption,
    DataOption,
    JsonOption,
    RunsOption,
    SerialOption,
    SetOption,
    StoresOption,
    load,
)
from pipeline import images, store
from pipeline.config import Recipe
from pipeline.errors import InputError
from pipeline.quarantine import Quarantined, kinds, look, quarantined
from pipeline.store.files import read_json

SHOWN = 100  # images, on a screen


@dataclass(frozen=True)
class _Held:
    """What a store has, and what it has not."""

    name: str
    """Of the image set's role, or of the store."""
    images_in: int
    images: int
    left_out: Sequence[Quarantined]


def quarantine(
    named: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|STORE", help="A recipe; or a store, as for spp verify, to look only."
        ),
    ],
    image: Annotated[
        str | None, typer.Option(metavar="ID", help="Show one: what its file is now.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Extract again what was mended since the run.")
    ] = False,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    serial: SerialOption = False,
    address: AddressOption = None,
    stores_: StoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """List images that were left out, and why.

    Every image that went in is either in the store or here. Exit code 3: there are some.

    Examples:
        spp quarantine mine.toml
        spp quarantine mine.toml --image train_00005   # its file, as it is now
        spp quarantine mine.toml --retry               # once files are mended
    """
    if is_store(named):
        if retry:
            raise InputError(f"{named} is a store: name the recipe that made it to try again")
        held = [_of_store(named, ask(named, runs, data, set_).store)]
        most_pixels = images.MAX_PIXELS
    else:
        recipe = load(named, set_, data)
        most_pixels = recipe.features.max_pixels
        held = list(_of_run(named, recipe, runs, retry))
        if retry:
            before = held
            code = execute(
                [recipe], [steps.targets(recipe, "extract")], runs, serial, address, False, stores_
            )
            if code not in (DONE, QUARANTINED):
                raise typer.Exit(code)
            held = list(_of_run(named, recipe, runs))
            _tell_retried(before, held)
    if image is not None:
        _show(image, held, most_pixels, as_json)
    elif as_json:
        show.print_json([asdict(each) for each in held])
    else:
        for each in held:
            _tell(each)
    raise typer.Exit(QUARANTINED if any(each.left_out for each in held) else DONE)


def _of_store(name: str, held: store.Store) -> _Held:
    return _Held(name, held.totals.images_in, held.totals.images, quarantined(held))


def _of_run(named: str, recipe: Recipe, runs: Path, retry: bool = False) -> Iterator[_Held]:
    """Yield what each image set of a recipe has: as it is now, else as the last run left it."""
    planned = dag.plan(steps.jobs_of(recipe), recipe, runs)
    last = (read_json(runs / recipe.name / last_run.RUN) or {}).get("jobs", {})
    known = 0
    for role in recipe.roles:
        job = f"extract_{role}"
        step = planned[job]
        if step.record is None and isinstance(last.get(job), str):
            step = Step(step.job, runs / last[job])
            if step.record is not None and not retry:
                show.say(
                    f"{role}: images, labels or the recipe have changed since: --retry takes them",
                    err=True,
                )
        if step.record is None:
            continue
        known += 1
        where = step.record["summary"].get("store") or step.folder / STORE
        yield _of_store(role, store.open(where))
    if not known:
        raise InputError(
            f"{recipe.name} has no finished features in {runs}: run spp extract {named}, with the "
            "--runs, --data and --set of this command"
        )


def _tell(held: _Held) -> None:
    lost = sum(sum(each.objects.values()) for each in held.left_out)
    with_them = f", and with them {lost:,} labelled objects" if lost else ""
    show.say(
        f"{held.name}: {held.images_in:,} images in, {held.images:,} done, "
        f"{len(held.left_out):,} quarantined{with_them}"
    )
    if not held.left_out:
        return
    counts = kinds(each.reason for each in held.left_out)
    if len(counts) > 1 or counts[0][1] > SHOWN:
        show.print_table(["images", "reason"], ((count, kind) for kind, count in counts))
    rows = (
        (each.image_id, sum(each.objects.values()), each.reason, each.file)
        for each in held.left_out[:SHOWN]
    )
    show.print_table(["image_id", "objects", "reason", "file"], rows)
    if len(held.left_out) > SHOWN:
        show.say(f"and {len(held.left_out) - SHOWN:,} more: --json lists all")


def _tell_retried(before: Sequence[_Held], after: Sequence[_Held]) -> None:
    """Say what another try has brought."""
    still = {(held.name, each.image_id) for held in after for each in held.left_out}
    for held in before:
        asked = [(held.name, each.image_id) for each in held.left_out]
        back = sum(each not in still for each in asked)
        if asked:
            show.say(f"{held.name}: {back:,} of {len(asked):,} are not left out any more", err=True)


def _show(image_id: str, held: Sequence[_Held], most_pixels: int, as_json: bool) -> None:
    """Tell all that is known of one image, and what its file is now.

    Raises:
        InputError: it is not among those that were left out.
    """
    found = [each for one in held for each in one.left_out if each.image_id == image_id]
    if not found:
        raise InputError(
            f"image {image_id} is not among the {sum(len(one.left_out) for one in held)} that were "
            "left out: spp quarantine without --image lists them"
        )
    told: Mapping[str, Any] = {
        **asdict(found[0]),
        "now": asdict(look(Path(found[0].file), most_pixels)),
    }
    if as_json:
        show.print_json(told)
        return
    objects = ", ".join(f"{name} {count}" for name, count in told["objects"].items()) or "none"
    show.print_table(
        ["", ""],
        [
            *((name, told[name]) for name in ("image_id", "file", "reason")),
            ("objects lost", objects),
            *((f"now: {name.replace('_', ' ')}", value) for name, value in told["now"].items()),
        ],
    )
