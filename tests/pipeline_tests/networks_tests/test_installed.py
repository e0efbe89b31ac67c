"""Architectures that other packages bring."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipeline.errors import RecipeError
from pipeline.extraction import NetworkSpec
from pipeline.networks import code_digest, front, installed, load, recognise, require_code, save
from tests.package import Package

CODE = """
from torch import nn
from pipeline.networks import Network

class Narrow(Network):
    classifier_name = "classifier"

    def __init__(self, *, slope=0.0, classes=3):
        if not 0 <= slope < 1:
            raise ValueError(f"slope is {slope}: give one in [0, 1)")
        super().__init__("narrow", {"slope": slope, "classes": classes})
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.classifier = nn.Linear(4, classes)

    def path(self):
        return (self.features,)
"""
# Layers of kinds that we do not know: one that draws, one that saves nothing.
UNKNOWN = (
    CODE.replace(
        "class Narrow",
        """
import torch

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.rand(4, 1, 1))
        self.register_buffer("halves", torch.full((4, 1, 1), 0.5), persistent=False)

    def path(self):
        return ()

    def forward(self, maps):
        return maps * self.factor * self.halves

class Narrow""",
    )
    .replace("nn.ReLU())", "nn.ReLU(), Scaled())")
)  # fmt: skip
Install = Callable[..., Package]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    held: dict[str, Package] = {}

    def run(code: str, version: str = "1", name: str = "others", **points: str) -> Package:
        if name not in held:
            held[name] = Package(tmp_path / name, name, monkeypatch)
        held[name].install(code, version, **points)
        return held[name]

    yield run
    monkeypatch.undo()
    for each in held.values():
        each.forget()


def test_it_is_loaded_saved_and_recognised_as_ours_are(install: Install, tmp_path: Path) -> None:
    install(CODE, narrow="others:Narrow")
    network = load("narrow", seed=5, slope=0.25)
    assert (network.channels, network.geometry.stride) == (4, 2)
    save(network, file := tmp_path / "narrow.safetensors")
    assert recognise(file) == "narrow"
    again = load("narrow", file)
    assert again.options == {"slope": 0.25, "classes": 3}
    image = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)
    assert torch.equal(again(image), network(image))


def test_what_we_cannot_fill_is_as_the_architecture_leaves_it(
    install: Install, tmp_path: Path
) -> None:
    install(UNKNOWN, narrow="others:Narrow")
    before = torch.random.get_rng_state()
    networks = [load("narrow", seed=seed) for seed in (5, 5, 6)]
    assert torch.equal(torch.random.get_rng_state(), before)
    factors = [network.get_parameter("features.2.factor") for network in networks]
    assert 0 < factors[0].min() < factors[0].max() < 1
    assert torch.equal(factors[0], factors[1])
    assert not torch.equal(factors[0], factors[2])
    image = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)
    maps = networks[0](image)
    assert torch.allclose(maps, networks[0].features[:2](image) * factors[0] * 0.5)
    assert maps.any()
    save(networks[0], file := tmp_path / "narrow.safetensors")
    assert torch.equal(load("narrow", file)(image), maps)
    ended = front.until(networks[0], "features")
    save(ended, file)
    assert torch.equal(load("narrow", file)(image), ended(image))


def test_the_digest_is_of_its_file_and_its_version(install: Install) -> None:
    install(CODE, narrow="others:Narrow")
    first = code_digest("narrow")
    install(CODE, narrow="others:Narrow")
    assert code_digest("narrow") == first is not None
    found = {first}
    install(f"{CODE}\n# changed", narrow="others:Narrow")
    found.add(code_digest("narrow"))
    install(CODE, version="2", narrow="others:Narrow")
    found.add(code_digest("narrow"))
    assert len(found) == 3
    assert code_digest("zf5") is None
    assert code_digest("timm") is None


def test_other_code_than_something_was_made_with_is_refused(install: Install) -> None:
    install(CODE, narrow="others:Narrow")
    held = code_digest("narrow")
    require_code("narrow", held, "the run")
    require_code("zf5", None, "the run")
    install(CODE, version="2", narrow="others:Narrow")
    with pytest.raises(RecipeError, match=rf"the run was made with {str(held)[:12]}: install"):
        require_code("narrow", held, "the run")


def test_a_worker_of_another_version_loads_nothing(install: Install) -> None:
    install(CODE, narrow="others:Narrow")
    spec = NetworkSpec("narrow", None, code=code_digest("narrow"))
    assert spec.load().channels == 4
    install(CODE, version="2", narrow="others:Narrow")
    with pytest.raises(RecipeError, match="the plan of this run was made with"):
        spec.load()


def test_ours_are_not_replaced(install: Install) -> None:
    install(CODE, zf5="others:Narrow")
    assert load("zf5", width=0.1, fc_units=8).name == "zf5"


@pytest.mark.parametrize(
    ("code", "point", "message"),
    [
        ("import nothing_of_the_kind", "others:Narrow", "others 1 brings as others:Narrow, cannot"),
        (CODE, "others:Wide", "cannot be imported .AttributeError: .*Wide"),
        (CODE, "others:nn", "not a class made from pipeline.networks.Network"),
        ("Narrow = dict", "others:Narrow", "is <class 'dict'>, not a class made from"),
        (CODE.replace("super()", "str()"), "others:Narrow", "made with {} .AttributeError"),
        (CODE.replace("nn.ReLU", "nn.GELU"), "others:Narrow", "geometry of GELU is not known"),
        (CODE.replace("def path", "def way"), "others:Narrow", r"needs a method path\(\)"),
        (CODE.replace('"narrow"', '"zf5"'), "others:Narrow", "calls itself 'zf5': let both"),
    ],
)
def test_what_a_package_does_wrong_names_the_package(
    install: Install, code: str, point: str, message: str
) -> None:
    install(code, narrow=point)
    with pytest.raises(RecipeError, match=message):
        load("narrow")


def test_two_packages_of_one_name_are_refused(install: Install) -> None:
    install(CODE, narrow="others:Narrow")
    install(CODE, name="further", narrow="further:Narrow")
    with pytest.raises(RecipeError, match=r"brought by 2 packages, .* and .*: remove one"):
        load("narrow")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slop": 0.5}, "narrow has no option 'slop': it has slope, classes"),
        ({"slope": 2}, "others.Narrow, cannot be made with .*slope is 2: give one in"),
        ({"classes": "three"}, "others.Narrow, cannot be made with {'classes': 'three'}"),
    ],
)
def test_options_that_cannot_be(install: Install, options: dict[str, object], message: str) -> None:
    install(CODE, narrow="others:Narrow")
    with pytest.raises(RecipeError, match=message):
        load("narrow", **options)


def test_an_unknown_name_is_told_where_names_come_from(install: Install) -> None:
    install(CODE, narrow="others:Narrow")
    with pytest.raises(RecipeError, match=f"timm, narrow, or install .* {installed.GROUP}"):
        load("narow")
