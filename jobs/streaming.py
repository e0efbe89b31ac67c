"""`spp detect` and `spp classify IMAGES... --model FOLDER`: about files, without a store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.progress import Progress
from actors.serial import SerialRunner
from jobs import show
from jobs.context import raise_failures
from jobs.execution import DONE, QUARANTINED, ended_gently, open_runner
from pipeline import model, streaming
from pipeline.errors import InputError
from pipeline.store.schema import BOX_COLUMNS
from pipeline.streaming import ChunkSpec, Found, answer_chunk, list_images

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
        InputError: a word names no image, the folder holds no detector, or what is found cannot be
            written where it is to go.
    """
    folder, listed = folder.resolve(), list_images(given)
    if wanted.out is not None:
        streaming.require_writable(wanted.out, listed)
    if wanted.pictures is not None:
        streaming.require_folder(wanted.pictures)
    known = _load(folder, "detection")
    progress = Progress(quiet=wanted.as_json)
    if known.described.windows_from_file:
        progress.note(
            "the model was trained on windows from a file; selective search makes those of new "
            "images"
        )
    found = _answers(known, folder, listed, 0, progress, runs, serial, address)
    places = {each.image_id: each.place for each in listed}
    if wanted.out is not None:
        streaming.write(wanted.out, found, known.classes, places)
    if wanted.pictures is not None:
        drawn = {name: places[name] for name in found.sizes}
        most = known.described.features.max_pixels
        score = wanted.picture_score
        streaming.draw(wanted.pictures, found.answers, drawn, score, most, known.classes)
    _tell(found, wanted)
    return QUARANTINED if found.reasons else DONE


def classify(
    given: Sequence[str],
    folder: Path,
    out: Path | None,
    top: int,
    as_json: bool,
    runs: Path,
    serial: bool,
    address: str | None,
) -> int:
    """Tell what all images show that the words name; return the exit code.

    Args:
        given: the words.
        folder: of the model.
        out: the file that all answers go to, if any.
        top: classes of an image that are told.
        as_json: whether the answer is for programs.
        runs: folder for what is done so far.
        serial: whether to work in this process.
        address: of the cluster.

    Raises:
        InputError: a word names no image, the folder holds no classifier, or answers cannot be
            written where they are to go.
    """
    folder, listed = folder.resolve(), list_images(given)
    if out is not None:
        streaming.require_form(out, (".parquet", ".csv"))
    known, progress = _load(folder, "classification"), Progress(quiet=as_json)
    found = _answers(known, folder, listed, top, progress, runs, serial, address)
    if out is not None:
        streaming.write_classes(out, found)
    _tell_classes(found, out, as_json)
    return QUARANTINED if found.reasons else DONE


def _load(folder: Path, task: model.Task) -> model.Model:
    """Read a model before anything runs."""
    model.require_task(model.describe(folder), task, folder)
    return model.load(folder)


def _answers(
    known: model.Model,
    folder: Path,
    listed: Sequence[streaming.Listed],
    top: int,
    progress: Progress,
    runs: Path,
    serial: bool,
    address: str | None,
) -> Found:
    """Return a model's answers about images; those of chunks that are done are not asked again."""
    chunks = _chunks(folder, known.digest, listed, top, runs.resolve() / PARTS)
    _run(chunks, progress, serial, address)
    destinations = [chunk.destination for chunk in chunks]
    found = streaming.read_chunks(destinations, streaming.schema_of(known))
    for name, reason in found.reasons.items():
        progress.note(f"quarantined: image {name}: {reason}")
    if not found.sizes:
        raise InputError(f"none of the {len(listed)} images could be read")
    return found


def _chunks(
    folder: Path, digest: str, listed: Sequence[streaming.Listed], top: int, parts: Path
) -> list[ChunkSpec]:
    chunks = []
    for start in range(0, len(listed), CHUNK_IMAGES):
        own = tuple(listed[start : start + CHUNK_IMAGES])
        name = streaming.chunk_name(digest, own, top)
        chunks.append(ChunkSpec(folder, digest, parts / f"{name}.parquet", own, top))
    return chunks


def _run(
    chunks: Sequence[ChunkSpec], progress: Progress, serial: bool, address: str | None
) -> None:
    """Ask about the images about which nobody has yet."""
    left = {
        f"{chunk.images[0].image_id} to {chunk.images[-1].image_id}": chunk
        for chunk in chunks
        if not streaming.is_done(chunk.destination)
    }
    few = sum(len(chunk.images) for chunk in left.values()) <= FEW
    alone = serial or not left or (few and address is None)
    failed: dict[str, Exception] = {}
    title, made = f"chunks of {CHUNK_IMAGES} images", len(chunks) - len(left)
    with ended_gently():
        runner = SerialRunner() if alone else open_runner(address)
        with progress.shown(), progress.bar(title, len(chunks), made) as bar:
            for outcome in runner.map(answer_chunk, left, gpus=None):
                bar.advance()
                if outcome.error is not None:
                    failed[outcome.key] = outcome.error
    raise_failures(failed, "images")


def _tell(found: Found, wanted: Wanted) -> None:
    best, count = streaming.best(found.answers, SHOWN), len(found.answers)
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
    above = int((found.answers["score"].to_numpy() > 0).sum())
    told = f"{count:,} detections in {len(found.sizes):,} images, {above:,} above 0"
    show.say(f"{told}{_left_out(found)}{where}{pictures}")


def _tell_classes(found: Found, out: Path | None, as_json: bool) -> None:
    rows = found.answers.to_pylist()
    own: dict[str, list[dict]] = {}
    for row in rows:
        own.setdefault(row["image_id"], []).append(
            {"class": row["class"], "score": round(row["score"], 4)}
        )
    if as_json:
        show.print_json({"images": own, "quarantined": found.reasons})
        return
    for name, told in list(own.items())[:SHOWN]:
        first, *others = (f"{each['class']} {each['score']:.2f}" for each in told)
        show.say(f"{name}: {first}" + (f"  ({', '.join(others)})" if others else ""))
    more = f"; {len(own) - SHOWN:,} more" if len(own) > SHOWN else ""
    where = f"; all in {out}" if out else "; --out FILE.csv keeps all"
    told = f"{len(own):,} images{_left_out(found)}{more}{where}"
    show.say(f"{told}. Scores are margins: above 0 a class is likely.")


def _left_out(found: Found) -> str:
    return f"; {len(found.reasons):,} could not be read" if found.reasons else ""
