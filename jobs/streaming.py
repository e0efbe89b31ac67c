"""`spp detect IMAGES... --model FOLDER`: detection in files, without a store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from actors.progress import Progress
from actors.runner import SerialRunner
from jobs import show
from jobs.context import raise_failures
from jobs.execution import DONE, QUARANTINED, open_runner
from pipeline import model, streaming
from pipeline.errors import InputError
from pipeline.store.schema import BOX_COLUMNS
from pipeline.streaming import ChunkSpec, detect_chunk, list_images

CHUNK_IMAGES = 8  # a few seconds of work: what a kill costs
FEW = 4 * CHUNK_IMAGES  # so many are done before Ray would be up
SHOWN = 20  # best detections, on a screen
PARTS = "streamed"  # in --runs: what was found, chunk by chunk; may be removed at any time


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
        InputError: a word names no image, the folder holds no model, or what is found cannot be
            written where it is to go.
    """
    folder, listed = folder.resolve(), list_images(given)
    if wanted.out is not None:
        streaming.require_writable(wanted.out, listed)
    if wanted.pictures is not None:
        streaming.require_folder(wanted.pictures)
    known = model.load(folder)  # before anything runs
    progress = Progress(quiet=wanted.as_json)
    if known.described.windows_from_file:
        progress.note(
            "the model was trained on windows from a file; selective search makes those of new "
            "images"
        )
    chunks = _chunks(folder, known.digest, listed, runs.resolve() / PARTS)
    _run(chunks, progress, serial, address)
    found = streaming.read_chunks([chunk.destination for chunk in chunks])
    for name, reason in found.reasons.items():
        progress.note(f"quarantined: image {name}: {reason}")
    if not found.sizes:
        raise InputError(f"none of the {len(listed)} images could be read")
    places = {each.image_id: each.place for each in listed}
    if wanted.out is not None:
        streaming.write(wanted.out, found, known.classes, places)
    if wanted.pictures is not None:
        drawn = {name: places[name] for name in found.sizes}
        most = known.described.features.max_pixels
        streaming.draw(wanted.pictures, found.detections, drawn, wanted.picture_score, most)
    _tell(found, wanted)
    return QUARANTINED if found.reasons else DONE


def _chunks(
    folder: Path, digest: str, listed: Sequence[streaming.Listed], parts: Path
) -> list[ChunkSpec]:
    chunks = []
    for start in range(0, len(listed), CHUNK_IMAGES):
        own = tuple(listed[start : start + CHUNK_IMAGES])
        name = streaming.chunk_name(digest, own)
        chunks.append(ChunkSpec(folder, digest, parts / f"{name}.parquet", own))
    return chunks


def _run(
    chunks: Sequence[ChunkSpec], progress: Progress, serial: bool, address: str | None
) -> None:
    """Detect in the images in which nobody has yet."""
    left = {
        f"{chunk.images[0].image_id} to {chunk.images[-1].image_id}": chunk
        for chunk in chunks
        if not streaming.is_done(chunk.destination)
    }
    few = sum(len(chunk.images) for chunk in left.values()) <= FEW
    alone = serial or not left or (few and address is None)
    runner = SerialRunner() if alone else open_runner(address)
    failed: dict[str, Exception] = {}
    title = f"chunks of {CHUNK_IMAGES} images"
    with progress.shown(), progress.bar(title, len(chunks), len(chunks) - len(left)) as bar:
        for outcome in runner.map(detect_chunk, left, gpus=None):
            bar.advance()
            if outcome.error is not None:
                failed[outcome.key] = outcome.error
    raise_failures(failed, "images")


def _tell(found: streaming.Found, wanted: Wanted) -> None:
    best, count = streaming.best(found.detections, SHOWN), len(found.detections)
    if wanted.as_json:
        told = {"images": len(found.sizes), "quarantined": found.reasons}
        show.print_json(told | {"detections": count, "best": best})
        return
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
    typer.echo(f"{count:,} detections in {len(found.sizes):,} images{where}{pictures}")
