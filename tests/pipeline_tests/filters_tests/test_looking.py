"""Looking at images through a reader of maps that are made by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import store
from pipeline.errors import InputError, UnreachableError
from pipeline.filters import Picture, Response, Sight, Wanted, look, looked_at, read_picture
from pipeline.filters.reading import evenly, pictures
from pipeline.networks import Geometry, load
from pipeline.store.place import place
from tests import small_store

PICTURES = {name: Picture(name, Path(f"{name}.jpg"), 40, 20) for name in "abc"}
# Three filters of 1×2 cells.
MAPS = {
    "a": [[[1, 0]], [[0, 6]], [[0, 0]]],
    "b": [[[2, 0]], [[4, 0]], [[7, 0]]],
    "c": [[[0, 3]], [[2, 0]], [[0, 8]]],
}
SIGHT = Sight(Geometry(8, 3.0), 10)


@dataclass
class ByHand:
    maps: Mapping[str, list] = field(default_factory=lambda: MAPS)
    sight: Sight = SIGHT
    read: list[str] = field(default_factory=list)

    def feature_map(self, picture: Picture) -> np.ndarray:
        self.read.append(picture.image_id)
        if picture.image_id not in self.maps:
            raise InputError("it is gone")
        return np.array(self.maps[picture.image_id], np.float32)


def test_an_image_that_is_asked_for() -> None:
    reader, seen = ByHand(), []
    looked = look(PICTURES, reader, Wanted("b", top=2, strongest=2), lambda: seen.append(1))
    assert (looked.picture, looked.images, looked.channels) == (PICTURES["b"], 3, 3)
    assert (reader.read, len(seen)) == (["a", "b", "c"], 3)  # b is not read again
    # In b filter 0 gives 2 (mean 2), 1 gives 4 (mean 4), 2 gives 7 (mean 5).
    assert [each.number for each in looked.filters] == [2, 1]
    best = looked.filters[0]
    assert best.response == Response("b", 7.0, (0, 0))
    assert best.feature_map.tolist() == [[7.0, 0.0]]
    assert best.mean == 5
    assert best.deviation == pytest.approx(np.sqrt((25 + 4 + 9) / 3))
    assert best.standing == pytest.approx(2 / best.deviation)
    assert best.strongest == [Response("c", 8.0, (1, 0)), Response("b", 7.0, (0, 0))]
    assert set(looked.pictures) == {"a", "b", "c"}


def test_filters_that_are_named_come_first_and_once() -> None:
    wanted = Wanted("b", filters=[0, 2, 0], top=5, strongest=1)
    assert [each.number for each in look(PICTURES, ByHand(), wanted).filters] == [0, 2, 1]
    alone = look(PICTURES, ByHand(), Wanted(filters=[2], top=0, strongest=1))
    assert [each.number for each in alone.filters] == [2]
    assert alone.picture.image_id == "c"  # filter 2 responds to it most
    assert set(alone.pictures) == {"c"}


def test_an_image_is_chosen_where_none_is_asked_for() -> None:
    reader = ByHand()
    looked = look(PICTURES, reader, Wanted(strongest=2))
    assert looked.picture.image_id == "b"  # among the two strongest of all three filters
    assert reader.read == ["a", "b", "c", "b"]


def test_images_that_cannot_be_read_are_left_out_with_their_reasons() -> None:
    some = ByHand({name: MAPS[name] for name in "ab"})
    looked = look(PICTURES, some, Wanted("a"))
    assert (looked.images, looked.unseen) == (2, {"c": "it is gone"})
    with pytest.raises(InputError, match="image c cannot be shown: it is gone"):
        look(PICTURES, some, Wanted("c"))
    with pytest.raises(InputError, match="none of 3 images could be looked at; image a: it is"):
        look(PICTURES, ByHand({}), Wanted())


def test_numbers_that_are_none_are_no_responses() -> None:
    spoilt = ByHand({**MAPS, "a": [[[float("nan"), 0]], [[0, 0]], [[0, 0]]]})
    looked = look(PICTURES, spoilt, Wanted("b"))
    assert looked.unseen == {"a": "its map has numbers that are not finite: see spp verify"}


def test_a_place_that_cannot_be_reached_ends_it() -> None:
    class Far(ByHand):
        def feature_map(self, picture: Picture) -> np.ndarray:
            raise UnreachableError("s3://bucket does not answer")

    with pytest.raises(UnreachableError, match="does not answer"):
        look(PICTURES, Far(), Wanted())


def test_a_filter_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"no filter 3: .* 3 channels, numbered from 0 to 2"):
        look(PICTURES, ByHand(), Wanted(filters=[3]))


@pytest.fixture
def held(tmp_path: Path) -> store.Store:
    """Images a, b and c in two shards; d could not be read."""
    small_store.make(place(tmp_path / "store"))
    return store.open(tmp_path / "store")


@pytest.mark.parametrize(
    ("count", "ids"), [(1, ["b"]), (2, ["a", "c"]), (3, ["a", "b", "c"]), (9, ["a", "b", "c"])]
)
def test_images_are_taken_evenly(held: store.Store, count: int, ids: list[str]) -> None:
    assert evenly(held, count) == ids


def test_the_image_that_is_shown_is_among_them(held: store.Store) -> None:
    assert list(looked_at(held, Wanted("a", among=1))) == ["a", "b"]
    assert list(looked_at(held, Wanted("b", among=1))) == ["b"]
    own = looked_at(held, Wanted())["c"]
    assert (own.file, own.width, own.height) == (Path(f"{held.root}/c.jpg"), 100, 100)


@pytest.mark.parametrize(
    ("image", "says"),
    [("e", "has no image e: its images are such as b"), ("d", "image d was left out .*: torn")],
)
def test_an_image_that_is_not_there(held: store.Store, image: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        looked_at(held, Wanted(image, among=1))


def test_an_image_that_the_table_lacks(held: store.Store) -> None:
    with pytest.raises(InputError, match=r"images.parquet lacks image e: see spp verify"):
        pictures(held, ["a", "e"])


def test_where_a_cell_looks() -> None:
    # 40×20 px at a shorter side of 10: half. Of column 1 the centre is pixel 11, its middle 11.5.
    assert SIGHT.size(PICTURES["a"]) == (20, 10)
    spot = SIGHT.spot(PICTURES["a"], (1, 0))
    assert spot.centre == (11.5 * 2, 3.5 * 2)
    assert spot.receptive_field is None
    assert SIGHT.receptive_field_px is None


def test_a_receptive_field_in_pixels_of_the_original() -> None:
    zf5 = load("zf5", width=0.05, fc_units=4)
    sight = Sight(zf5.geometry, 400, None, zf5)
    picture = Picture("a", Path("a.jpg"), 400, 200)  # 800×400 px
    # Of 159 px around 20 + 16 · 10 = 180, and 20 + 16 · 2 = 52; halved, cut at the upper border.
    spot = sight.spot(picture, (10, 2))
    assert spot.receptive_field == ((180 - 79) / 2, 0, (180 + 80) / 2, (52 + 80) / 2)
    assert spot.centre == (180.5 / 2, 52.5 / 2)


def test_a_file_that_is_another_one_now(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    picture = Picture("a", file, 40, 20)
    with pytest.raises(InputError, match=r"a\.png cannot be read: No such file"):
        read_picture(picture)
    Image.new("RGB", (40, 20), "red").save(file)
    assert read_picture(picture).shape == (20, 40, 3)
    Image.new("RGB", (41, 20), "red").save(file)
    with pytest.raises(InputError, match="has 41×20 pixels, and had 40×20 when"):
        read_picture(picture)
    file.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.png: not an image in"):
        read_picture(picture)
