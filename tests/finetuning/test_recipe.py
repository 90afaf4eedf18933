"""Recipes of the published fine-tunings: they load, state figures that hold, and set what the command takes."""

import pytest
import yaml

from modeling_data2vec.trainers.finetuning.arguments import FinetuningArguments
from modeling_data2vec.trainers.finetuning.recipe import FOLDER, finetune_recipe_names, load_finetune_recipe
from modeling_data2vec.trainers.finetuning.tasks.all_tasks import TASKS

PUBLISHED = {  # batch, updates, learning rate: as the authors' files have them
    "data2vec2-vision-base-imagenet": (512, 250_200, 1e-3),
    "data2vec2-vision-large-imagenet": (512, 125_200, 5e-4),
    "data2vec2-vision-huge14-imagenet": (512, 125_200, 5e-4),
    "audio-base-100h": (1_600, 80_000, 3e-5),
    "audio-base-960h": (1_600, 320_000, 1e-5),
    "audio-large-10h": (1_600, 20_000, 1e-4),
    "audio-large-960h": (1_920, 320_000, 3e-5),
    "spectrogram-as2m": (96, 300_000, 5e-5),
    "spectrogram-as20k": (48, 40_000, 5e-5),
    "spectrogram-esc50": (48, 4_000, 5e-5),
    "spectrogram-spc2": (256, 40_000, 2e-4),
    "glue-cola": (16, 5_336, 2e-5),
    "glue-stsb": (16, 3_598, 4e-5),
}


@pytest.mark.parametrize("name", finetune_recipe_names())
def test_each_recipe_sets_what_the_command_takes(name, tmp_path):
    recipe = load_finetune_recipe(name)
    assert recipe.name == name and recipe.task in TASKS and recipe.source
    args = FinetuningArguments(str(tmp_path), use_cpu=True, **recipe.training)
    assert ("max_batch_length" in recipe.defaults()) == (recipe.task == "ctc")
    assert args.learning_rate == recipe.training["learning_rate"]
    assert recipe.epochs is None or recipe.epochs > 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name):
    recipe = load_finetune_recipe(name)
    batch, updates, rate = PUBLISHED[name]
    assert (recipe.global_batch, recipe.training["max_steps"], recipe.training["learning_rate"]) == (
        batch,
        updates,
        rate,
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"training": {"layer_decai": 1}}, "training: unknown key 'layer_decai'; did you mean layer_decay"),
        ({"options": {"pear": "x"}}, "options: unknown key 'pear'"),
        ({"global_batch": 17}, "global_batch is 17, but num_gpus 1 x per_device_train_batch_size 16"),
        ({"epochs": 3}, "epochs is 3, but max_steps 5336"),
        ({"tasks": "x"}, "unknown key 'tasks'; did you mean task"),
        ({"data": 3}, "data must hold keys and values"),
    ],
)
def test_a_recipe_that_contradicts_itself(change, match, tmp_path):
    values = yaml.safe_load((FOLDER / "glue-cola.yaml").read_text())
    for name, value in change.items():
        values[name] = values.get(name, {}) | value if isinstance(value, dict) else value
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=match):
        load_finetune_recipe(tmp_path / "own.yaml")


def test_a_recipe_is_for_certain_models():
    with pytest.raises(ValueError, match="glue-cola is a recipe for data2vec2-text or .* --model is a vit"):
        load_finetune_recipe("glue-cola").check_model("vit")
