"""`pipeline.extract`: one image, without a store, and how results look in a notebook."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import pipeline
from pipeline import images, networks, store
from pipeline.config import Windows
from pipeline.errors import InputError, RecipeError
from pipeline.evaluation import evaluate_detections
from pipeline.extraction import NetworkSpec
from pipeline.report import notebook


@pytest.fixture
def network(spec):
    return spec.network.load()


@pytest.mark.parametrize("layer", ["pool5", "fc7"])
def test_it_is_what_a_store_has_to_the_bit(
    spec, extract, table_of, change, dataset, boxes, network, layer
):
    settings = change(spec, layer=layer)
    table = table_of(extract(settings, ("a",))[0])
    given = np.array(boxes["a"], np.float32)
    torch.set_num_threads(2)  # an extractor, which has been at work in this process, has one
    threads = set()
    network.register_forward_pre_hook(lambda *_: threads.add(torch.get_num_threads()))
    how = {"scales": (96, 140, 280), "levels": (3, 2, 1), "layer": layer}
    found = pipeline.extract(dataset / "a.jpg", network, given, **how)
    assert found.vectors.tolist() == store.vectors(table).tolist()
    assert found.scales.tolist() == table["scale_px"].to_pylist()
    assert found.boxes.tolist() == given.tolist()
    pixels = images.load(dataset / "a.jpg")
    assert (found.image == pixels).all()
    again = pipeline.extract(pixels, network, given, **how)
    assert (again.vectors == found.vectors).all()
    listed = pipeline.extract(pixels, network, boxes["a"], **how)
    assert (listed.vectors == found.vectors).all()
    assert (threads, torch.get_num_threads()) == ({1}, 2)


def test_windows_are_made_where_none_are_given(dataset, network):
    searched = pipeline.extract(dataset / "a.jpg", network, seed=5, scales=(96,), levels=(2, 1))
    pixels = images.load(dataset / "a.jpg")
    assert searched.boxes.tolist() == pipeline.windows.selective_search(pixels, seed=5).tolist()
    way = Windows(method="grid")
    sliding = pipeline.extract(dataset / "a.jpg", network, way, scales=(96,), levels=(2, 1))
    assert len(sliding.boxes) == len(sliding.vectors) > 10
    assert sliding.vectors.shape[1] == network.channels * 5


def test_what_cannot_be_extracted_is_told(dataset, network):
    file = dataset / "a.jpg"
    with pytest.raises(RecipeError, match=r"scale is not a key; known here: mode, view, .*scales"):
        pipeline.extract(file, network, scale=480)
    with pytest.raises(RecipeError, match="levels"):
        pipeline.extract(file, network, levels=(0,))
    with pytest.raises(InputError, match="leaves the image"):
        pipeline.extract(file, network, np.array([[0, 0, 91, 10]], np.float32))
    for wrong in ([0, 0, 9, 9], [[0, 0, 9, 9] * 2]):
        with pytest.raises(InputError, match=r"windows are \[windows 4\]"):
            pipeline.extract(file, network, wrong)
    for pixels in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))):
        with pytest.raises(InputError, match=r"an image is uint8 \[rows cols 3\], RGB"):
            pipeline.extract(pixels, network)
    with pytest.raises(RecipeError, match=r'view "full" is of whole images'):
        pipeline.extract(file, network, [[0, 0, 9, 9]], view="full")
    with pytest.raises(images.UndecodableImage, match="pixels"):
        pipeline.extract(file, network, [[0, 0, 9, 9]], max_pixels=100)
    plain = NetworkSpec("squeezenet1_1", None, 0, None, {}).load()
    with pytest.raises(InputError, match="fc7 is a layer of networks with fc layers: take pool5"):
        pipeline.extract(file, plain, layer="fc7")


def test_results_show_themselves(spec, extract, dataset, boxes, network):
    held, _ = extract(spec)
    shown = held._repr_html_()
    assert re.findall("<td>(.*?)</td>", shown) == [
        "images", "3, and 0 quarantined", "windows", "5", "kept as",
        f"windows, 1 shards of {held.totals.bytes:,} bytes in all",
        "a vector", f"{held.spec.length:,} numbers, float16",
    ]  # fmt: skip
    given = np.array(boxes["a"], np.float32)
    found = pipeline.extract(dataset / "a.jpg", network, given, scales=(96,), levels=(2, 1))
    assert repr(found) == f"Extracted(90×70 pixels, 4 windows × {network.channels * 5} numbers)"
    drawn = found._repr_html_()
    assert drawn.count("<rect") == 4
    assert f'width="{notebook.SIDE_PX}"' in drawn
    many = np.repeat(given, 30, axis=0)
    crowded = pipeline.extract(dataset / "a.jpg", network, many, scales=(96,), levels=(2, 1))
    assert crowded._repr_html_().count("<rect") == notebook.WINDOWS_DRAWN
    evil = "<script>alert(1)</script>"
    truth = [{"image_id": "a", "class": evil, "box": (0, 0, 9, 9)}]
    judged = evaluate_detections([{**truth[0], "score": 1.0}], truth)
    assert "<script" not in judged._repr_html_()
    assert re.findall("<td>(.*?)</td>", judged._repr_html_())[1:5] == ["100.0", "1", "1", "0"]


def test_import_pipeline_is_enough_and_loads_nothing_by_itself():
    code = """
import sys, pipeline
print(sorted({"torch", "numpy", "pyarrow"} & sys.modules.keys()), pipeline.boxes.nms.__name__)
assert "extract" in dir(pipeline)
try:
    pipeline.nothing
except AttributeError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    first, second = said.stdout.splitlines()
    assert (first, "it has boxes, config" in second) == ("[] nms", True)
    for name in pipeline.__all__:
        assert getattr(pipeline, name) is not None
    assert networks is pipeline.networks
