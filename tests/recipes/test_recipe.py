"""Recipes: what a file may say, and what is said about a wrong one."""

from dataclasses import fields

import pytest
import yaml

from modeling_data2vec import Data2Vec2AudioConfig, Data2Vec2TextConfig
from modeling_data2vec.hub_configs import recipe_folder, recipe_names
from modeling_data2vec.trainers.media.image_transform import ImageTransform
from modeling_data2vec.trainers.modalities.image import AUGMENTATION_KEYS
from modeling_data2vec.trainers.modalities.names import config_of
from modeling_data2vec.trainers.recipes.recipe import load_recipe
from modeling_data2vec.trainers.runs.arguments import Data2VecTrainingArguments

VALID = {
    "name": "mine",
    "config": "data2vec2-vision-tiny",
    "source": "a test",
    "data": {"dataset": "mine", "num_examples": 1000, "augmentation": {"crop_scale": [0.5, 1.0]}},
    "training": {"max_steps": 500, "per_device_train_batch_size": 8, "learning_rate": 0.001},
    "num_gpus": 2,
    "global_batch": 16,
}


SPEECH = {
    "config": "data2vec2-audio-tiny",
    "data": {
        "dataset": "mine",
        "num_seconds": 7200,
        "min_seconds": 1,
        "max_seconds": 10,
        "max_batch_seconds": 12.5,
        "crop": "shortest",
    },
    "training": {"max_steps": 1000, "gradient_accumulation_steps": 4},
    "global_batch": 100,
}
TEXT = {"config": "data2vec2-text-small", "data": {"dataset": "mine", "block_length": 64, "tokenizer": "mine"}}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in (VALID | changes).items() if value is not None}))
        return path

    return write


def test_by_name_folder_and_file():
    folder = recipe_folder("data2vec2-vision-base")
    by_name = load_recipe("data2vec2-vision-base")
    assert by_name == load_recipe(folder) == load_recipe(folder / "recipe.yaml") == load_recipe(str(folder))


def test_own_recipe(write):
    recipe = load_recipe(write(config_overrides={"num_masks": 4}, epochs=8))
    assert recipe.epochs == 8.0 and recipe.unit == "images" and recipe.micro_batch == 8
    assert recipe.augmentation == {"crop_scale": (0.5, 1.0)}
    assert recipe.model_config().num_masks == 4
    assert recipe.model_config({"num_masks": 2, "image_size": 16}).grid == (8, 8)


def test_batches_in_seconds(write):
    recipe = load_recipe(write(**SPEECH, epochs=13.9))
    assert (recipe.unit, recipe.micro_batch, recipe.global_batch, recipe.data_size) == ("seconds", 12.5, 100, 7200)
    assert recipe.epochs == pytest.approx(1000 * 100 / 7200)
    assert type(recipe.model_config()) is Data2Vec2AudioConfig
    assert recipe.training_arguments()["max_batch_length"] == 12.5 * 16_000
    assert recipe.training_arguments({"max_batch_length": 5})["max_batch_length"] == 5
    assert recipe.accumulation_steps(num_gpus=1, per_device_batch=12.5) == 8
    assert recipe.accumulation_steps(num_gpus=3, per_device_batch=100 / 3 / 5) == 5, "rounding is no contradiction"
    with pytest.raises(ValueError, match="= 30 seconds do not divide the global batch of 100"):
        recipe.accumulation_steps(num_gpus=2, per_device_batch=15)


def test_batches_of_clips(write):
    data = {"dataset": "mine", "num_examples": 1000, "max_seconds": 3, "crop": "none"}
    recipe = load_recipe(write(config="data2vec2-audio-tiny", data=data, epochs=8))
    assert recipe.unit == "clips" and recipe.micro_batch == 8


def test_text(write):
    recipe = load_recipe(write(**TEXT))
    assert recipe.unit == "sequences" and type(recipe.model_config()) is Data2Vec2TextConfig
    assert recipe.data_size is None and recipe.epochs is None, "what is unknown is not invented"


def test_own_config_beside_the_recipe(write, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        (recipe_folder("data2vec2-vision-tiny") / "config.json").read_text()
    )
    assert load_recipe(write(config="model")).config == tmp_path / "model"


def test_training_arguments(write, tmp_path):
    recipe = load_recipe(write())
    arguments = recipe.training_arguments({"max_steps": 7})
    assert arguments == {"max_steps": 7, "per_device_train_batch_size": 8, "learning_rate": 0.001}
    assert recipe.training["max_steps"] == 500, "overrides must not change the recipe"


@pytest.mark.parametrize("name", recipe_names())
def test_training_arguments_are_accepted(name, tmp_path):
    arguments = load_recipe(name).training_arguments({"warmup_steps": 1})
    assert Data2VecTrainingArguments(output_dir=str(tmp_path), **arguments).warmup_steps == 1


