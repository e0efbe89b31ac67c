"""Detection in files with a model of its own folder: what a run finds from stored features."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import dag, options, steps
from pipeline import streaming
from pipeline.detection import read_detections
from pipeline.errors import InputError, UnreachableError
from pipeline.evaluation.devkit import read_devkit
from pipeline.model import load as model_of
from pipeline.report.marks import of_class
from pipeline.store.schema import BOX_COLUMNS
from tests.s3 import BUCKET

REGRESSED = ("--set", "regression.enabled=true")
FC7 = ("--set", "features.layer=fc7")
TUNED = (
    *("--set", "features.layer=ftfc7", "--set", "finetune.held_out=0.4"),
    *("--set", "finetune.stretches=[[8, 0.01]]", "--set", "finetune.batch_size=8"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streaming") / "runs"


@pytest.fixture
def photos(tiny: Path, spp: Callable[..., Any], runs: Path) -> dict[str, Path]:
    """The test images of the recipe, by their ids."""
    recipe = options.load(str(tiny), None, None)
    planned = dag.plan(steps.jobs_of(recipe), recipe, runs)
    assert spp("windows", tiny, "--serial", "--runs", runs).code == 0
    table = pq.read_table(planned["dataset_test"].folder / "images.parquet")
    return {row["image_id"]: Path(row["file"]) for row in table.to_pylist()}


@pytest.mark.parametrize(
    "changes", [(), REGRESSED, (*FC7, *REGRESSED), (*TUNED, *REGRESSED)], ids=len
)
def test_files_give_what_a_run_finds_from_its_store(
    tiny: Path,
    spp: Callable[..., Any],
    runs: Path,
    photos: dict[str, Path],
    tmp_path: Path,
    changes: tuple[str, ...],
) -> None:
    given = (tiny, "--serial", "--runs", runs, *changes)
    packed = spp("model", *given, "--out", tmp_path / "model")
    assert packed.code == 0, packed.err
    assert "10 classes" in packed.out
    assert spp("detect", *given).code == 0
    recipe = options.load(str(tiny), [each for each in changes if each != "--set"], None)
    planned = dag.plan(steps.jobs_of(recipe), recipe, runs)
    stored = read_detections(planned["detect"].folder / "detections")

    # Carried away: nothing of the run is needed.
    moved = shutil.move(tmp_path / "model", tmp_path / "elsewhere")
    out = tmp_path / "found.parquet"
    files = ("detect", *photos.values(), "--model", moved, "--runs", tmp_path / "runs")
    said = spp(*files, "--out", out)
    assert said.code == 0, said.err
    found = pq.read_table(out)
    names = {path.stem: image_id for image_id, path in photos.items()}
    images = [names[name] for name in found["image_id"].to_pylist()]
    order = [("image_id", "ascending"), ("class", "ascending"), ("score", "descending")]
    found = found.set_column(0, "image_id", [images]).sort_by(order)
    stored = stored.sort_by(order)
    for name in ("image_id", "class"):
        assert found[name].to_pylist() == stored[name].to_pylist()
    for name in ("score", *BOX_COLUMNS):
        assert found[name].to_pylist() == stored[name].to_pylist()
    above = int((stored["score"].to_numpy() > 0).sum())
    assert above < len(stored)  # or the test would prove little
    assert f"{len(stored):,} detections in 8 images, {above:,} above 0" in said.out


@pytest.fixture
def model(tiny: Path, spp: Callable[..., Any], runs: Path, tmp_path: Path) -> Path:
    assert spp("model", tiny, "--serial", "--runs", runs, "--out", tmp_path / "model").code == 0
    return tmp_path / "model"


@pytest.fixture
def album(photos: dict[str, Path], tmp_path: Path) -> Path:
    """Two images in folders, one that is none, and a file of another kind."""
    album = tmp_path / "album"
    first, second = list(photos.values())[:2]
    for source, name in ((first, "one.jpg"), (second, "below/two.JPG")):
        (album / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, album / name)
    (album / "below" / "three.png").write_bytes(b"no image")
    (album / "notes.txt").write_text("nothing")
    return album


def test_a_folder_with_an_image_that_is_none(
    spp: Callable[..., Any], model: Path, album: Path, tmp_path: Path
) -> None:
    command = ("detect", album, "--model", model, "--runs", tmp_path / "r")
    said = spp(*command, "--out", tmp_path / "a.json", "--pictures", tmp_path / "drawn")
    assert said.code == 3  # with what could not be read
    assert "quarantined: image below/three: not an image" in said.err
    assert "; 1 could not be read" in said.out
    coco = json.loads((tmp_path / "a.json").read_text())
    assert [Path(each["file_name"]).name for each in coco["images"]] == ["two.JPG", "one.jpg"]
    assert [each["name"] for each in coco["categories"]][:2] == ["zero", "one"]
    detected = pq.read_table(next((tmp_path / "r").rglob("*.parquet")))
    assert len(coco["annotations"]) == len(detected)
    first, row = coco["annotations"][0], detected.to_pylist()[0]
    assert first["bbox"] == [
        *(row["x_min"], row["y_min"]),
        *(row["x_max"] - row["x_min"], row["y_max"] - row["y_min"]),
    ]
    assert first["score"] == row["score"]
    assert coco["categories"][first["category_id"] - 1]["name"] == row["class"]
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == ["below%2Ftwo.png", "one.png"]
    with Image.open(tmp_path / "drawn/one.png") as picture:
        assert picture.width >= 320
    # The best is on top, in the colour of its class.
    assert spp(*command, "--pictures", tmp_path / "all", "--score=-9").code == 3
    own = detected.filter(pc.field("image_id") == "one").to_pylist()
    best = max(own, key=lambda row: row["score"])["class"]
    colour = of_class([each["name"] for each in coco["categories"]].index(best)).line
    with Image.open(tmp_path / "all/one.png") as picture:
        assert (np.asarray(picture) == colour).all(axis=2).any()

    # Only what is left is done, and why an image was none is still known. VOC's files are written
    # from what was found.
    (file,) = (tmp_path / "r").rglob("*.parquet")
    before = file.stat().st_mtime_ns
    said = spp(*command, "--out", tmp_path / "voc")
    assert said.code == 3
    assert "quarantined: image below/three: not an image" in said.err
    assert file.stat().st_mtime_ns == before
    assert len(list((tmp_path / "voc").iterdir())) == 10
    assert len(read_devkit(tmp_path / "voc")) == len(detected)
    # An image that was written anew is looked at again.
    shutil.copy(album / "one.jpg", album / "below" / "three.png")
    assert spp(*command).code == 0
    assert len(list((tmp_path / "r").rglob("*.parquet"))) == 2


def test_words_that_name_images(album: Path, s3_server: Any) -> None:
    del s3_server

    def names(*words: object) -> list[str]:
        return [each.image_id for each in streaming.list_images([str(word) for word in words])]

    assert names(album) == ["below/three", "below/two", "one"]
    assert names(f"{album}/*.jpg") == ["one"]
    assert names(f"{album}/*/*") == ["below/three", "below/two"]
    assert names(album, album / "one.jpg") == ["below/three", "below/two", "one"]
    for name in ("one.png", "one.jpg.png"):
        shutil.copy(album / "one.jpg", album / name)
    assert names(album)[2:] == ["one.jpg", "one.jpg.png", "one.png"]
    import fsspec

    files = fsspec.filesystem("s3")
    prefix = f"s3://{BUCKET}/album"
    files.put(str(album / "one.jpg"), f"{prefix}/one.jpg")
    files.put(str(album / "below/two.JPG"), f"{prefix}/below/two.JPG")
    found = {each.image_id: each.place for each in streaming.list_images([f"{prefix}/"])}
    assert found == {"below/two": f"{prefix}/below/two.JPG", "one": f"{prefix}/one.jpg"}
    assert streaming.read(found["one"]) == (album / "one.jpg").read_bytes()
    states = {each.state for each in streaming.list_images([f"{prefix}/"])}
    assert len(states) == 2
    files.put(str(album / "below/two.JPG"), f"{prefix}/one.jpg")
    assert {each.state for each in streaming.list_images([f"{prefix}/"])} != states
    with pytest.raises(InputError, match=r"would both be called one.jpg"):
        streaming.list_images([str(album / "one.jpg"), f"{prefix}/one.jpg"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere names no image: give a file, a folder with .bmp"),
        (["empty"], "empty names no image"),
        (["album/*.gif"], "names no image"),
        (["ftp2://x/y"], "ftp2://x/y' cannot be listed"),
    ],
)
def test_words_that_name_none(
    spp: Callable[..., Any],
    model: Path,
    album: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(album.parent)
    (album.parent / "empty").mkdir()
    answer = spp("detect", *words, "--model", model)
    assert answer.code == 1
    assert said in answer.err


def test_what_cannot_be_read_here_is_no_bad_image(
    spp: Callable[..., Any], model: Path, album: Path, tmp_path: Path
) -> None:
    """It may be there for others, or tomorrow: nothing is written down, and the others stay."""
    (album / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    command = ("detect", album, "--model", model, "--runs", tmp_path / "r")
    said = spp(*command)
    assert said.code == 3
    assert "image gone: " in said.err
    assert "leads to no file of its folder" in said.err
    listed = streaming.list_images([str(album / "one.jpg")])
    (album / "one.jpg").unlink()
    digest = model_of(model).digest
    spec = streaming.ChunkSpec(model, digest, tmp_path / "c.parquet", tuple(listed))
    with pytest.raises(UnreachableError, match=r"image one: .*one\.jpg cannot be read on "):
        streaming.answer_chunk(spec)
    assert not (tmp_path / "c.parquet").exists()
    changed = replace(spec, digest="another")
    with pytest.raises(InputError, match="was replaced meanwhile"):
        streaming.answer_chunk(changed)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("a.csv", "a.csv: detections are written to FILE.parquet, FILE.json"),
        ("taken", "taken is no folder and cannot be made one (File exists)"),
        ("taken/x.parquet", "taken is no folder and cannot be made one (File exists)"),
        ("album.parquet", "album.parquet is a folder"),
        ("voc", "cannot carry white space in a name"),
    ],
)
def test_where_nothing_can_be_written_nothing_is_begun(
    spp: Callable[..., Any], model: Path, album: Path, tmp_path: Path, out: str, said: str
) -> None:
    (tmp_path / "taken").touch()
    (tmp_path / "album.parquet").mkdir()
    shutil.copy(album / "one.jpg", album / "number one.jpg")
    answer = spp(
        *("detect", album, "--model", model, "--runs", tmp_path / "r", "--out", tmp_path / out)
    )
    assert (answer.code, said in answer.err) == (1, True)
    assert not (tmp_path / "r").exists()
    answer = spp("model", "digits", "--out", tmp_path / "taken")
    assert (answer.code, "taken is a file" in answer.err) == (1, True)


@pytest.mark.parametrize(
    "words", [("--class", "one"), ("--set", "seed=1"), ("--shelf", "x"), ("--stores", "x")]
)
def test_what_has_no_part_in_a_model_is_refused(
    spp: Callable[..., Any], tmp_path: Path, words: tuple[str, str]
) -> None:
    answer = spp("detect", "x.jpg", "--model", tmp_path, *words)
    assert (answer.code, "have no part in --model" in answer.err) == (2, True)


def test_a_folder_that_holds_no_model(
    spp: Callable[..., Any], model: Path, album: Path, tmp_path: Path
) -> None:
    held = (model / "classifiers.safetensors").read_bytes()
    (model / "classifiers.safetensors").write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    answer = spp("detect", album, "--model", model)
    assert (answer.code, "is absent or not the file that" in answer.err) == (1, True)
    known = json.loads((model / "model.json").read_text())
    for wrong in (
        {"detection": {"nms_iou": 7}},
        {"windows": []},
        {"network": {"name": ["zf5"]}},
        {"precision": "float8"},
        {"format": 2},
        {"files": {**known["files"], "../x": "0"}},
    ):
        (model / "model.json").write_text(json.dumps(known | wrong))
        answer = spp("detect", album, "--model", model)
        assert answer.code == 1, wrong
        assert "model.json" in answer.err, wrong
    answer = spp("detect", album, "--model", tmp_path)
    assert (answer.code, "holds no model" in answer.err) == (1, True)
    answer = spp("detect", album, "digits")
    assert (answer.code, "several images go with --model" in answer.err) == (2, True)


def test_windows_of_a_file_give_way_to_selective_search(
    spp: Callable[..., Any], model: Path, album: Path, tmp_path: Path
) -> None:
    known = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(known | {"windows_from_file": True}))
    answer = spp("detect", album / "one.jpg", "--model", model, "--runs", tmp_path / "r")
    assert answer.code == 0, answer.err
    assert "selective search makes those of new images" in answer.err
