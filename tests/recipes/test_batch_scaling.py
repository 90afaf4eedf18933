"""Schedules for another global batch: the rules, what stays the same in samples, and what makes no sense."""

from dataclasses import replace

import pytest

from modeling_data2vec import load_recipe
from modeling_data2vec.ema import ema_decay_at
from modeling_data2vec.hub_configs import recipe_names
from modeling_data2vec.trainers.inspection.report import inspect_target
from modeling_data2vec.trainers.recipes.batch_scaling import TEACHER, change_table


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("data2vec2-vision-base")  # 256 images


def test_the_rules(recipe):
    small = recipe.scaled(64, num_gpus=2)
    then, now = recipe.training, small.training
    assert small.global_batch == 64 and small.num_gpus == 2
    assert now["per_device_train_batch_size"] * now["gradient_accumulation_steps"] * 2 == 64
    assert now["learning_rate"] == pytest.approx(then["learning_rate"] / 2)
    assert 1 - now["adam_beta1"] == pytest.approx((1 - then["adam_beta1"]) / 4)
    assert 1 - now["adam_beta2"] == pytest.approx((1 - then["adam_beta2"]) / 4)
    assert now["adam_epsilon"] == pytest.approx(then["adam_epsilon"] * 2)
    for name in ("max_steps", "warmup_steps"):
        assert now[name] * 64 == then[name] * 256, name
    # What weights forget by decay in an image stays the same.
    per_image = [t["learning_rate"] * t["weight_decay"] / batch for t, batch in ((now, 64), (then, 256))]
    assert per_image[0] == pytest.approx(per_image[1])
    assert small.epochs == pytest.approx(recipe.epochs)
    assert recipe.training["max_steps"] == 375_300 and not recipe.changes, "the recipe itself is as it was"


@pytest.mark.parametrize("batch", [8, 1024])
def test_the_teacher_forgets_in_samples(recipe, batch):
    """After equally many images equally much is left of the first teacher, also while the decay rises."""

    def left(config, steps, every):
        share = 1.0
        for step in range(every, steps + 1, every):
            share *= ema_decay_at(step, config.ema_decay, config.ema_end_decay, config.ema_anneal_end_step) ** every
        return share

    scaled = recipe.scaled(batch).model_config()
    for images in (256 * 2_000, 256 * 20_000):
        expected = left(recipe.model_config(), images // 256, 100)
        assert left(scaled, images // batch, 25_600 // batch) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", [name for name in recipe_names() if len(load_recipe(name).modalities) == 1])
def test_every_recipe_scales_and_back(name):
    recipe = load_recipe(name)
    small = recipe.scaled(recipe.global_batch / 4)
    again = replace(small, changes=()).scaled(recipe.global_batch)
    for key in ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "max_steps", "warmup_steps"):
        if key in recipe.training:
            assert again.training[key] == pytest.approx(recipe.training[key], rel=1e-4), key
    for key in TEACHER:
        assert getattr(again.model_config(), key) == pytest.approx(getattr(recipe.model_config(), key), rel=1e-6), key
    assert small.training.get("tri_stage") == recipe.training.get("tri_stage")  # shares of the run


def test_seconds(tmp_path):
    recipe = load_recipe("data2vec2-audio-base")  # 8 GPUs x 62.5 seconds
    small = recipe.scaled(100)
    assert small.training_arguments()["max_batch_length"] == 50 * 16_000
    assert small.training["gradient_accumulation_steps"] == 2 and small.micro_batch == 50
    assert small.epochs == pytest.approx(recipe.epochs)


def test_values_that_are_given_stay_and_are_listed(recipe):
    small = recipe.scaled(64, learning_rate=1e-3, ema_decay=0.999)
    assert small.training["learning_rate"] == 1e-3 and small.model_config().ema_decay == 0.999
    table = change_table(small.changes)
    lines = [line.split() for line in table.splitlines()]
    assert ["global_batch", "256", "64", "k", "=", "0.25"] in lines
    assert ["learning_rate", "0.001", "0.001", "as", "given"] in lines
    assert "arXiv 2205.10287" in table and "arXiv 2307.13813" in table
    same = recipe.scaled(256)
    assert [change.name for change in same.changes] == ["global_batch"] and same.training["max_steps"] == 375_300


def test_other_optimizers(recipe):
    sgd = replace(recipe, training=recipe.training | {"optim": "sgd"}).scaled(64)
    assert sgd.training["learning_rate"] == pytest.approx(0.001 / 4)
    assert sgd.training["weight_decay"] == recipe.training["weight_decay"]
    with pytest.raises(ValueError, match="no rule by which learning_rate of optim adafactor fits another batch"):
        replace(recipe, training=recipe.training | {"optim": "adafactor"}).scaled(64)


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        (0, {}, "a global batch of 0 images can't be shared out to 1 devices"),
        (33, {"num_gpus": 2}, "can't be shared out to 2 devices: take a multiple of 2"),
        (64, {"per_device_batch": 10}, "no multiple of 1 devices x micro-batches of 10"),
        (4096, {}, "adam_beta1 would be -0.6: the rule for Adam holds up to 10 times"),
        (64, {"lerning_rate": 1}, "did you mean learning_rate"),
    ],
)
def test_what_makes_no_sense(recipe, batch, options, message):
    with pytest.raises(ValueError, match=message):
        recipe.scaled(batch, **options)


def test_several_modalities_are_not_scaled():
    with pytest.raises(ValueError, match="data2vec2-tiny has a global batch for each of audio, text, vision"):
        load_recipe("data2vec2-tiny").scaled(64)


def test_inspect_shows_it():
    rows = dict(inspect_target("data2vec2-vision-tiny", scale_to_batch=4).rows())
    assert rows["updates"] == "800" and rows["  learning_rate"] == "0.00282843 instead of 0.004: x sqrt(k)"