@pytest.mark.parametrize("name", recipe_names())
def test_augmentation_is_accepted(name):
    recipe = load_recipe(name)
    assert {entry.name for entry in fields(ImageTransform)} >= AUGMENTATION_KEYS
    for modality, part in recipe.modalities.items():
        if modality != "vision":
            assert part.augmentation == {}
            continue
        config = config_of(recipe.model_config(), modality)
        ImageTransform(config.image_shape, config.num_channels, **part.augmentation)


def test_numbers_that_yaml_reads_as_text(tmp_path):
    text = yaml.safe_dump(VALID).replace("learning_rate: 0.001", "learning_rate: 1e-3")
    text = text.replace("max_steps: 500", "max_steps: 5e2")
    assert yaml.safe_load(text)["training"]["learning_rate"] == "1e-3"
    (tmp_path / "recipe.yaml").write_text(text)
    assert load_recipe(tmp_path).training == VALID["training"]
    assert load_recipe(tmp_path).model_config({"mask_noise_std": "1e-2"}).mask_noise_std == 0.01


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"global_bach": 16}, ["'global_bach'", "did you mean global_batch?", "Allowed are config"]),
        ({"training": VALID["training"] | {"learnin_rate": 1}}, ["'learnin_rate'", "learning_rate?", "weight_decay"]),
        ({"config_overrides": {"hiden_size": 1}}, ["'hiden_size'", "did you mean hidden_size", "patch_size"]),
        ({"config_overrides": {"hidden_size": 66}}, ["mine: ", "hidden_size is 66", "multiple of 4"]),
        ({"config_overrides": {"hidden_size": "wide"}}, ["mine: ", "hidden_size", "wide"]),
        ({"data": VALID["data"] | {"num_example": 1}}, ["'num_example'", "num_examples?"]),
        ({"data": VALID["data"] | {"augmentation": {"flip": 1}}}, ["'flip'", "horizontal_flip"]),
        (
            {"data": {"dataset": "mine", "block_length": 64}},
            ["'block_length'", "Allowed are augmentation, dataset, num_"],
        ),
        (SPEECH | {"data": SPEECH["data"] | {"augmentation": {}}}, ["'augmentation'", "crop", "max_batch_seconds"]),
        (SPEECH | {"data": SPEECH["data"] | {"crop": "longest"}}, ["crop is 'longest'", "shortest, none"]),
        (SPEECH | {"data": SPEECH["data"] | {"min_seconds": 11}}, ["min_seconds is 11", "max_seconds 10", "larger"]),
        (SPEECH | {"data": SPEECH["data"] | {"max_seconds": 20}}, ["max_seconds is 20", "max_batch_seconds 12.5"]),
        (SPEECH | {"data": SPEECH["data"] | {"num_examples": 9}}, ["in seconds: give num_seconds", "num_examples"]),
        (
            SPEECH | {"data": {"dataset": "mine", "num_seconds": 9}, "training": VALID["training"], "global_batch": 16},
            ["in clips: give num_examples instead of num_seconds"],
        ),
        (SPEECH | {"training": VALID["training"]}, ["max_batch_seconds", "per_device_train_batch_size", "leave one"]),
        (
            SPEECH | {"training": SPEECH["training"] | {"max_batch_length": 9}},
            ["training.max_batch_length", "data.max_batch_seconds"],
        ),
        (SPEECH | {"global_batch": 99}, ["global_batch is 99", "max_batch_seconds 12.5", "is 100"]),
        (SPEECH | {"epochs": 20}, ["epochs is 20", "num_seconds 7200", "is 13.89"]),
        (
            TEXT | {"data": {"block_length": 256}},
            ["block_length is 256", "takes 128 tokens", "max_position_embeddings"],
        ),
        (TEXT | {"data": TEXT["data"] | {"pack": "no"}}, ["data.pack is 'no'", "true or false"]),
        (TEXT | {"epochs": 3}, ["epochs is 3", "data.num_examples", "give both"]),
        ({"training": {"learning_rate": 1}}, ["max_steps, per_device_train_batch_size is missing"]),
        ({"training": [1]}, ["training must hold keys and values", "[1]"]),
        ({"source": None}, ["source is missing"]),
        ({"config": "nowhere"}, ["'nowhere'", "no config.json", "data2vec2-vision-base"]),
        ({"global_batch": 32}, ["global_batch is 32", "num_gpus 2", "is 16"]),
        ({"epochs": 75}, ["epochs is 75", "is 8.00"]),
    ],
)
def test_wrong_recipe(write, changes, words):
    with pytest.raises(ValueError) as error:
        load_recipe(write(**changes))
    for word in words:
        assert word in str(error.value)


