"""A recipe for a large data set says how it fits a small one."""

import pytest

from modeling_data2vec.trainers.pretraining.run_data import FEWEST_STEPS, advice
from modeling_data2vec.trainers.recipes.recipe import load_recipe
from modeling_data2vec.trainers.runs.run_plan import RunPlan


def plan_of(recipe, steps_per_epoch):
    return RunPlan([], recipe.training["max_steps"], steps_per_epoch)


def test_flags_give_as_many_epochs_as_the_recipe_was_made_for():
    recipe = load_recipe("data2vec2-vision-base")  # 375,300 steps of 256 images, 75 epochs
    said = advice(plan_of(recipe, 390), recipe, 375_300)
    assert "made for 75 epochs of more samples: here it would make 962 epochs" in said
    words = said.replace(".", " ").split()
    steps = int(words[words.index("--max_steps") + 1])
    assert steps / 390 == pytest.approx(75, abs=1)
    share = steps / 375_300
    assert int(words[words.index("--warmup_steps") + 1]) == pytest.approx(50_040 * share, abs=1)
    anneal = next(word for word in words if word.startswith("ema_anneal_end_step="))
    assert int(anneal.partition("=")[2]) == pytest.approx(recipe.model_config().ema_anneal_end_step * share, abs=1)


@pytest.mark.parametrize("name", ["data2vec2-text-base", "data2vec2-audio-base", "data2vec-audio-base"])
def test_very_small_data_and_recipes_of_unknown_length(name):
    recipe = load_recipe(name)
    steps = recipe.training["max_steps"]
    said = advice(plan_of(recipe, 3), recipe, steps)
    assert FEWEST_STEPS <= int(said.partition("--max_steps ")[2].split()[0].rstrip(".")) < 2_000 and "-small" in said
    assert ("--warmup_steps" in said) == ("warmup_steps" in recipe.training)
    assert advice(plan_of(recipe, 3), recipe, 500) is None, "somebody has chosen"
    assert advice(plan_of(recipe, None), recipe, steps) is None, "a stream has no epochs"
    assert advice(plan_of(recipe, steps), recipe, steps) is None


def test_recipes_for_first_runs_fit_a_thousand_samples():
    for modality in ("vision", "audio", "text"):
        recipe = load_recipe(f"data2vec2-{modality}-small")
        assert advice(plan_of(recipe, 1_000 // 16), recipe, 20_000) is None
