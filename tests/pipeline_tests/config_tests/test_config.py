"""The recipe: what it takes, what it refuses, and how it says so."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import config
from pipeline.errors import RecipeError

MINIMAL = 'name = "mine"\n[dataset]\nroot = "VOC2007"\n'


def write(folder, text=MINIMAL, name="recipe.toml"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(folder, text=MINIMAL, *overrides, **options):
    return config.load(write(folder, text), overrides, **options)


def test_defaults_are_the_papers(tmp_path):
    recipe = load(tmp_path)
    assert recipe.features.scales == (688,)
    assert recipe.features.levels == (6, 3, 2, 1)
    assert recipe.features.layer == "pool5"
    assert recipe.features.scale_rule == "area"
    assert (recipe.svm.C, recipe.svm.positive_weight, recipe.svm.bias) == (0.001, 2, 10)
    assert (recipe.svm.negative_iou, recipe.svm.duplicate_iou) == (0.3, 0.7)
    assert (recipe.mining.hard_score, recipe.mining.easy_score) == (-1.0001, -1.2)
    assert recipe.mining.rounds == 1
    assert (recipe.detection.min_score, recipe.detection.per_class) == (-1.5, 100)
    assert recipe.detection.nms_iou == 0.3
    assert (recipe.evaluation.method, recipe.evaluation.iou) == ("voc07", 0.5)
    assert recipe.windows.max_windows == 2000
    assert recipe.windows.min_side_px == 20
    assert recipe.network.name == "zf5"
    assert recipe.network.weights == "random"


def test_every_field_can_be_set(tmp_path):
    text = """
        name = "all"
        seed = 7
        [dataset]
        kind = "voc"
        root = "data/VOC2007"
        classes = ["cat", "dog"]
        [network]
        name = "squeezenet1_1"
        weights = "w.safetensors"
        [features]
        scales = [480, 576]
        vector_layout = "list"
        [mining]
        rounds = "converged"
    """
    recipe = load(tmp_path, text)
    assert recipe.dataset.classes == ("cat", "dog")
    assert recipe.network.weights == Path("w.safetensors").absolute()
    assert recipe.features.scales == (480, 576)
    assert recipe.mining.rounds == "converged"
    assert recipe.seed == 7


def test_the_recipes_of_the_house_can_be_read():
    recipes = sorted((Path(__file__).parents[3] / "jobs" / "recipes").glob("*.toml"))
    assert recipes
    for path in recipes:
        assert config.load(path).name == path.stem


def test_a_recipe_cannot_be_changed(tmp_path):
    with pytest.raises(ValidationError, match="frozen"):
        load(tmp_path).features.layer = "fc7"


def test_order_of_the_70_percent_rule():
    assert config.Mining().kept_first == "score"
    assert config.Mining(rounds="converged").kept_first == "seeded"
    assert config.Mining(rounds="converged", order="score").kept_first == "score"
    assert config.Mining(order="seeded").kept_first == "seeded"


# --- extends, profile, overrides, data -----------------------------------------------------------


def test_extends_reads_the_other_recipe_first(tmp_path):
    write(tmp_path, MINIMAL + "[svm]\nC = 0.5\nbias = 3.0\n", "deep/base.toml")
    text = 'extends = "deep/base.toml"\nname = "child"\n[svm]\nbias = 4.0\n'
    recipe = load(tmp_path, text)
    assert recipe.name == "child"
    assert (recipe.svm.C, recipe.svm.bias) == (0.5, 4.0)
    assert recipe.dataset.root == Path("VOC2007").absolute()


def test_extends_in_a_row(tmp_path):
    write(tmp_path, "seed = 1\n" + MINIMAL, "a.toml")
    write(tmp_path, 'extends = "../a.toml"\nseed = 2\n', "deep/b.toml")
    assert load(tmp_path, 'extends = "deep/b.toml"\n').seed == 2


@pytest.mark.parametrize(
    "files",
    [
        {"recipe.toml": "recipe.toml"},
        {"recipe.toml": "other.toml", "other.toml": "recipe.toml"},
        {"recipe.toml": "deep/other.toml", "deep/other.toml": "../recipe.toml"},
        {"recipe.toml": "./deep/../recipe.toml", "deep/x": "-"},
    ],
)
def test_a_recipe_that_extends_itself(tmp_path, files):
    for name, base in files.items():
        write(tmp_path, f'extends = "{base}"\n', name)
    with pytest.raises(RecipeError, match=r"recipe.toml extends itself, through recipe\.toml"):
        config.load(tmp_path / "recipe.toml")


def test_extends_of_another_type(tmp_path):
    with pytest.raises(RecipeError, match=r"extends is 3; give the path of a recipe"):
        load(tmp_path, "extends = 3\n" + MINIMAL)


def test_the_released_profile_speaks_where_the_recipe_is_silent(tmp_path):
    released = 'profile = "released"\n' + MINIMAL
    recipe = load(tmp_path, released)
    assert recipe.features.scales == (480, 576, 688, 874, 1200)
    assert recipe.features.scale_rule == "released"
    recipe = load(tmp_path, released + "[features]\nscales = [688]\n")
    assert recipe.features.scales == (688,)
    assert recipe.features.scale_rule == "released"
    assert load(tmp_path, MINIMAL, "profile=released").features.scale_rule == "released"


@pytest.mark.parametrize("profile", ['"mine"', "3", "[1]"])
def test_no_such_profile(tmp_path, profile):
    with pytest.raises(RecipeError, match=r"profile: Input should be 'paper' or 'released'"):
        load(tmp_path, f"profile = {profile}\n" + MINIMAL)


def test_overrides_are_toml(tmp_path):
    recipe = load(
        tmp_path,
        MINIMAL,
        "mining.rounds=0",
        "features.scales=[480, 576]",
        "features.layer=fc7",
        " windows.min_side_px = 13 ",
        'name="a.b"',
        "svm.difficult_positives=false",
        "windows.method=file",
        "windows.path=some/file.parquet",
        "mining.rounds=converged",
    )
    assert recipe.mining.rounds == "converged"  # the last one holds
    assert recipe.features.scales == (480, 576)
    assert recipe.features.layer == "fc7"
    assert recipe.windows.min_side_px == 13
    assert recipe.name == "a.b"
    assert recipe.svm.difficult_positives is False
    assert recipe.windows.path == Path("some/file.parquet").absolute()


@pytest.mark.parametrize("text", ["mining.rounds", "=3", "", " =3"])
def test_overrides_that_set_nothing(tmp_path, text):
    with pytest.raises(RecipeError, match=r"does not set anything; write section\.field=value"):
        load(tmp_path, MINIMAL, text)


def test_relative_paths_start_from_the_data_folder(tmp_path):
    text = MINIMAL + '[network]\nweights = "w/a.pth"\n[windows]\nmethod = "file"\npath = "/abs/w"\n'
    recipe = load(tmp_path, text, data=Path("/data"))
    assert recipe.dataset.root == Path("/data/VOC2007")
    assert recipe.network.weights == Path("/data/w/a.pth")
    assert recipe.windows.path == Path("/abs/w")
    assert load(tmp_path, data=Path("/data")).network.weights == "random"
    assert load(tmp_path).dataset.root == Path("VOC2007").absolute()


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[mining]\nruonds = 1", r"mining\.ruonds is not a key; known here: rounds, hard_score, "),
        (
            "[minning]\nrounds = 1",
            r"minning is not a key; known here: name, profile, seed, task, data",
        ),
        ("[svm]\nC = 'much'", r"svm\.C: Input should be a valid number"),
        ("[svm]\nC = -1.0", r"svm\.C: Input should be greater than 0"),
        ("[svm]\nC = inf", r"svm\.C: Input should be a finite number"),
        ("[detection]\nmin_score = nan", r"detection\.min_score: Input should be a finite number"),
        ("[mining]\nrounds = -1", r"mining\.rounds: -1 rounds; give 0 or more, or converged"),
        ("[mining]\nrounds = 'convergd'", r"mining\.rounds.*Input should be 'converged'"),
        ("[mining]\neasy_score = -1.0", r"mining: easy_score -1.0 is above hard_score -1.0001"),
        ("[features]\nscales = []", r"features\.scales: give one or more different numbers"),
        ("[features]\nscales = [480, 480]", r"features\.scales: give one or more different"),
        ("[features]\nlevels = [3, 0]", r"features\.levels: .* each at least 1"),
        (
            "[features]\nlayer = 'fc8'",
            r"features\.layer: Input should be 'pool5', 'fc6', 'fc7', 'ftfc6' or 'ftfc7'",
        ),
        ("[features]\nscales = '480'", r"features\.scales: Input should be a valid tuple"),
        ("[windows]\nmethod = 'file'", r"windows: windows\.path belongs to .* is needed there"),
        ("[windows]\npath = 'x'", r"windows: windows\.path belongs to"),
        ("[evaluation]\niou = 0.0", r"evaluation\.iou: Input should be greater than 0"),
        ("svm = 3", r"svm: Input should be a valid dictionary"),
    ],
)
def test_values_that_cannot_be(tmp_path, text, says):
    head = 'name = "mine"\ndataset.root = "x"\n'
    with pytest.raises(RecipeError, match=rf"recipe\.toml: {says}"):
        load(tmp_path, head + text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"name: Field required; dataset: Field required"),
        ('name = "a"\n[dataset]\n', r"dataset: dataset\.root is missing: give the folder that"),
        ('name = "a/b"\ndataset.kind = "digits"', r"name: String should match pattern"),
        (
            'name = "a"\ndataset = {kind = "imagenet", root = "x"}',
            r"dataset\.kind: Input should be",
        ),
        ('name = "a"\ndataset = {root = "x", classes = []}', r"classes: give one or more diff"),
        ('name = "a"\ndataset = {root = "x", classes = ["b", "b"]}', r"classes: give one or more"),
    ],
)
def test_what_must_be_there(tmp_path, text, says):
    with pytest.raises(RecipeError, match=says):
        load(tmp_path, text)


def test_every_fault_is_named_at_once(tmp_path):
    with pytest.raises(
        RecipeError, match=r"svm\.C: .*; svm\.Bias is not a key; .*; mining\.rounds"
    ):
        load(tmp_path, MINIMAL + "[svm]\nC = 0.0\nBias = 1\n[mining]\nrounds = -1")


def test_overrides_are_checked_too(tmp_path):
    with pytest.raises(RecipeError, match=r"svm\.c is not a key"):
        load(tmp_path, MINIMAL, "svm.c=1")
    with pytest.raises(RecipeError, match="svm: Input should be a valid dictionary"):
        load(tmp_path, MINIMAL, "svm=1")


def test_files_that_are_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe .*nowhere\.toml; give the path"):
        config.load(tmp_path / "nowhere.toml")
    with pytest.raises(RecipeError, match="it is no file, but a folder"):
        config.load(tmp_path)
    with pytest.raises(RecipeError, match=r"recipe\.toml is not TOML: "):
        load(tmp_path, "name = ")
    (tmp_path / "recipe.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(RecipeError, match="cannot be read as a text"):
        config.load(tmp_path / "recipe.toml")
    with pytest.raises(
        RecipeError, match=r"extends 'base\.toml', which is neither a file beside it nor"
    ):
        load(tmp_path, 'extends = "base.toml"')
    with pytest.raises(RecipeError, match="cannot be read: Not a directory"):
        config.load(tmp_path / "recipe.toml" / "deep")


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b"])
def test_a_name_that_leads_out_of_the_run_directory(tmp_path, name):
    with pytest.raises(RecipeError, match="name"):
        load(tmp_path, MINIMAL.replace("mine", name))


def test_which_networks_can_be_trained_from_nothing(tmp_path):
    own = '[network]\nname = "resnet18"\nweights = "pretrain"\n'
    assert load(tmp_path, MINIMAL + own).network.weights == "pretrain"
    with pytest.raises(RecipeError, match="trains zf5 on digits, and not resnet18"):
        load(tmp_path, 'name = "a"\ndataset.kind = "digits"\n' + own)
    with pytest.raises(RecipeError, match="what a folder of weights says: name the folder"):
        load(tmp_path, MINIMAL + own.replace("resnet18", "transformers"))


def test_crowds_of_coco_are_no_positives_where_nothing_is_said(tmp_path):
    coco = MINIMAL + 'kind = "coco"\n'
    assert not load(tmp_path, coco).svm.difficult_positives
    assert load(tmp_path, coco, "svm.difficult_positives=true").svm.difficult_positives
    assert load(tmp_path, MINIMAL).svm.difficult_positives


def test_a_front_has_no_fc_layers(tmp_path):
    with pytest.raises(RecipeError, match=r'ends the network at conv4, .*layer is "fc6"'):
        load(tmp_path, MINIMAL, "network.upto=conv4", "features.layer=fc6")
    assert load(tmp_path, MINIMAL, "network.upto=conv4").network.upto == "conv4"


def test_a_rank_without_its_layer_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"fc6_rank has no effect on features.layer = 'pool5'"):
        load(tmp_path, MINIMAL, "network.fc6_rank=8")
    with pytest.raises(RecipeError, match=r"fc7_rank has no effect on features.layer = 'fc6'"):
        load(tmp_path, MINIMAL, "network.fc7_rank=8", "features.layer=fc6")
    assert load(tmp_path, MINIMAL, "network.fc6_rank=8", "features.layer=fc6").network.fc6_rank == 8


@pytest.mark.parametrize("sides", [(), (224, 224), (0,)])
def test_sizes_of_pretraining_are_different_and_positive(sides):
    with pytest.raises(ValidationError, match="one or more different sizes"):
        config.Pretrain(sides_px=sides)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"workers": 9, "batch_size": 8}, "workers = 9 share batches of .* = 8, .* at most 8 work"),
        ({"workers": 2, "gpus": 2}, r"gpus = 2 with workers = 2: .* GPU of its own \(1\), or on"),
        ({"workers": 2, "gpus": 0.5}, r"gpus = 0\.5 with workers = 2: each worker trains on one"),
        ({"workers": 0}, "greater than 0"),
    ],
)
def test_workers_that_have_no_work_or_share_a_device(wanted, says):
    with pytest.raises(ValidationError, match=says):
        config.Pretrain(**wanted)


def test_workers_share_batches_of_image_files_alone(tmp_path):
    own = '[network]\nweights = "pretrain"\n[pretrain]\nworkers = 2\n'
    assert load(tmp_path, MINIMAL + own).pretrain.workers == 2
    digits = 'name = "digits"\n[dataset]\nkind = "digits"\n'
    with pytest.raises(RecipeError, match=r"pretrain\.workers = 2 is for image files, and digits"):
        load(tmp_path, digits + own)


FIELDS = [
    f"{section}.{field}"
    for section, told in config.Recipe.model_fields.items()
    if hasattr(told.annotation, "model_fields")
    for field in told.annotation.model_fields
]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9),
    st.lists(st.one_of(st.integers(-2, 300), st.floats(), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3))
def test_any_value_is_refused_by_name_or_makes_a_recipe_that_can_be_written_down(
    changes: Any,
) -> None:
    content: dict[str, Any] = {"name": "mine", "dataset": {"root": "VOC2007"}}
    for name, value in changes.items():
        section, field = name.split(".")
        content.setdefault(section, {})[field] = value
    recipe, told = None, ""
    try:
        recipe = config.parse(content)
    except RecipeError as error:
        told = str(error)
    if recipe is None:
        # Of what does not go together only the section is named.
        assert any(name in told or f"{name.split('.')[0]}: " in told for name in changes), told
        return
    again = config.Recipe.model_validate(json.loads(recipe.model_dump_json()))
    assert again == recipe
    assert config.digest(again) == config.digest(recipe)


def test_every_field_says_what_it_is():
    def silent(section, where):
        for name, field in section.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, config.Section):
                yield from silent(kind, f"{where}{name}.")
            elif not field.description:
                yield where + name

    assert [*silent(config.Recipe, "")] == []
