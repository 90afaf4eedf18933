"""Training one trunk on several modalities: gradients, health, the order of modalities, and what is logged."""

import math

import datasets
import pytest
import torch
from tiny_runs import Sentences, arguments, tiny_joint_model, tiny_mix
from transformers import TrainerCallback

from modeling_data2vec.trainers import CollapseError, Data2VecTrainer, diagnose
from modeling_data2vec.trainers.data.samples import IterableSampleDataset
from modeling_data2vec.trainers.data.streams import Stream
from modeling_data2vec.trainers.modalities.mixture import JointCollator, MixtureDataset, MixtureSource
from modeling_data2vec.trainers.monitoring.modality_logs import by_modality

NAMES = ("audio", "text", "vision")


class Rows(Sentences):
    """As `Sentences`, of rows."""

    def __call__(self, example, rng):
        return super().__call__(example["number"], rng)


class Gradients(TrainerCallback):
    """Keeps the gradients of the first optimizer step."""

    def __init__(self):
        self.found = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self.found:
            self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def train(folder, model=None, mix=None, callback=None, **overrides) -> Data2VecTrainer:
    model = model or tiny_joint_model()
    settings = {"gradient_accumulation_steps": 3, "max_grad_norm": 0.0, "max_steps": 3} | overrides
    trainer = Data2VecTrainer(model, arguments(folder, **settings), train_dataset=mix or tiny_mix(model))
    if callback:
        trainer.add_callback(callback)
    trainer.train()
    return trainer


