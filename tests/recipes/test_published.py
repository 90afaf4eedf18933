"""The models that the authors published: complete, and as said."""

import re

import pytest
import torch

from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.recipes.published import (
    check_recipe,
    listing,
    published_model,
    published_models,
)
from modeling_data2vec.trainers.recipes.recipe import load_recipe

MODELS = published_models()
NAMES = [model.name for model in MODELS]
HUB_LICENSES = {"MIT": "mit", "CC-BY-NC": "cc-by-nc-4.0"}


def test_all_that_the_authors_published_are_there():
    """Of 2.0: three image models and two speech models, pretrained and fine-tuned, a text model, and EAT's files."""
    assert len(NAMES) == len(set(NAMES))
    assert sum(name.startswith("data2vec2-vision") for name in NAMES) == 6
    assert sum(name.startswith("data2vec2-audio") for name in NAMES) == 4
    assert sum(name.startswith("data2vec2-spectrogram") for name in NAMES) == 7
    assert "data2vec2-text-base" in NAMES and "data2vec-text-base" in NAMES
    assert sum(name.startswith("data2vec-audio") for name in NAMES) == 8
    assert sum(name.startswith("data2vec-vision") for name in NAMES) == 4


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_figures_and_licences_hold(model):
    assert model.count_parameters() == model.parameters
    assert model.license == HUB_LICENSES[load_recipe(model.recipe).license_of_published_weights]
    if "data2vec2-vision" in model.name:
        assert model.license == "cc-by-nc-4.0"
    places = r"https://\S+\.pt|https://drive\.google\.com/file/d/[\w-]+/view|facebook/data2vec-[a-z0-9-]+"
    assert all(re.fullmatch(places, one) for one in model.addresses())


@pytest.mark.parametrize(
    "name", ["data2vec-audio-base-10m", "data2vec2-vision-base-ft1k", "data2vec2-spectrogram-base-as2m"]
)
def test_fine_tuned_configs_build_their_models(name):
    model = published_model(name)
    with torch.device("meta"):
        built = model.model_class()(model.config())
    outputs = built.lm_head.out_features if model.task == "ctc" else built.classifier.out_features
    assert outputs == model.outputs


def test_an_unknown_name():
    with pytest.raises(ValueError, match="'data2vec2-vision-small': .*[Cc]hoose one of data2vec-audio-base"):
        published_model("data2vec2-vision-small")


def test_the_list_shows_everything(capsys):
    assert run("recipes", []) == 0
    shown = capsys.readouterr().out
    assert shown.strip() == listing()
    assert all(f"| {name} |" in shown for name in NAMES) and "data2vec2-vision-tiny" in shown


def test_recipes_are_checked_and_compared_with_the_paper(capsys):
    assert run("recipe-check", ["data2vec2-vision-large"]) == 0
    lines = capsys.readouterr().out
    assert "375,300 updates x 128 images / 1,281,167 = 37.50" in lines
    assert "parameters of data2vec2-vision-large: 303,099,904, as stated" in lines
    assert "the paper disagrees: epochs is 150 there, 37.50 here" in lines


def test_what_a_paper_says_differs_from_the_recipe():
    """A value that agrees has no place among those that do not."""
    for recipe in {load_recipe(model.recipe).name for model in MODELS}:
        for line in check_recipe(load_recipe(recipe)):
            if match := re.search(r"is (\S+) there, (\S+) here", line):
                assert match[1] != match[2], f"{recipe}: {line}"
