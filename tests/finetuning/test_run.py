"""`data2vec finetune` as a user types it: every task from a pretrained body of both versions to a pipeline."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_tasks import FAST, write_rows
from transformers import AutoConfig, AutoModelForImageClassification, pipeline

import data2vec_cli
from modeling_data2vec.trainers.finetuning.adapters import load_adapter
from modeling_data2vec.trainers.finetuning.arguments import FinetuningArguments
from modeling_data2vec.trainers.finetuning.options import FinetuningOptions
from modeling_data2vec.trainers.finetuning.run import finetune
from modeling_data2vec.trainers.finetuning.tasks.all_tasks import TASKS
from modeling_data2vec.trainers.finetuning.trainer import FinetuningTrainer

PIPELINES = {"ctc": "automatic-speech-recognition", "semantic-segmentation": "image-segmentation"}
KIND = {"pixel_values": "images", "input_values": "speech", "input_ids": "text"}


def run(capsys, *argv: object) -> tuple[int, str, str]:
    code = data2vec_cli.main(["finetune", *(str(word) for word in argv)])
    out, err = capsys.readouterr()
    return code, out, err


EXTRA = {
    "semantic-segmentation": ["--config", "pool_scales=[1]", "--horizontal_flip", "--crop_scale", "0.5", "1"],
    "token-classification": ["--column", "words"],
    "image-classification": [
        *("--layer_decay", "0.7", "--mixup", "0.7", "--cutmix", "1", "--erasing", "0.2"),
        *("--label_smoothing_factor", "0.1", "--rand_augment", "rand-m9-mstd0.5-inc1"),
    ],
}
INPUTS = {
    "pixel_values": Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)),
    "input_values": {"raw": np.sin(np.arange(6_000) / 5).astype(np.float32), "sampling_rate": 16_000},
    "input_ids": "Return a copy of the string",
}


# Without a pipeline are "classification", which the tests of examples/ecg.py have, and classes of moments
# (test_sounds_and_lists.py).
@pytest.mark.parametrize("version", ["2.0", "1.0"])
@pytest.mark.parametrize("task", [task for task in TASKS if TASKS[task].has_pipeline])
def test_each_task_from_a_pretrained_body_to_a_pipeline(task, version, data, bodies, tmp_path, capsys):
    modality = TASKS[task].main_input
    changes = {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]} if task.startswith("semantic") else {}
    folder = bodies(f"{KIND[modality]} {version}", **(changes if version == "1.0" else {}))
    options = ["--task", task, "--model", folder, "--dataset", data[task], "--eval_split", "test", "--max_steps", "3"]
    if modality == "input_values" and version == "1.0":  # whose masks these clips are too short for
        options += ["--config", "mask_time_prob=0"]
    code, out, err = run(capsys, *options, *FAST, *EXTRA.get(task, []), "--output_dir", tmp_path / "out")
    assert code == 0, err
    assert f'pipeline("{PIPELINES.get(task, task)}"' in out
    runs = pipeline(PIPELINES.get(task, task), model=str(tmp_path / "out"))
    assert runs(dict(INPUTS[modality]) if modality == "input_values" else INPUTS[modality]) is not None

    figures = json.loads((tmp_path / "out" / "provenance.json").read_text())["metrics"]["validation"]
    assert TASKS[task].metric in figures and "loss" in figures
    config = AutoConfig.from_pretrained(tmp_path / "out")
    expected = {"ctc": None, "audio-classification": ["high", "low"], "text-classification": ["names", "strings"]}
    names = expected.get(task, ["CAPITAL", "O"] if task.startswith("token") else None)
    assert names is None or list(config.id2label.values()) == names
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| validation | {TASKS[task].metric} |" in card and f"pipeline_tag: {PIPELINES.get(task, task)}" in card


def test_letters_are_the_vocabulary(data, bodies, tmp_path, capsys):
    model = bodies("speech 2.0")
    options = ["--task", "ctc", "--model", model, "--dataset", data["ctc"], "--max_steps", "2", *FAST]
    code, _, err = run(capsys, *options, "--output_dir", tmp_path / "out", "--eval_fraction", "0.2")
    assert code == 0, err
    vocabulary = json.loads((tmp_path / "out" / "vocab.json").read_text())
    assert vocabulary == {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 4, "c": 5}
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.vocab_size, config.pad_token_id) == (6, 0)
    # Fine-tuned further, with letters that are kept.
    options[3] = tmp_path / "out"
    code, _, err = run(capsys, *options, "--tokenizer", tmp_path / "out", "--output_dir", tmp_path / "more")
    assert code == 0, err


def test_numbers_are_predicted_where_labels_are_floats(data, bodies, tmp_path, capsys):
    options = ["--task", "text-classification", "--model", bodies("text 2.0"), "--dataset", data["text-classification"]]
    options += ["--label_column", "length", "--test_split", "test", "--max_steps", "3", *FAST]
    code, out, err = run(capsys, *options, "--output_dir", tmp_path)
    assert code == 0, err
    assert "pearson" in out and AutoConfig.from_pretrained(tmp_path).problem_type == "regression"


@pytest.mark.parametrize("version", ["2.0", "1.0"])
def test_an_adapter_is_saved_with_its_head_and_loads_equal(version, bodies, digits, tmp_path):
    model = bodies(f"images {version}")
    result = digits(model, tmp_path / "lora", peft="lora", peft_changes={"r": 2})
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trained = result.model.eval()(pixel_values=pixels).logits
        loaded = load_adapter(str(result.folder))
        again = loaded(pixel_values=pixels).logits
        merged = load_adapter(str(result.folder), merge=True)(pixel_values=pixels).logits
    torch.testing.assert_close(again, trained, rtol=0, atol=1e-6)
    torch.testing.assert_close(merged, trained, rtol=0, atol=1e-5)
    saved = load_file(result.folder / "adapter_model.safetensors")
    assert any("classifier" in name for name in saved) and any("lora_A" in name for name in saved)
    assert not (result.folder / "model.safetensors").exists()
    head = result.model.get_base_model().classifier.modules_to_save["default"].weight
    assert not torch.equal(head, torch.zeros_like(head)) and head.requires_grad
    assert "load_adapter" in (result.folder / "README.md").read_text()


@pytest.mark.slow
def test_a_merged_adapter_is_a_plain_model(bodies, digits, tmp_path):
    model = bodies("images 2.0")
    plain = digits(model, tmp_path / "merged", peft="lora", merge=True)
    adapter = digits(model, tmp_path / "adapter", peft="lora")
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = adapter.model.eval()(pixel_values=pixels).logits
        actual = plain.model.eval()(pixel_values=pixels).logits
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert (plain.folder / "model.safetensors").exists() and not (plain.folder / "adapter_config.json").exists()


def test_a_resumed_run_ends_equal(bodies, digits, tmp_path):
    settings = {
        "save_strategy": "steps",
        "save_steps": 3,
        "eval_strategy": "no",
        "mixup": 0.8,
        "cutmix": 1.0,
        "layer_decay": 0.8,
        "head_only_steps": 4,
        "rand_augment": "rand-m9-mstd0.5-inc1",
        "save_total_limit": None,
    }
    model = bodies("images 2.0", drop_path_rate=0.2)
    whole = digits(model, tmp_path / "whole", **settings)
    (tmp_path / "resumed").mkdir()
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "resumed" / "checkpoint-3")
    resumed = digits(model, tmp_path / "resumed", **settings, resume=True)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_a_weighted_draw_brings_rare_classes_and_goes_on_after_a_resume(bodies, digits, tmp_path):
    """Sixteen samples an epoch, mixed as in training; resumed within an epoch."""
    settings = {"weighted_draw": 16, "mixup": 0.8, "save_strategy": "steps", "save_steps": 3, "save_total_limit": None}
    settings |= {"eval_split": None, "max_steps": 6, "logging_steps": 1}
    model = bodies("images 2.0")
    whole = digits(model, tmp_path / "whole", **settings)
    samples, sampler = whole.trainer.train_dataset, whole.trainer.get_train_dataloader().batch_sampler
    assert len(sampler) == 2 and whole.trainer.state.num_train_epochs == 3
    labels = np.array(samples.dataset["label"])
    np.testing.assert_allclose(sampler.weights, 1 / np.bincount(labels)[labels])
    (tmp_path / "resumed").mkdir()
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "resumed" / "checkpoint-3")
    resumed = digits(model, tmp_path / "resumed", **settings, resume=True)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    losses = [[entry["loss"] for entry in one.trainer.state.log_history if "loss" in entry] for one in (whole, resumed)]
    assert losses[0] == losses[1] and len(losses[0]) == 6


def test_batches_of_similar_lengths_are_the_tasks_training_batches(bodies, digits, tmp_path):
    """Its collator for training, which mixes labels, was lost where batches are bounded by a length."""
    trainer = digits(bodies("images 2.0"), tmp_path / "run", mixup=0.8, max_steps=1, eval_split=None).trainer
    samples = trainer.train_dataset
    samples.lengths = [64 + number % 3 for number in range(len(samples))]
    args = replace(trainer.args, max_batch_length=600)
    again = FinetuningTrainer(trainer.model, args, trainer.task, train_dataset=samples)
    batches = list(again.get_train_dataloader())
    assert max(len(batch["labels"]) for batch in batches) == 9
    labels = batches[0]["labels"]
    assert labels.shape[1:] == (10,) and ((labels > 0).sum(1) == 2).any()
    again.evaluate(samples)  # the batches that are evaluated hold classes


def test_mixed_precision_is_no_reason_to_doubt_what_was_saved(bodies, digits, tmp_path):
    """bf16 rounds logits by more than a reloaded model may be off; the run ended with "please report this"."""
    result = digits(bodies("images 2.0"), tmp_path / "run", bf16=True, learning_rate=1e-2, max_steps=30)
    assert (tmp_path / "run" / "README.md").is_file()
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "run").eval()
    pixels = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(again(pixels).logits, result.model.eval()(pixels).logits, rtol=1e-3, atol=1e-4)


def test_only_the_head_moves_in_the_first_steps(bodies, digits, tmp_path):
    model = bodies("images 2.0")
    before = load_file(model / "model.safetensors")
    held = digits(model, tmp_path / "held", head_only_steps=3, max_steps=3).model.state_dict()
    freed = digits(model, tmp_path / "freed", head_only_steps=2, max_steps=3, eval_split=None).model.state_dict()
    encoder = [name for name in before if name.startswith("data2vec2_vision.") and name in held]
    assert all(torch.equal(held[name], before[name]) for name in encoder)
    assert not all(torch.equal(freed[name], before[name]) for name in encoder)
    assert not torch.equal(held["classifier.bias"], torch.zeros(10))


def test_the_best_checkpoint_is_saved_and_patience_ends_the_run(bodies, digits, tmp_path):
    settings = {"max_steps": -1, "num_train_epochs": 6, "learning_rate": 0.0, "patience": 1}
    result = digits(bodies("images 2.0"), tmp_path, **settings)
    state = result.trainer.state
    assert state.global_step == 16 and state.best_global_step == 8  # nothing gets better after the first epoch
    assert result.metrics["validation"]["accuracy"] == state.best_metric


def test_accumulated_micro_batches_equal_a_bigger_batch(bodies, digits, tmp_path):
    model = bodies("images 2.0")
    settings = {"max_steps": 2, "learning_rate": 1e-3, "eval_split": None, "max_grad_norm": 0.0, "optim": "sgd"}
    one = digits(model, tmp_path / "one", per_device_train_batch_size=8, **settings)
    two = digits(model, tmp_path / "two", per_device_train_batch_size=4, gradient_accumulation_steps=2, **settings)
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(two.model.state_dict()[name], weight, rtol=0, atol=1e-6)


def test_a_classifier_is_published(hub, bodies, digits, tmp_path):
    settings = {"push_to_hub": True, "hub_model_id": "anna/digits", "hub_token": "hf_anna", "max_steps": 2}
    result = digits(bodies("images 2.0"), tmp_path / "out", **settings)
    again = AutoModelForImageClassification.from_pretrained("anna/digits", cache_dir=tmp_path / "cache")
    trained = result.model.state_dict()
    assert all(torch.equal(weight, trained[name]) for name, weight in again.state_dict().items())
    with pytest.raises(ValueError, match="--push_to_hub publishes whole models: with --peft, add --merge"):
        digits(bodies("images 2.0"), tmp_path / "other", peft="lora", **settings)


def test_held_out_rows_come_from_each_class_but_the_rare_one(bodies, tmp_path, caplog):
    rows = [{"text": f"some words {number}", "label": str(number % 3)} for number in range(12)]
    write_rows(tmp_path / "train.jsonl", [*rows, {"text": "only once", "label": "9"}])
    model, data = str(bodies("text 2.0")), str(tmp_path / "train.jsonl")
    for seed in (0, 3):
        options = FinetuningOptions(model, data, "text-classification", eval_fraction=0.3)
        args = FinetuningArguments(
            str(tmp_path / f"out{seed}"), use_cpu=True, max_steps=1, seed=seed, save_strategy="no", disable_tqdm=True
        )
        result = finetune(options, args)
        held = [row["label"] for row in result.trainer.eval_dataset.dataset]
        assert set(held) == {"0", "1", "2"} and len(held) == 4
        assert list(result.model.config.id2label.values()) == ["0", "1", "2", "9"]
        assert "trained on, but not evaluated: '9'" in caplog.text


# ---- wrong input ----


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ({"--task": "translation"}, ["--task is 'translation'", "ctc", "image-classification"]),
        ({"--task": "ctc"}, ["data2vec2-vision, which can't do ctc", "image-classification, semantic-segmentation"]),
        ({"--model": "/missing"}, ["--model '/missing' can't be loaded"]),
        ({"--label_column": "colour"}, ["no column 'colour', only ['image', 'label']"]),
        ({"--eval_split": "dev"}, ["has no split 'dev', only ['test', 'train']"]),
        ({"--eval_fraction": "0.1"}, ["--eval_fraction and --eval_split"]),
        ({"--peft": "lorra"}, ["peft is 'lorra'", "lora"]),
        ({"--peft": "lora", "--peft_config": "rank=4"}, ["unknown key 'rank'"]),
        ({"--merge": None}, ["--merge merges an adapter", "--peft"]),
        ({"--freeze": "head"}, ["freeze is 'head'", "'feature_encoder'"]),
        ({"--freeze": "9"}, ["freeze is '9'", "below 4"]),
        ({"--layer_decay": "1.5"}, ["layer_decay is 1.5"]),
        ({"--rand_augment": "m9"}, ["rand_augment is 'm9'", "rand-m9-mstd0.5-inc1"]),
        ({"--config": "drop_path=0.1"}, ["unknown key 'drop_path'", "drop_path_rate"]),
        ({"--limit": "0"}, ["--limit is 0"]),
        ({"--recipe": "glue-colla"}, ["did you mean glue-cola?"]),
        ({"--recipe": "glue-cola", "--task": "image-classification"}, ["glue-cola is a recipe for data2vec2-text"]),
    ],
    ids=lambda value: " ".join(f"{name} {text}" for name, text in value.items()) if isinstance(value, dict) else "",
)
def test_wrong_use_is_explained_in_one_line(argv, parts, data, bodies, tmp_path, capsys):
    given = {
        "--task": "image-classification",
        "--model": bodies("images 2.0"),
        "--dataset": data["image-classification"],
    }
    given |= {"--eval_split": "test"} | argv
    words = [part for name, value in given.items() for part in ((name,) if value is None else (name, value))]
    code, _, err = run(capsys, *words, "--use_cpu", "--output_dir", tmp_path)
    lines = [line for line in err.splitlines() if line.startswith("data2vec finetune:")]
    assert code == 2 and len(lines) == 1
    assert all(part in lines[0] for part in parts), lines[0]
    assert not list(tmp_path.glob("checkpoint-*"))
