"""Stores by the names that people give them, and what is then known about them."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from jobs.asked import Asked, ask
from pipeline.errors import InputError, RecipeError
from pipeline.networks import digest
from pipeline.search import region_vectors
from pipeline.store.place import place
from pipeline.store.schema import box_array, vectors
from pipeline.teaching import Shelf
from pipeline.teaching.detecting import detect_taught, read_kept
from pipeline.teaching.examples import from_sql
from pipeline.teaching.versioning import save


@pytest.fixture
def of_recipe(tiny_run: Path) -> Any:
    def named(split: str, **options: Any) -> Asked:
        return ask(f"{tiny_run.parent / 'tiny.toml'}:{split}", tiny_run, **options)

    return named


def test_a_recipe_and_its_image_set_name_a_store(tiny_run: Path, of_recipe: Any) -> None:
    train, test = of_recipe("train"), of_recipe("test")
    assert (train.store.totals.images, test.store.totals.images) == (12, 8)
    assert train.shelf == test.shelf == place(tiny_run / "tiny" / "classifiers")
    assert train.recipe.name == "tiny"


def test_the_network_is_the_one_that_made_the_store(of_recipe: Any) -> None:
    held = of_recipe("test")
    network = held.network()
    assert digest(network) == held.store.made_from["network"]
    table = next(held.store.scan())
    image_id, box = table["image_id"][3].as_py(), box_array(table)[3:4]
    file = held.store.image(image_id)["file"]  # by its file: as if it were no image of the store
    found = region_vectors(held.store, file, box, lambda: network)
    assert np.array_equal(found.vectors, vectors(table)[3:4])


def test_a_folder_of_a_recipe_s_name_is_a_store_all_the_same(
    tiny_run: Path, of_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in ("digits", "digits:tset"):
        with pytest.raises(InputError, match="digits is a recipe, and has digits:train and"):
            ask(wrong, tiny_run)
    shutil.copytree(str(of_recipe("test").store.root), tmp_path / "digits")
    assert len(ask("digits", tiny_run).store) == len(of_recipe("test").store)


def test_the_run_s_classifiers_and_detections_are_known(of_recipe: Any) -> None:
    (trained,) = of_recipe("train").classifiers()
    assert trained.classes[:2] == ("zero", "one")
    assert len(of_recipe("train").detections()) == 0  # they are of the test images
    found = of_recipe("test").detections()
    assert len(found) > 100
    assert set(found["image_id"].to_pylist()) <= set(
        of_recipe("test").store.images["image_id"].to_pylist()
    )


def test_what_people_taught_is_known_where_it_fits(of_recipe: Any, tmp_path: Path) -> None:
    held = replace(of_recipe("test"), shelf=place(tmp_path))
    (trained,) = held.classifiers()
    mine = replace(
        trained, classes=("mine",), weights=trained.weights[:1], intercepts=trained.intercepts[:1]
    )
    other = replace(mine, classes=("other",), made_from={"network": "another"})
    for each in (mine, other):
        save(Shelf(tmp_path), each.classes[0], each, {})
        Shelf(tmp_path).begin(each.classes[0])
    assert [each.classes[0] for each in held.classifiers()] == ["zero", "mine"]
    before = len(held.detections())
    (found,) = detect_taught(Shelf(tmp_path), held.store, ["mine"], held.detection_settings)
    assert len(held.detections()) == before + len(found.table) > before
    assert (
        read_kept(found.version, found.kept.rpartition("versions/")[2].partition("/")[2])
        == found.table
    )


def test_what_was_taught_stands_in_for_the_run_s_class_of_that_name(
    of_recipe: Any, tmp_path: Path
) -> None:
    held = replace(of_recipe("test"), shelf=place(tmp_path))
    (trained,), before = held.classifiers(), held.detections()
    zero = replace(
        trained, classes=("zero",), weights=trained.weights[:1], intercepts=trained.intercepts[:1]
    )
    save(Shelf(tmp_path), "zero", zero, {})
    Shelf(tmp_path).begin("zero")
    assert held.detections().equals(before)  # until something is detected with it
    (found,) = detect_taught(Shelf(tmp_path), held.store, ["zero"], held.detection_settings)
    after = held.detections()
    of_zero = pc.field("class") == "zero"
    assert after.filter(of_zero).equals(found.table)
    assert len(before.filter(of_zero)) > 0
    assert after.filter(~of_zero).equals(before.filter(~of_zero))


def test_a_folder_names_itself_and_so_does_the_folder_of_its_job(of_recipe: Any) -> None:
    root = Path(str(of_recipe("test").store.root))
    for named in (root, root.parent):
        held = ask(str(named), Path("nowhere"))
        assert len(held.store) == len(of_recipe("test").store)
        assert held.shelf == place(root / "classifiers")
        assert (held.network(), held.classifiers(), len(held.detections())) == (None, [], 0)


def test_a_folder_may_be_called_like_a_recipe_s_store(of_recipe: Any, tmp_path: Path) -> None:
    os.symlink(str(of_recipe("test").store.root), tmp_path / "odd:train")
    assert len(ask(str(tmp_path / "odd:train"), Path("nowhere")).store) > 0


def test_what_is_no_store_is_refused(tiny_run: Path, of_recipe: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no store nothere: give a folder, a URI, or REC"):
        ask("nothere", tiny_run)
    with pytest.raises(InputError, match="is not a store"):
        ask(str(tmp_path), tiny_run)
    with pytest.raises(RecipeError, match="no recipe nothere"):
        ask("nothere:train", tiny_run)
    with pytest.raises(InputError, match=r"tiny has no finished features of its test images in"):
        of_recipe("test", overrides=["features.scales=[128]"])


def test_a_condition_may_name_what_was_trained_and_found(of_recipe: Any) -> None:
    held = of_recipe("test")
    for condition in (
        "score('zero', vector) > -1000 AND source <> 'ground_truth'",
        "image_id IN (SELECT image_id FROM detections)",
    ):
        assert len(from_sql(held.store, condition, *held.known_to(condition))) > 100
    known, found = held.known_to("SELECT 1")
    assert (known, found) == ([], None)
