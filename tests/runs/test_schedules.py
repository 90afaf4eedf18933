"""The three-stage schedule, as fine-tuning has it; warm-up, stable stage and decay, whose end need not be known."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import arguments, tiny_joint_model, tiny_mix, tiny_model, tiny_samples

from modeling_data2vec.trainers import Data2VecTrainer
from modeling_data2vec.trainers.runs.schedules import tri_stage


def test_the_end_is_chosen():
    factor = tri_stage(100, (0.1, 0.4, 0.5), 0.05)
    assert [round(factor(step), 4) for step in (0, 10, 50, 75, 100)] == [0.01, 1.0, 1.0, 0.2236, 0.05]
    with pytest.raises(ValueError, match="tri_stage_end is 0, but must be above 0"):
        tri_stage(100, (0.1, 0.4, 0.5), 0)


# ---- warm-up, stable stage, decay ----

STAGES = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 3}}
STAGES |= {"warmup_steps": 2, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}


def train(folder: Path, max_steps: int, resume: bool | str = False, **settings) -> Data2VecTrainer:
    model = tiny_model()
    args = arguments(folder, max_steps=max_steps, **STAGES | settings)
    trainer = Data2VecTrainer(model, args, train_dataset=tiny_samples(model))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def logged(trainer: Data2VecTrainer, *names: str) -> list[tuple[float, ...]]:
    return [tuple(entry[name] for name in names) for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages") / "short"
    return folder, train(folder, 8)  # the stable stage ends at step 5, between two saves


def test_the_teacher_follows_the_stage(short):
    config = tiny_model().config
    rates, decays = zip(*logged(short[1], "learning_rate", "ema_decay"), strict=True)
    assert rates[2:5] == (1e-3, 1e-3, 1e-3) and 0 < rates[-1] < rates[5] and rates[1] == 5e-4
    rising = (config.ema_decay + config.ema_end_decay) / 2
    assert decays == (pytest.approx(rising), *[config.ema_end_decay] * 7)
    assert json.loads((short[0] / "checkpoint-8" / "config.json").read_text())["ema_anneal_end_step"] == 2


def test_a_longer_run_goes_on_from_the_stable_stage_bit_for_bit(short, tmp_path):
    assert sorted(one.name for one in short[0].glob("checkpoint-*")) == ["checkpoint-5", "checkpoint-8"]
    longer = train(tmp_path / "longer", 12)
    shutil.copytree(short[0] / "checkpoint-5", tmp_path / "on" / "checkpoint-5")
    on = train(tmp_path / "on", 12, resume=True)
    names = ("step", "loss", "learning_rate", "ema_decay")
    assert logged(on, *names) == logged(longer, *names)
    weights, expected = (load_file(tmp_path / one / "checkpoint-12" / "model.safetensors") for one in ("on", "longer"))
    for name, value in expected.items():
        assert torch.equal(value, weights[name]), name


def test_what_can_not_go_on_is_said(short, tmp_path, caplog):
    copy = Path(shutil.copytree(short[0], tmp_path / "run"))
    with pytest.raises(
        ValueError, match=r"checkpoint-8 is in the decay of a run of 8 steps.*go on from .*checkpoint-5"
    ):
        train(copy, 12, resume=True)
    train(copy, 8, resume=True)
    assert "is the end of the run" in caplog.text
    shutil.rmtree(copy / "checkpoint-8")
    with pytest.raises(ValueError, match="has 5 steps, but a run of 7 .* take --max_steps 8 or more"):
        train(copy, 7, resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_scheduler_kwargs": None}, "give the steps of the last stage"),
        ({"lr_scheduler_kwargs": {"num_decay_steps": 2, "num_stable_steps": 4}}, "no num_stable_steps"),
        ({"warmup_steps": 0.1}, "--warmup_steps is 0.1, a share of the run"),
        ({"warmup_steps": 6}, "--max_steps is 8, but the warm-up takes 6 steps and the decay 3"),
    ],
)
def test_stages_that_can_not_be_meant(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, max_steps=8, **STAGES | settings)


def test_the_teacher_of_a_joint_model_follows_as_well(tmp_path):
    model = tiny_joint_model(("vision", "text"))
    settings = {"warmup_steps": 1, "save_strategy": "no", "lr_scheduler_kwargs": {"num_decay_steps": 1}}
    args = arguments(tmp_path, max_steps=3, gradient_accumulation_steps=2, **STAGES | settings)
    trainer = Data2VecTrainer(model, args, train_dataset=tiny_mix(model))
    trainer.train()
    assert [decay for (decay,) in logged(trainer, "ema_decay")] == [model.config.ema_end_decay] * 3
