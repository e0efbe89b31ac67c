"""`spp detect IMAGES... --model FOLDER`: detection in files, without a store."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer

from actors.progress import Progress
from actors.runner import SerialRunner
from jobs import show
from jobs.context import raise_failures
from jobs.execution import DONE, QUARANTINED, open_runner
from pipeline import model, streaming
from pipeline.config import digest
from pipeline.errors import InputError
from pipeline.store.files import file_sha256
from pipeline.store.schema import BOX_COLUMNS
from pipeline.streaming import detect_chunk, list_images

CHUNK_IMAGES = 8  # a few seconds of work: what a kill costs
FEW = 4 * CHUNK_IMAGES  # so many are done before Ray would be up
SHOWN = 20  # best detections, on a screen
PARTS = "streamed"  # in --runs: what was found, chunk by chunk


@dataclass(frozen=True)
class Wanted:
    """What to do with what is found."""

    out: Path | None
    pictures: Path | None
    picture_score: float
    as_json: bool


def detect(
    given: Sequence[str],
    folder: Path,
    wanted: Wanted,
    runs: Path,
    serial: bool,
    address: str | None,
) -> int:
    """Detect in all images that the words name; return the exit code.

    Raises:
        InputError: a word names no image, or the folder holds no model.
    """
    folder, places = folder.resolve(), list_images(given)
    known = model.load(folder)  # before anything runs
    progress = Progress(quiet=wanted.as_json)
    if known.windows_replaced:
        progress.note(
            "the model was trained on windows from a file; selective search makes those of new "
            "images"
        )
    names = list(places)
    chunks = {
        f"{number:06d}": [(name, places[name]) for name in names[start : start + CHUNK_IMAGES]]
        for number, start in enumerate(range(0, len(names), CHUNK_IMAGES))
    }
    parts = runs.resolve() / PARTS / _made_from(folder, places)
    quarantined: dict[str, str] = {}
    failed: dict[str, Exception] = {}
    left = {
        key: (parts / f"{key}.parquet", chunk)
        for key, chunk in chunks.items()
        if not (parts / f"{key}.parquet").is_file()
    }
    few = sum(len(chunk) for _, chunk in left.values()) <= FEW
    runner = SerialRunner() if serial or (few and address is None) else open_runner(address)
    work = partial(_detect, folder)
    with progress.shown(), progress.bar("images", len(chunks), len(chunks) - len(left)) as bar:
        for outcome in runner.map(work, left):
            bar.advance()
            if outcome.error is not None:
                failed[outcome.key] = outcome.error
            else:
                quarantined |= outcome.result.quarantined
    raise_failures(failed, "images")
    found, sizes = streaming.read_chunks([parts / f"{key}.parquet" for key in chunks])
    lost = {
        name: quarantined.get(name, "see the run before") for name in names if name not in sizes
    }
    for name, reason in lost.items():
        progress.note(f"quarantined: image {name}: {reason}")
    if not sizes:
        raise InputError(f"none of the {len(names)} images could be read")
    if wanted.out is not None:
        streaming.write(wanted.out, found, sizes, known.classes, places)
    if wanted.pictures is not None:
        drawn = {name: places[name] for name in sizes}
        streaming.draw(wanted.pictures, found, drawn, wanted.picture_score)
    best = streaming.describe(found, SHOWN)
    if wanted.as_json:
        told = {"images": len(sizes), "quarantined": lost, "detections": len(found), "best": best}
        show.print_json(told)
        return QUARANTINED if lost else DONE
    show.print_table(
        ["score", "class", "image", *BOX_COLUMNS],
        (
            [f"{row['score']:.3f}", row["class"], row["image_id"]]
            + [f"{row[name]:.0f}" for name in BOX_COLUMNS]
            for row in best
        ),
    )
    where = f"; all in {wanted.out}" if wanted.out else "; --out FILE keeps all"
    pictures = f"; pictures in {wanted.pictures}" if wanted.pictures else ""
    typer.echo(f"{len(found):,} detections in {len(sizes):,} images{where}{pictures}")
    return QUARANTINED if lost else DONE


def _detect(folder: Path, item: tuple[Path, list[tuple[str, str]]]) -> streaming.ChunkStats:
    destination, chunk = item
    return detect_chunk(folder, destination, chunk)


def _made_from(folder: Path, places: dict[str, str]) -> str:
    """Return what names the folder of the parts: the model's files, and the images as they are."""
    files = {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    return digest(files, [[name, *streaming.state(at)] for name, at in places.items()])[:16]
