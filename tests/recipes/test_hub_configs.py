"""Every folder of hub_configs: loads with its classes, and states figures that hold."""

import json

import numpy as np
import pytest
from PIL import Image
from transformers import AutoConfig, AutoFeatureExtractor, AutoImageProcessor

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2SpectrogramConfig,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
)
from modeling_data2vec.auto import pretraining_class_of
from modeling_data2vec.hub_configs import ROOT, recipe_folder, recipe_names
from modeling_data2vec.trainers.recipes.recipe import load_recipe

JOINT = {  # several modalities: processors of which
    "data2vec2-tiny": {"audio", "vision"},
    "data2vec2-joint-base": {"audio", "vision"},
    "data2vec2-audiovisual-base": {"spectrogram", "vision"},
}
NAMES = [name for name in recipe_names() if name not in JOINT]
CONFIGS = {
    "vision": Data2Vec2VisionConfig,
    "audio": Data2Vec2AudioConfig,
    "spectrogram": Data2Vec2SpectrogramConfig,
    "text": Data2Vec2TextConfig,
}
VERSION_2 = [name for name in NAMES if name.startswith("data2vec2-")]
VISION, AUDIO = ([name for name in NAMES if f"-{modality}-" in name] for modality in ("vision", "audio"))


def test_every_folder_is_complete():
    others = ("finetuning", "__pycache__")  # recipes of fine-tuning have no config
    for folder in (path for path in ROOT.iterdir() if path.is_dir() and path.name not in others):
        files = {"config.json", "recipe.yaml"}
        if "-text-" not in folder.name:
            files.add("preprocessor_config.json")
        if folder.name in JOINT:
            files = {"config.json", "recipe.yaml", *JOINT[folder.name]}
        assert {path.name for path in folder.iterdir()} == files


def test_the_joint_config_loads_and_saves_with_its_processors(tmp_path):
    folder = recipe_folder("data2vec2-tiny")
    config = load_recipe("data2vec2-tiny").model_config()
    assert config.modalities == ("audio", "text", "vision")
    loaded = AutoConfig.from_pretrained(folder)
    assert all(config.of(name).to_dict() == loaded.of(name).to_dict() for name in config.modalities)
    pixels = np.zeros((8, 8), dtype=np.uint8)
    output = AutoImageProcessor.from_pretrained(folder, subfolder="vision")(
        Image.fromarray(pixels), return_tensors="pt"
    )
    assert output.pixel_values.shape == (1, 1, *config.of("vision").image_shape)
    assert AutoFeatureExtractor.from_pretrained(folder, subfolder="audio").sampling_rate == 16_000


def test_unknown_name():
    with pytest.raises(ValueError, match="data2vec2-vision-base"):
        recipe_folder("data2vec2-vision-enormous")


@pytest.mark.parametrize("name", NAMES)
def test_config_loads_and_saves(name, tmp_path):
    model_class = pretraining_class_of(str(recipe_folder(name)))
    config = model_class.config_class.from_pretrained(recipe_folder(name))
    if name in VERSION_2:
        assert type(config) is type(AutoConfig.from_pretrained(recipe_folder(name))) is CONFIGS[name.split("-")[1]]
    assert config.architectures == [model_class.__name__]
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    saved.pop("transformers_version")
    assert saved == json.loads((recipe_folder(name) / "config.json").read_text())


@pytest.mark.parametrize("name", VISION)
def test_image_processor_gives_what_the_model_takes(name):
    config = load_recipe(name).model_config()
    processor = AutoImageProcessor.from_pretrained(recipe_folder(name))
    pixels = np.zeros((40, 50) if config.num_channels == 1 else (40, 50, config.num_channels), dtype=np.uint8)
    output = processor(Image.fromarray(pixels), return_tensors="pt")
    assert output.pixel_values.shape == (1, config.num_channels, *config.image_shape)
    assert processor.resample == Image.Resampling.BICUBIC
    augmentation = load_recipe(name).augmentation
    assert list(augmentation["mean"]) == list(processor.image_mean)
    assert list(augmentation["std"]) == list(processor.image_std)


@pytest.mark.parametrize("name", AUDIO)
def test_feature_extractor_normalises_and_pads_clips(name):
    extractor = AutoFeatureExtractor.from_pretrained(recipe_folder(name))
    sound = np.random.default_rng(0).normal(3.0, 2.0, 8_000).astype(np.float32)
    output = extractor([sound, sound[:4_000]], sampling_rate=16_000, padding=True, return_tensors="np")
    assert output.input_values.shape == (2, 8_000) and output.attention_mask.sum(1).tolist() == [8_000, 4_000]
    assert output.input_values[0].mean() == pytest.approx(0, abs=1e-3)
    assert output.input_values[0].std() == pytest.approx(1, abs=1e-3)
    assert not output.input_values[1, 4_000:].any()
    with pytest.raises(ValueError, match="16000"):
        extractor(sound, sampling_rate=8_000)


@pytest.mark.parametrize("name", NAMES)
def test_recipe_says_where_it_comes_from(name):
    recipe = load_recipe(name)
    stated = (recipe_folder(name) / "recipe.yaml").read_text()
    assert recipe.name == name and recipe.config == recipe_folder(name)
    assert recipe.source and recipe.notes and "\nlicense_of_published_weights: " in stated
    assert ("\nepochs: " in stated) == (recipe.epochs is not None), "stated where they can be known, hence checked"


@pytest.mark.parametrize("name", [name for name in NAMES if "-spectrogram-" in name])
def test_spectrogram_extractor_gives_what_the_model_takes(name):
    recipe, extractor = load_recipe(name), AutoFeatureExtractor.from_pretrained(recipe_folder(name))
    assert type(extractor).__name__ == "Data2Vec2SpectrogramFeatureExtractor"
    assert extractor.feature_size == recipe.model_config().num_mel_bins
    figures = (-4.268, 4.569) if recipe.published else (-4.85, 2.16)  # EAT's, or those of a variance of 1
    assert (extractor.mean, extractor.std) == figures
    ten_seconds = extractor(np.zeros(160_000, dtype=np.float32), sampling_rate=16_000)["input_features"][0]
    assert len(ten_seconds) == 998, "as the recipe's notes say"
