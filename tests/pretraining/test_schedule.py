"""`data2vec pretrain --scale_to_batch` and `--adapt`: what the run is made of, what is printed and what is kept."""

import json

import pytest
import torch
import yaml

import data2vec_cli
from modeling_data2vec import load_recipe
from modeling_data2vec.trainers.pretraining import run
from modeling_data2vec.trainers.recipes.adapting import recipe_of

QUIET = ["--use_cpu", "--disable_tqdm", "true", "--logging_steps", "1", "--dataloader_num_workers", "0"]


@pytest.fixture
def planned(monkeypatch, tmp_path):
    """What the command would train, without doing it."""
    calls = []
    monkeypatch.setattr(run, "pretrain", lambda *arguments: calls.append(arguments))

    def plan(*words: str, recipe: str = "data2vec2-vision-base"):
        argv = ["pretrain", "--recipe", recipe, "--dataset", "digits", "--output_dir", str(tmp_path / "run"), *QUIET]
        assert data2vec_cli.main([*argv, *words]) == 0
        _, args, scaled, changes, _ = calls.pop()
        return args, scaled, changes

    return plan


def test_the_run_s_own_batch(planned):
    args, recipe, changes = planned(
        "--scale_to_batch", "--per_device_train_batch_size", "16", "--learning_rate", "1e-3"
    )
    assert recipe.global_batch == 16 and args.max_steps == 375_300 * 16
    assert args.learning_rate == 1e-3, "given"
    assert args.warmup_steps == 50_040 * 16 and args.adam_beta1 == pytest.approx(1 - 0.1 / 16)
    assert changes["ema_decay"] == pytest.approx(0.9998 ** (1 / 16))
    assert recipe.model_config(changes).ema_anneal_end_step == 1_600_000


@pytest.mark.parametrize(
    ("words", "size", "accumulation"),
    [
        ((), 16, 4),
        (("--per_device_train_batch_size", "32"), 32, 2),
        (("--gradient_accumulation_steps", "8"), 8, 8),
    ],
)
def test_a_batch_that_is_asked_for(planned, words, size, accumulation):
    args, recipe, changes = planned("--scale_to_batch", "64", "--config", "ema_decay=0.99", *words)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (size, accumulation)
    assert recipe.global_batch == 64 and changes["ema_decay"] == 0.99


def test_seconds_of_speech(planned):
    args, recipe, _ = planned("--scale_to_batch", "--max_batch_length", "320000", recipe="data2vec2-audio-base")
    assert recipe.global_batch == 20 and args.max_batch_length == 320_000 and args.max_steps == 400_000 * 25


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        (
            "data2vec2-vision-base",
            ["64", "--gradient_accumulation_steps", "2", "--per_device_train_batch_size", "16"],
            "--scale_to_batch is 64, but per_device_train_batch_size and gradient_accumulation_steps make 32 images",
        ),
        ("data2vec2-vision-base", ["5000"], "adam_beta1 would be -0.953"),
        ("data2vec2-vision-base", ["-3"], "--scale_to_batch is -3.0, but must be at least 0"),
        ("data2vec2-audio-base", ["--streaming"], "a stream's batches hold clips of unknown lengths"),
        ("data2vec2-tiny", ["64"], "has a global batch for each of audio, text, vision"),
    ],
)
def test_what_makes_no_sense(recipe, words, message, tmp_path, capsys):
    argv = ["pretrain", "--recipe", recipe, "--dataset", "digits", "--output_dir", str(tmp_path / "run"), *QUIET]
    assert data2vec_cli.main([*argv, "--scale_to_batch", *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


# ---- going on from a trained model ----


SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_masks": 2, "num_attention_heads": 1, "image_size": 8}
RECIPE = {"name": "small", "config": "data2vec2-vision-tiny", "config_overrides": SMALL, "source": "a test"}
RECIPE |= {"data": {"dataset": "digits"}, "num_gpus": 1, "global_batch": 8}
RECIPE |= {"training": {"max_steps": 160, "per_device_train_batch_size": 8, "learning_rate": 4e-3, "warmup_steps": 9}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model with a teacher of its own, as a run leaves it; its recipe is in the same folder."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    model, data = load_recipe(folder).build("digits")
    with torch.no_grad():
        next(model.teacher.parameters()).add_(0.1)
    model.save_pretrained(folder)
    data.modality.processor.save_pretrained(folder)
    return folder


def adapt(model, output, *words: str) -> list[str]:
    argv = ["pretrain", "--recipe", str(model), "--adapt", str(model), "--dataset", "digits", *QUIET, *words]
    return [*argv, "--output_dir", str(output / "run")]


def test_adapt(trained, tmp_path, capfd):
    assert data2vec_cli.main(adapt(trained, tmp_path, "--per_device_train_batch_size", "32")) == 0
    kept = json.loads((tmp_path / "run" / "provenance.json").read_text())
    schedule = {one["name"]: (one["old"], one["new"]) for one in kept["schedule"]}
    assert schedule["max_steps"] == (160, 4), "a tenth of the recipe's samples, four times as many a step"
    assert kept["steps"] == 4 and schedule["global_batch"] == (8, 32)
    assert schedule["learning_rate"] == (0.004, pytest.approx(0.004 * 2 / 4))
    assert kept["hyperparameters"]["ema_decay"] == schedule["ema_decay"][1] == 0.9
    assert schedule["ema_anneal_end_step"] == (275, 0), "the teacher is a trained one"
    assert "no ramp: the teacher is a trained one" in capfd.readouterr().out
    assert "| max_steps | 160 | 4 | 100 epochs" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "data2vec2-audio-base"], "is a data2vec2-vision model, but data2vec2-audio-base is a recipe for"),
        (["--model", "other"], "both name the model to go on from"),
        (["--streaming"], "--adapt takes the number of steps from the size of the data, which a stream does not say"),
    ],
)
def test_adapt_refuses(words, message, trained, tmp_path, capsys):
    assert data2vec_cli.main(adapt(trained, tmp_path, *words)) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_the_recipe_of_a_model(tmp_path):
    (tmp_path / "small").mkdir()
    load_recipe("data2vec2-vision-tiny").provenance().save(tmp_path / "small")
    assert recipe_of(str(tmp_path / "small")) == "data2vec2-vision-tiny", "by its provenance"
    load_recipe("data2vec2-vision-base").model_config().save_pretrained(tmp_path)
    assert recipe_of(str(tmp_path)) == "data2vec2-vision-base", "by kind and size"
    load_recipe("data2vec2-vision-base").model_config({"hidden_size": 384}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="none is for a model of its type and size: name one with --recipe"):
        recipe_of(str(tmp_path))
