"""The page about very many images: its tables are those of its script, and can be done by hand."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.store import objects

SCRIPT = Path(__file__).parents[1] / "deploy/scale.py"


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_tables_of_its_script(scale: ModuleType) -> None:
    text = scale.PAGE.read_text(encoding="utf-8")
    assert scale.page(text) == text
    assert scale.page(text.replace("days on", "weeks on")) == text


def test_a_million_images_by_hand(scale: ModuleType) -> None:
    vectors, maps = (scale.Scale(10**6, maps) for maps in (False, True))
    assert vectors.image_bytes == 1100 * 2 * 7168 == 15_769_600
    assert vectors.shards == 62_500  # 16 images in 256 MB
    assert maps.shards == 15_625  # 64 images, whatever their bytes
    # 252 MB are 16 parts of 16 MiB; an upload in parts has a beginning and an end; and a record
    assert scale.PART_BYTES == objects.PART_BYTES
    assert vectors.puts == 62_500 * (16 + 2 + 1)
    assert maps.puts == 15_625 * 3  # rows, maps, record
    assert (vectors.lists, maps.lists) == (63, 16)
    assert vectors.cpu_hours == 250  # 0.9 s an image
    # A record is asked for before, and read in the end; a data file is looked at once it is up.
    assert (vectors.gets, maps.gets) == (62_500 * 3, 15_625 * 4)
    # Records three times, and the folders of data that there are.
    assert (vectors.run_lists, maps.run_lists) == (63 * 4, 16 * 5)
    # 250 × 0.045 + (1187.5 + 0.252) × 0.005 + 187.5 × 0.0004
    assert round(vectors.dollars, 2) == 17.26
    assert round(vectors.monthly_dollars) == 363  # 15,770 GB at 0.023


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999, "1 kB"),
        (4_000, "4 kB"),
        (999_499, "999 kB"),
        (1_540_000, "1.5 MB"),
        (2e18, "2,000 PB"),
    ],
)
def test_bytes_as_people_read_them(scale: ModuleType, count: float, text: str) -> None:
    assert scale._bytes(count) == text
