"""The images that some words name: files, folders, patterns, prefixes on S3."""

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline import images
from pipeline.errors import InputError, UnreachableError
from pipeline.store.place import require_no_secret


@dataclass(frozen=True)
class Listed:
    """An image that was named."""

    image_id: str
    place: str
    """A path, or a URI."""
    state: str
    """Its size, and what tells that it was written anew; empty where nothing is to be read."""


def list_images(given: Sequence[str]) -> list[Listed]:
    """Return the images that some words name, each by a name that no other has, in order.

    An image is called by its path in the folder, or in the part of the pattern before the first
    `*`, that found it; without the suffixes, where names then still differ.

    Args:
        given: files, folders (with all below them), patterns with `*`, each a path or a URI such
            as `s3://bucket/photos/`.

    Raises:
        InputError: a word names no image, or two images have one name.
    """
    found: dict[str, Listed] = {}
    for word in given:
        for each in _named_by(word):
            held = found.setdefault(each.image_id, each)
            if held.place != each.place:
                raise InputError(
                    f"{held.place} and {each.place} would both be called {each.image_id}: give "
                    "the folder that holds both"
                )
    short = {name: str(PurePosixPath(name).with_suffix("")) for name in found}
    if len(set(short.values())) < len(short) or set(short.values()) & found.keys():
        short = {name: name for name in found}
    named = [replace(each, image_id=short[name]) for name, each in found.items()]
    return sorted(named, key=lambda each: each.image_id)


def _named_by(word: str) -> Iterator[Listed]:
    require_no_secret(word)
    try:
        files, path = fsspec.core.url_to_fs(word)
        if "*" in path:
            top = path.partition("*")[0].rpartition("/")[0]
            told = files.glob(path, detail=True)
        elif files.isdir(path):
            top, told = path, files.find(path, detail=True)
            told = {name: info for name, info in told.items() if _is_image(name)}
        else:
            top = path.rpartition("/")[0]
            told = {path: files.info(path)} if files.exists(path) else {}
    except Exception as error:  # noqa: BLE001 - each of two dozen file systems has its own
        raise InputError(f"{word!r:.200} cannot be listed: {error}") from None
    told = {name: info for name, info in told.items() if info.get("type") != "directory"}
    if not told:
        raise InputError(
            f"{word} names no image: give a file, a folder with "
            f"{', '.join(sorted(images.SUFFIXES))}, or a pattern in quotes"
        )
    for name, info in told.items():
        place = files.unstrip_protocol(name) if "://" in word else name
        broken = bool(info.get("islink")) and not _leads_to_a_file(name, top, name == path)
        changed = next((info[key] for key in ("ETag", "mtime", "LastModified") if key in info), "")
        state = "" if broken else f"{info.get('size')} {changed}"
        yield Listed(name.removeprefix(top.rstrip("/") + "/"), place, state)


def _leads_to_a_file(link: str, top: str, named: bool) -> bool:
    """Whether a link leads to a file: of the folder that was given, if it was not named itself.

    A folder of others may hold a link to anything that its reader may read.
    """
    real = os.path.realpath(link)
    inside = os.path.commonpath([real, os.path.realpath(top)]) == os.path.realpath(top)
    return os.path.isfile(real) and (inside or named)


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in images.SUFFIXES


def reach(image: Listed) -> bytes:
    """Return a listed image's bytes.

    Raises:
        UndecodableImage: it is no file, or larger than images are.
        UnreachableError: it cannot be read here.
    """
    size = image.state.partition(" ")[0]  # as it was listed: asking again would be a request
    if size.isdigit() and int(size) > images.MAX_FILE_BYTES:
        raise images.UndecodableImage(
            f"the file has {int(size):,} bytes, more than the {images.MAX_FILE_BYTES:,} that are "
            "read of an image"
        )
    try:
        return read(image.place)
    except OSError as error:
        raise UnreachableError(
            f"image {image.image_id}: {image.place} cannot be read on {socket.gethostname()} "
            f"({error}): bring it back, or mount its folder there, and run the same command again"
        ) from error


def read(place: str) -> bytes:
    """Return a file's bytes, wherever it lies.

    Raises:
        UndecodableImage: it is no file, or larger than images are.
    """
    files, path = fsspec.core.url_to_fs(place)
    if isinstance(files, LocalFileSystem):
        return images.read(path)
    return files.cat_file(path)
