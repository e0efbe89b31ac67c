"""Ways in which image files come to be no images, drawn from a seed."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image

from tests.hostile import png_of


def _cut(path: Path, random: Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: random.randrange(len(data) * 3 // 4)])


def _empty(path: Path, random: Random) -> None:
    path.write_bytes(b"")


def _noise(path: Path, random: Random) -> None:
    path.write_bytes(random.randbytes(random.randrange(1, 5000)))


def _page(path: Path, random: Random) -> None:
    path.write_text("<html><body>404 Not Found</body></html>")


def _bomb(path: Path, random: Random) -> None:
    path.write_bytes(png_of(60_000, 60_000))


def _other_size(path: Path, random: Random) -> None:
    with Image.open(path) as image:
        smaller = image.resize((image.width - 1, image.height))
    smaller.save(path)


def _folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path, random: Random) -> None:
    path.unlink()
    os.mkfifo(path)


WAYS: tuple[Callable[[Path, Random], None], ...] = (
    *(_cut, _empty, _noise, _page, _bomb, _other_size, _folder, _pipe),
)


def spoil(paths: list[Path], count: int, random: Random) -> dict[str, str]:
    """Spoil some files; return in which way, by image id."""
    chosen = random.sample(paths, count)
    ways = [random.choice(WAYS) for _ in chosen]
    for path, way in zip(chosen, ways, strict=True):
        way(path, random)
    return {path.stem: way.__name__.strip("_") for path, way in zip(chosen, ways, strict=True)}
