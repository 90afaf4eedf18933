"""Every folder of hub_configs: loads with the Auto classes, and states figures that hold."""

import json

import numpy as np
import pytest
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor

from modeling_data2vec import Data2Vec2VisionConfig
from modeling_data2vec.hub_configs import ROOT, recipe_folder, recipe_names
from modeling_data2vec.trainers.inspection import count_parameters
from modeling_data2vec.trainers.recipes import load_recipe

NAMES = recipe_names()
PUBLISHED = {
    # encoder parameters in millions, GPUs, images an update, epochs as written
    "data2vec2-vision-base": (86, 16, 256, 75.0),
    "data2vec2-vision-large": (303, 16, 128, 37.5),
    "data2vec2-vision-huge": (631, 16, 128, 37.5),
    "data2vec2-vision-huge14": (630, 32, 256, 99.9),
}


def test_every_folder_is_complete():
    assert set(PUBLISHED) | {"data2vec2-vision-tiny"} <= set(NAMES)
    for folder in (path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("__")):
        assert {"config.json", "preprocessor_config.json", "recipe.yaml"} == {path.name for path in folder.iterdir()}


def test_unknown_name():
    with pytest.raises(ValueError, match="data2vec2-vision-base"):
        recipe_folder("data2vec2-vision-enormous")


@pytest.mark.parametrize("name", NAMES)
def test_config_loads_and_saves(name, tmp_path):
    config = AutoConfig.from_pretrained(recipe_folder(name))
    assert type(config) is Data2Vec2VisionConfig
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    saved.pop("transformers_version")
    assert saved == json.loads((recipe_folder(name) / "config.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_processor_gives_what_the_model_takes(name):
    config = AutoConfig.from_pretrained(recipe_folder(name))
    processor = AutoImageProcessor.from_pretrained(recipe_folder(name))
    pixels = np.zeros((40, 50) if config.num_channels == 1 else (40, 50, config.num_channels), dtype=np.uint8)
    output = processor(Image.fromarray(pixels), return_tensors="pt")
    assert output.pixel_values.shape == (1, config.num_channels, *config.image_shape)
    assert processor.resample == Image.Resampling.BICUBIC


@pytest.mark.parametrize("name", NAMES)
def test_recipe_says_where_it_comes_from(name):
    recipe = load_recipe(name)
    stated = (recipe_folder(name) / "recipe.yaml").read_text()
    assert recipe.name == name and recipe.config == recipe_folder(name)
    assert recipe.source and recipe.notes and "\nepochs: " in stated and "\nlicence_of_published_weights: " in stated
    processor = AutoImageProcessor.from_pretrained(recipe.config)
    assert list(recipe.augmentation["mean"]) == list(processor.image_mean)
    assert list(recipe.augmentation["std"]) == list(processor.image_std)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name):
    millions, gpus, batch, epochs = PUBLISHED[name]
    recipe = load_recipe(name)
    config = recipe.model_config()
    assert (recipe.num_gpus, recipe.global_batch) == (gpus, batch)
    assert recipe.epochs == pytest.approx(epochs, abs=0.05)
    assert any(f"{epochs} epochs" in note or f"trains for {epochs}" in note for note in recipe.notes)
    assert count_parameters(config).encoder == pytest.approx(millions * 1e6, rel=0.005)
    # The authors' sum over a GPU's rows, weighted 0.01, as a mean.
    rows = recipe.training["per_device_train_batch_size"] * config.num_masks
    assert config.cls_loss_reduction == "mean" and config.cls_loss_weight == pytest.approx(0.01 * rows)
    assert recipe.licence_of_published_weights == "CC-BY-NC"
