"""Each modality's gradient clipped by itself."""

import pytest
import torch
from tiny_runs import arguments, tiny_joint_model, tiny_mix, tiny_model, tiny_samples

from modeling_data2vec.trainers import Data2VecTrainer
from modeling_data2vec.trainers.pretraining.clipping import ModalityClipping

NAMES = ("audio", "text", "vision")


def test_a_joint_step_is_the_mean_of_what_separate_runs_would_take():
    weights = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    gradients = {"audio": ([3.0, 0.0, 4.0], [0.0, 0.0]), "text": ([0.1, 0.2, 0.0], [0.0, 0.5])}
    shares = {"audio": 0.75, "text": 0.25}
    clipping = ModalityClipping(weights, max_norm=1.0)
    for _ in range(2):  # a second step knows nothing of the first
        clipping.begin_step()
        for weight in weights:
            weight.grad = None
        for name, parts in gradients.items():
            loss = sum((weight * torch.tensor(part)).sum() for weight, part in zip(weights, parts, strict=True))
            (shares[name] * loss).backward()
            clipping.clip(name, shares[name])
        for number, weight in enumerate(weights):
            clipped_audio = torch.tensor(gradients["audio"][number]) / 5
            expected = 0.75 * clipped_audio + 0.25 * torch.tensor(gradients["text"][number])
            torch.testing.assert_close(weight.grad, expected)
    assert clipping.take() == {"audio/clipped": 1.0, "text/clipped": 0.0}


def train(folder, resume=None, **overrides):
    model = tiny_joint_model()
    settings = {"gradient_accumulation_steps": 3, "clip_modalities": True, "max_steps": 4} | overrides
    trainer = Data2VecTrainer(model, arguments(folder, **settings), train_dataset=tiny_mix(model))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_runs_log_how_often_and_resume(tmp_path):
    options = {"max_grad_norm": 0.5, "save_strategy": "steps", "save_steps": 3, "logging_steps": 4}
    whole = train(tmp_path / "a", **options)
    resumed = train(tmp_path / "b", resume=str(tmp_path / "a" / "checkpoint-3"), **options)
    logs = [[entry for entry in run.state.log_history if "loss" in entry][-1] for run in (whole, resumed)]
    assert all(0 <= logs[0][f"{name}/clipped"] <= 1 for name in NAMES) and logs[0]["vision/clipped"] > 0
    assert [logs[0][f"{name}/clipped"] for name in NAMES] == [logs[1][f"{name}/clipped"] for name in NAMES]
    assert logs[0]["grad_norm"] <= 0.5 + 1e-4
    states = whole.model.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in resumed.model.state_dict().items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"max_grad_norm": 0.0}, "max_grad_norm is 0.0"), ({"mixing": "step"}, "mixing is step")],
)
def test_settings_without_meaning_are_named(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=f"clip_modalities is given, but {message}"):
        arguments(tmp_path, clip_modalities=True, **overrides)


def test_one_modality_needs_no_such_clipping(tmp_path):
    model = tiny_model("text 2.0")
    with pytest.raises(ValueError, match="clip_modalities is given, but the run has one modality"):
        Data2VecTrainer(model, arguments(tmp_path, clip_modalities=True), train_dataset=tiny_samples(model))