def test_a_step_is_the_weighted_sum_of_the_modalities_gradients(tmp_path):
    """Each part computed apart from the trainer, as one batch of all that the modality has in this step."""
    weights = {"audio": 2.0, "text": 0.5, "vision": 1.0}
    seen = Gradients()
    fields = {"modality_norms": True, "modality_lora_rank": 2}
    model = tiny_joint_model(loss_weights=weights, **fields)
    trainer = train(tmp_path, model, callback=seen, max_steps=1, gradient_accumulation_steps=6)
    batches = list(trainer.get_train_dataloader().batch_sampler)[:6]
    mix = trainer.train_dataset
    expected: dict[str, torch.Tensor] = {}
    for name in NAMES:
        places = [place for batch in batches for place in batch if place[0] == name]
        assert len(places) == 8
        fresh = tiny_joint_model(loss_weights=weights, **fields).train()
        fresh(**JointCollator(fresh.config)([mix[place] for place in places])).loss.backward()
        for parameter, value in fresh.named_parameters():
            if value.grad is not None:
                part = weights[name] / sum(weights.values()) * value.grad
                expected[parameter] = expected.get(parameter, 0.0) + part
    assert seen.found.keys() == expected.keys()
    assert any("differences.text" in name for name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(seen.found[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("mixing", ["accumulate", "step"])
def test_all_modalities_are_logged_at_every_log(tmp_path, mixing):
    trainer = train(tmp_path, mixing=mixing, logging_steps=3, max_steps=6)
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in entries] == [3, 6]
    for entry in entries:
        for name in NAMES:
            for figure in ("loss", "regression_loss", "target_std", "target_spread", "student_rank"):
                assert math.isfinite(entry[f"{name}/{figure}"]), (name, figure)
        assert entry["vision/loss"] > entry["vision/regression_loss"] > 0  # it has a CLS loss as well
        assert "target_std" not in entry and "ema_decay" in entry
        assert entry["loss"] == pytest.approx(sum(entry[f"{name}/loss"] for name in NAMES) / 3, rel=1e-4)
    assert list(by_modality(trainer.state.log_history)) == list(NAMES)


def test_one_modality_a_step_leaves_the_others_alone(tmp_path):
    seen = Gradients()
    train(tmp_path, mixing="step", gradient_accumulation_steps=2, max_steps=1, callback=seen)
    heads = {name.split(".")[1] for name in seen.found if name.startswith("head.")}
    assert heads == {"audio"}


def test_a_part_of_the_modalities_can_be_trained(tmp_path):
    model = tiny_joint_model()
    part = MixtureDataset({"text": tiny_mix(model).sources["text"]})
    trainer = train(tmp_path, model, part, gradient_accumulation_steps=1)
    assert "text/loss" in trainer.state.log_history[0] and "audio/loss" not in trainer.state.log_history[0]


def test_gradient_cosines_are_logged(tmp_path):
    trainer = train(tmp_path, logging_steps=1, gradient_cosine_steps=2, max_steps=4)
    pairs = [f"gradient_cosine/{pair}" for pair in ("audio_text", "audio_vision", "text_vision")]
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [all(pair in entry for pair in pairs) for entry in entries] == [False, True, False, True]
    values = torch.tensor([entries[1][pair] for pair in pairs])
    assert bool((values.abs() < 1).all()) and bool((values != 0).all())
    assert all(entries[1][f"gradient_norm/{name}"] > 0 for name in ("audio", "text", "vision"))


def test_watching_cosines_does_not_change_the_run(tmp_path):
    watched, plain = (train(tmp_path, gradient_cosine_steps=steps) for steps in (1, 0))
    states = watched.model.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in plain.model.state_dict().items())


def test_a_collapsed_modality_is_named(tmp_path):
    model = tiny_joint_model()
    projection = model.base_model.feature_encoders["audio"].feature_projection
    with torch.no_grad():
        projection.weight.zero_()  # what is left is position
    projection.weight.requires_grad_(False)
    with pytest.raises(CollapseError, match="The run's audio part collapsed .*position alone explains") as error:
        train(tmp_path, model, max_steps=8, health_start_step=1)
    assert str(error.value).count("position alone explains") == 1


def test_a_healthy_part_of_a_log_is_not_accused():
    healthy = {"regression_loss": 3.0, "constant_loss": 4.0, "target_std": 0.9, "prediction_std": 0.5}
    healthy |= {"target_spread": 0.2, "position_explained": 0.5, "feature_encoder_std": 0.6, "student_rank": 8.0}
    history = []
    for step in range(1, 9):
        spread = 0.2 if step < 4 else 0.001
        parts = {"audio": healthy, "text": healthy | {"target_spread": spread}}
        figures = {f"{name}/{key}": value for name, part in parts.items() for key, value in part.items()}
        history.append({"step": step, "loss": 3.0, "audio/loss": 3.0, "text/loss": 3.0} | figures)
    parts = by_modality(history)
    verdicts = {name: diagnose(part, start_step=0, patience=3, modality=name) for name, part in parts.items()}
    assert verdicts["audio"] is None
    assert verdicts["text"].startswith("The run's text part collapsed at or before step 8: the teacher's layers")


@pytest.mark.parametrize("kind", ["one modality a step", "a stream", "a stream and a worker"])
def test_a_resumed_run_goes_on_in_every_source(tmp_path, kind):
    """Beside the whole runs that test_resume.py kills: the state after the middle, bit for bit."""
    options = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8, "save_total_limit": 3}
    options |= {"mixing": "step"} if kind == "one modality a step" else {}
    options |= {"dataloader_num_workers": 1} if "worker" in kind else {}

    def start(folder, resume=None):
        model = tiny_joint_model()
        mix = tiny_mix(model)
        if "stream" in kind:
            rows = datasets.Dataset.from_dict({"number": list(range(10))}).to_iterable_dataset()
            rows = Stream(rows, seed=0) if "worker" in kind else rows.shuffle(seed=0)
            mix.sources["text"] = MixtureSource(IterableSampleDataset(rows, Rows()), batch_size=4)
        args = arguments(folder, gradient_accumulation_steps=3, **options)
        trainer = Data2VecTrainer(model, args, train_dataset=mix)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = start(tmp_path / "whole")
    resumed = start(tmp_path / "again", resume=str(tmp_path / "whole" / "checkpoint-4"))
    states = whole.model.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in resumed.model.state_dict().items())
    losses = [[entry["audio/loss"] for entry in t.state.log_history if "audio/loss" in entry] for t in (whole, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps is 4"),
        ({"mixing": "step", "gradient_cosine_steps": 5}, "gradient_cosine_steps is 5"),
    ],
)
def test_settings_that_do_not_fit_a_mix_are_refused(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, **overrides)


def test_data_of_another_modality_are_refused(tmp_path):
    whole = tiny_joint_model()
    with pytest.raises(ValueError, match=r"modalit.*text.*audio"):
        train(tmp_path, tiny_joint_model(["text", "vision"]), tiny_mix(whole))