def test_config_of_another_model(write, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="of type 'vit'.*one of data2vec2-audio, .*data2vec-vision"):
        load_recipe(write(config="."))


def test_config_with_an_unknown_key(write, tmp_path):
    text = (recipe_folder("data2vec2-vision-tiny") / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"mask_prob":', '"mask_ratio":'))
    with pytest.raises(ValueError, match=r"'mask_ratio'.*Allowed are"):
        load_recipe(write(config="."))


# ---- several modalities ----

PARTS = {
    "audio": {"data": {"max_batch_seconds": 6}, "global_batch": 12},
    "text": {"data": {"block_length": 64}, "per_device_train_batch_size": 4, "global_batch": 16, "ratio": 2},
    "vision": {"data": {"num_examples": 80}, "per_device_train_batch_size": 4, "global_batch": 8},
}
JOINT = {
    "config": "data2vec2-tiny",
    "data": None,
    "global_batch": None,
    "modalities": PARTS,
    "training": {"max_steps": 100, "gradient_accumulation_steps": 4},
}


def test_several_modalities(write):
    recipe = load_recipe(write(**JOINT, epochs={"vision": 10}))
    units = {name: (part.unit, part.micro_batch) for name, part in recipe.modalities.items()}
    assert units == {"audio": ("seconds", 6), "text": ("sequences", 4), "vision": ("images", 4)}
    assert recipe.modalities["vision"].epochs(100) == 10
    assert "max_batch_length" not in recipe.training_arguments()
    with pytest.raises(ValueError, match="mine is a recipe for several modalities, audio, text, vision"):
        recipe.global_batch  # noqa: B018
    config = recipe.model_config({"num_masks": 3, "text.num_masks": 2, "modality_norms": True, "hidden_size": 64})
    assert [config.of(name).num_masks for name in config.modalities] == [3, 2, 3]
    assert config.modality_norms and config.hidden_size == 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modalities": PARTS | {"touch": {}}}, ["'touch'", "audio, text, vision"]),
        ({"modalities": PARTS | {"text": PARTS["text"] | {"ratio": 1}}}, ["audio: global_batch is 12", "is 16"]),
        ({"modalities": PARTS | {"vision": PARTS["vision"] | {"global_batch": 9}}}, ["vision: global_batch is 9"]),
        ({"modalities": PARTS | {"vision": {"data": {}}}}, ["vision: global_batch is missing"]),
        ({"data": VALID["data"]}, ["with modalities, data belongs to each"]),
        ({"config_overrides": {"text.num_mask": 2}}, ["'num_mask'", "num_masks"]),
        ({"config_overrides": {"vocab_size": 9}}, ["'vocab_size'", "audio.NAME"]),
        ({"config_overrides": {"text.hidden_size": 64}}, ["hidden_size is", "they share a trunk"]),
        ({"epochs": {"vision": 9}}, ["vision: epochs is 9", "is 10.00"]),
    ],
)
def test_wrong_recipe_for_several(write, changes, words):
    with pytest.raises(ValueError) as error:
        load_recipe(write(**(JOINT | changes)))
    for word in words:
        assert word in str(error.value)


def test_a_joint_config_needs_modalities(write):
    with pytest.raises(ValueError, match="the model has audio, text, vision, so modalities must say"):
        load_recipe(write(config="data2vec2-tiny"))


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n"])
def test_no_recipe_at_all(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.yaml"):
        load_recipe(tmp_path)


def test_missing_recipe_lists_what_there_is():
    with pytest.raises(ValueError, match=r"did you mean data2vec2-vision-base\?") as error:
        load_recipe("data2vec2-vision-bas")
    assert all(name in str(error.value) for name in recipe_names())


def test_unknown_overrides(write):
    recipe = load_recipe(write())
    with pytest.raises(ValueError, match=r"'max_step'; did you mean max_steps"):
        recipe.training_arguments({"max_step": 3})
    with pytest.raises(ValueError, match=r"'num_mask'; did you mean num_masks"):
        recipe.model_config({"num_mask": 3})
    with pytest.raises(ValueError, match="'id2label'"):
        recipe.model_config({"id2label": {}})


def test_accumulation_keeps_the_global_batch():
    recipe = load_recipe("data2vec2-vision-base")
    assert recipe.accumulation_steps(num_gpus=1, per_device_batch=16) == 16
    assert recipe.accumulation_steps(num_gpus=16, per_device_batch=16) == 1
    for gpus, batch in [(3, 16), (32, 16)]:
        with pytest.raises(ValueError, match="do not divide the global batch of 256"):
            recipe.accumulation_steps(gpus, batch)
