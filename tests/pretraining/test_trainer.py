"""The trainer: accumulation, teacher, parameter groups, health figures, stopping, saving."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import KINDS, Clips, arguments, digit_images, tiny_model, tiny_samples

from modeling_data2vec.ema import ema_decay_at
from modeling_data2vec.trainers import CollapseError, Data2VecTrainer, Data2VecTrainingArguments, SampleDataset
from modeling_data2vec.trainers.runs.schedules import tri_stage

NAMES = {field.name for field in fields(Data2VecTrainingArguments)}
CHECKPOINTING = "activation_checkpointing" if "activation_checkpointing" in NAMES else "gradient_checkpointing"


def train(tmp_path, model=None, trainer_kwargs=None, **overrides) -> Data2VecTrainer:
    model = model or tiny_model()
    trainer = Data2VecTrainer(
        model, arguments(tmp_path, **overrides), train_dataset=tiny_samples(model, 64), **(trainer_kwargs or {})
    )
    trainer.train()
    return trainer


def largest_difference(a: torch.nn.Module, b: torch.nn.Module) -> float:
    states = b.state_dict()
    return max(float((value - states[name]).abs().max()) for name, value in a.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_accumulation_equals_a_bigger_batch(tmp_path, kind):
    whole = train(tmp_path / "whole", tiny_model(kind), per_device_train_batch_size=32)
    settings = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
    parts = train(tmp_path / "parts", tiny_model(kind), **settings)
    assert largest_difference(whole.model, parts.model) < 1e-6
    assert largest_difference(whole.model, tiny_model(kind)) > 1e-4  # they did move


class UnequalClips(Clips):
    """Clips of many lengths."""

    def __call__(self, example, rng):
        (clip,) = super().__call__(example, rng).values()
        return {"input_values": clip[: 700 + 130 * (example % 7)]}


@pytest.mark.parametrize("kind", ["speech 2.0", "speech 1.0"])
def test_accumulation_equals_a_bigger_batch_of_unequal_clips(tmp_path, kind):
    """Micro-batches that hide unequally many frames, and are padded to different lengths."""

    def run(folder, batch: int, accumulation: int) -> Data2VecTrainer:
        model = tiny_model(kind)
        samples = SampleDataset(range(64), UnequalClips())
        settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation, "optim": "sgd"}
        trainer = Data2VecTrainer(model, arguments(folder, learning_rate=0.05, **settings), train_dataset=samples)
        trainer.train()
        return trainer

    whole, parts = run(tmp_path / "whole", 16, 1), run(tmp_path / "parts", 4, 4)
    assert largest_difference(whole.model, parts.model) < 1e-6
    assert largest_difference(whole.model, tiny_model(kind)) > 1e-4
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_teacher_moves_once_for_each_optimizer_step(tmp_path, kind):
    decays = []
    model = tiny_model(kind)
    update = model.update_teacher
    model.update_teacher = lambda step: decays.append((step, update(step)))
    train(tmp_path, model, gradient_accumulation_steps=3, max_steps=4)
    config = model.config
    schedule = (config.ema_decay, config.ema_end_decay, config.ema_anneal_end_step)
    assert decays == [(step, ema_decay_at(step, *schedule)) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_holds_student_and_teacher_of_the_same_step(tmp_path, kind):
    trainer = train(tmp_path, tiny_model(kind), save_strategy="steps", save_steps=5)
    saved = type(trainer.model).from_pretrained(tmp_path / "checkpoint-5")
    assert largest_difference(trainer.model, saved) == 0.0


def test_three_stages_of_the_learning_rate(tmp_path):
    ratios = [0.2, 0.4, 0.4]
    trainer = train(tmp_path, max_steps=10, tri_stage=ratios, learning_rate=1e-3)
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    factor = tri_stage(10, ratios)
    # Logged is the rate that the next step will have, or had, by the version of transformers.
    expected = [[1e-3 * factor(step + shift) for step in range(10)] for shift in (0, 1)]
    assert any(rates == pytest.approx(values) for values in expected)


TOKENS = ("extra_tokens", "alibi_scale", "cls_token", "mask_token")


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_leaves_out_vectors_and_tokens(tmp_path, kind):
    model = tiny_model(kind)
    trainer = Data2VecTrainer(model, arguments(tmp_path), train_dataset=tiny_samples(model))
    decayed = set(trainer.get_decay_parameter_names(model))
    for name, parameter in model.named_parameters():
        expected = parameter.ndim >= 2 and not name.endswith(TOKENS) and "token_type" not in name
        assert (name in decayed) == expected, name
    groups = trainer.create_optimizer().param_groups
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_log_carries_health_figures(tmp_path, kind):
    trainer = train(tmp_path, tiny_model(kind), max_steps=3)
    entry = trainer.state.log_history[0]
    for name in [
        "loss",
        "regression_loss",
        "constant_loss",
        "loss_below_constant",
        "target_std",
        "prediction_std",
        "target_spread",
        "position_explained",
        "teacher_student_cosine",
        "student_rank",
        "feature_encoder_rank",
        "feature_encoder_std",
        "masked_fraction",
        "ema_decay",
        "samples_per_second",
        "learning_rate",
        "grad_norm",
    ]:
        assert math.isfinite(entry[name]), name
    assert entry["loss"] == pytest.approx(entry["regression_loss"] + entry.get("cls_loss", 0.0), rel=1e-4)
    assert ("cls_loss" in entry) == (kind in ("images 2.0", "spectrograms 2.0"))
    assert 0.2 < entry["masked_fraction"] < 0.7


def test_diverged_run_stops_after_a_checkpoint(tmp_path):
    with pytest.raises(CollapseError, match="diverged.*learning_rate"):
        train(tmp_path, learning_rate=1e12, max_grad_norm=0.0, max_steps=50, lr_scheduler_type="constant")
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    assert state["global_step"] < 50


def test_stopping_can_be_turned_off(tmp_path):
    overrides = {"learning_rate": 1e12, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    trainer = train(tmp_path, stop_on_collapse=False, max_steps=6, **overrides)
    assert trainer.state.global_step == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "overrides",
    [
        {"bf16": True},
        {CHECKPOINTING: True},
        {"dataloader_num_workers": 1},
        {"torch_compile": True, "torch_compile_backend": "aot_eager"},
    ],
    ids=lambda overrides: next(iter(overrides)),
)
def test_training_modes_agree_with_the_plain_run(tmp_path, kind, overrides, monkeypatch):
    if "bf16" in overrides:  # see test_half_precision_keeps_the_teacher_in_fp32
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    plain = train(tmp_path / "plain", tiny_model(kind), max_steps=2)
    other = train(tmp_path / "other", tiny_model(kind), max_steps=2, **overrides)
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (plain, other)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-2 if "bf16" in overrides else 1e-5)
    assert all(parameter.dtype == torch.float32 for parameter in other.model.teacher.parameters())


def test_evaluation_reports_a_loss(tmp_path):
    model = tiny_model()
    images = digit_images(model.config, split="test", augment=False)
    trainer = Data2VecTrainer(model, arguments(tmp_path), train_dataset=images, eval_dataset=images)
    first, second = trainer.evaluate(), trainer.evaluate()
    assert first["eval_loss"] == second["eval_loss"] > 0


def test_empty_dataset_is_an_error(tmp_path):
    model = tiny_model()
    with pytest.raises(ValueError, match="empty"):
        Data2VecTrainer(model, arguments(tmp_path), train_dataset=[])


@pytest.mark.parametrize("kind", KINDS)
def test_final_save_can_be_loaded(tmp_path, kind):
    trainer = train(tmp_path, tiny_model(kind))
    trainer.save_model()
    assert not (tmp_path / ".incomplete").exists()
    assert largest_difference(trainer.model, type(trainer.model).from_pretrained(tmp_path)) == 0.0


def limited_files() -> None:
    """In the child: no file may grow beyond 40 KB, which is what a full disk feels like."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))


def test_full_disk_leaves_the_last_checkpoint_loadable(tmp_path):
    script = [sys.executable, str(Path(__file__).parents[1] / "support" / "tiny_runs.py"), str(tmp_path)]
    subprocess.run([*script, "--steps", "4"], check=True)
    before = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    failed = subprocess.run([*script, "--steps", "8"], preexec_fn=limited_files, capture_output=True, text=True)
    assert failed.returncode != 0
    assert "checkpoint-8 could not be saved" in failed.stderr
    assert "checkpoint-4" in failed.stderr
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith(("checkpoint", "."))) == ["checkpoint-4"]
    after = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    subprocess.run([*script, "--steps", "8"], check=True)  # goes on once there is space
