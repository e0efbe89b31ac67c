"""The proof that a store is whole, and what mends it.

`spp verify`, `spp fsck`, `spp gc`.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs import show
from jobs.asked import ask, root_of
from jobs.exit_codes import DONE, FAILED
from jobs.options import DataOption, JsonOption, RunsOption, SetOption, StoreArgument
from pipeline import store
from pipeline.errors import InputError
from pipeline.store.garbage import KEPT_S

FAULTS_SHOWN = 20  # on a screen


def verify(
    named: StoreArgument,
    images: Annotated[
        bool,
        typer.Option(
            "--images", help="Also read the image files; tell what is missing or changed."
        ),
    ] = False,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that a store is whole.

    Every byte is read and held against its record.

    Examples:
        spp verify digits:train
        spp verify digits:train --images   # and the image files against what they were
    """
    held = ask(named, runs, data, set_).store
    faults = held.verify(images)
    if as_json:
        said = {"shards": len(held.shards), "rows": len(held)}
        show.print_json({**said, "faults": [asdict(fault) for fault in faults]})
        raise typer.Exit(FAILED if faults else DONE)
    for fault in faults[:FAULTS_SHOWN]:
        show.say(f"{fault.shard_id} {fault.problem}")
    if len(faults) > FAULTS_SHOWN:
        show.say(f"… and {len(faults) - FAULTS_SHOWN:,} more: --json has all")
    if not faults:
        show.say(f"{len(held.shards)} shards, {len(held):,} rows: whole")
    cures = {fault.cure for fault in faults}
    if store.Cure.fsck in cures:
        show.say(f"to mend: spp fsck {named}, then run the recipe again")
    if store.Cure.images in cures:
        show.say(
            "the images have changed since the store was made: put the old ones back, or run the "
            "recipe again to make a new store (a run does not notice changes that keep a file's "
            "size and time)"
        )
    if store.Cure.gc in cures:
        show.say(f"to tidy up: spp gc {named} --remove")
    raise typer.Exit(FAILED if faults else DONE)


def fsck(
    named: StoreArgument,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mend what can be mended.

    Rebuilds a store's lost records and manifest, and drops the records of shards that are damaged.
    Run it while no run is at work on the store. No shard is removed: `spp gc` does that. What
    cannot be mended is named, and the next run of the recipe makes it again; until then the store
    cannot be read, and this ends with 1.

    Examples:
        spp fsck digits:train
    """
    root = root_of(named, runs, data, set_)
    said = store.fsck(root)
    if as_json:
        show.print_json(said)
    else:
        for sentence in said or ["nothing to mend"]:
            show.say(sentence)
    try:
        store.open(root)
    except InputError:  # what there is to do has been said
        raise typer.Exit(FAILED) from None


def gc(
    named: StoreArgument,
    remove: Annotated[bool, typer.Option("--remove", help="And remove it.")] = False,
    older_than: Annotated[
        float, typer.Option(metavar="HOURS", help="Leave in peace what is younger.", min=0)
    ] = KEPT_S / 3600,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what killed attempts have left.

    Lists it, and removes it where told to: only what no manifest names, or, before a store is
    finished, no record. Readers never see it.

    Examples:
        spp gc digits:train
        spp gc digits:train --remove
    """
    found = store.gc(root_of(named, runs, data, set_), remove, older_than * 3600)
    if as_json:
        show.print_json([asdict(each) for each in found])
        return
    for each in found:
        show.say(f"{each.name} {each.bytes:,} bytes: {each.why}")
    total = f"{len(found)} files, {sum(each.bytes for each in found):,} bytes"
    told = "removed" if remove else "can be removed: --remove does"
    show.say(f"{total}, older than {older_than:g} hours, {told}" if found else "no garbage")
