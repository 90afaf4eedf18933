"""The schedule of a trained model that goes on with other data."""

import pytest

from modeling_data2vec import load_recipe
from modeling_data2vec.trainers.recipes.adapting import adapted_values
from modeling_data2vec.trainers.recipes.batch_scaling import TEACHER


def values_of(name):
    recipe = load_recipe(name)
    config = recipe.model_config()
    return recipe.training | {key: getattr(config, key) for key in TEACHER}


def adapted(name, steps_per_epoch, has_teacher=True, **given):
    changes = adapted_values(values_of(name), steps_per_epoch, has_teacher, given)
    return {change.name: change.new for change in changes}


def test_steps_follow_the_data():
    assert adapted("data2vec2-vision-base", 20)["max_steps"] == 2_000, "a hundred epochs"
    assert adapted("data2vec2-vision-base", 10_000)["max_steps"] == 37_530, "a tenth of the recipe's"
    new = adapted("data2vec2-vision-base", 20)
    assert new["warmup_steps"] == 120 and new["learning_rate"] == pytest.approx(0.00025)
    assert adapted("data2vec2-vision-base", None, max_steps=500)["warmup_steps"] == 30


@pytest.mark.parametrize("name", ["data2vec2-vision-base", "data2vec2-audio-large", "data2vec-text-base"])
def test_the_teacher_moves_within_the_run(name):
    """The published decays would keep it where it is: .99999 forgets a percent in 1,000 steps, 1 nothing at all."""
    new = adapted(name, 20)
    assert new["ema_decay"] == new["ema_end_decay"] and new["ema_anneal_end_step"] == 0
    assert new["ema_end_decay"] ** new["max_steps"] < 0.02


def test_a_teacher_that_is_a_copy_begins_fast():
    new = adapted("data2vec2-vision-base", 20, has_teacher=False)
    assert 0.9 <= new["ema_decay"] < new["ema_end_decay"] and new["ema_anneal_end_step"] == round(2_000 * 100 / 375.3)


def test_what_is_given_stays():
    new = adapted("data2vec2-vision-base", 20, max_steps=300, ema_decay=0.99, learning_rate=1e-5)
    assert (new["max_steps"], new["ema_decay"], new["learning_rate"], new["warmup_steps"]) == (300, 0.99, 1e-5, 18)


def test_shares_need_no_warmup():
    assert "warmup_steps" not in adapted("data2vec-audio-base", 20)


def test_a_stream_needs_its_steps():
    with pytest.raises(ValueError, match="from the size of the data, which a stream does not say: give --max_steps"):
        adapted("data2vec2-vision-base", None)
