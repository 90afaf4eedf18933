"""Health figures of known tensors, the judgement over a history, and real runs, one healthy and one collapsing."""

import json
import math

import pytest
import torch
from tiny_runs import arguments, digit_images, tiny_model
from transformers import TrainerCallback

from modeling_data2vec.objective import regression_loss
from modeling_data2vec.trainers import CollapseError, Data2VecTrainer, ImageMaskCollator, diagnose, measure_health
from modeling_data2vec.trainers.monitoring.health import effective_rank, position_explained, undefined_figures

# ---- figures ----


def with_singular_values(rows: int, values: torch.Tensor, dim: int) -> torch.Tensor:
    """[rows, dim] with mean 0 and these singular values."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rows, len(values) + 1, generator=generator, dtype=torch.float64)
    noise[:, 0] = 1.0  # what is orthogonal to it has mean 0
    directions = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    return (torch.linalg.qr(noise)[0][:, 1:] * values @ directions[: len(values)]).float()


@pytest.mark.parametrize("rank", [1, 3, 16])
@pytest.mark.parametrize("rows", [20, 300], ids=["wide", "tall"])
def test_effective_rank_of_orthogonal_columns(rank, rows):
    features = with_singular_values(rows, torch.ones(rank), 32)
    # Rounding to fp32 is noise in the other directions; its square root, as a singular value, is not tiny.
    assert float(effective_rank(features)) == pytest.approx(rank, rel=0.05)
    assert float(effective_rank(1000 * features + 5)) == pytest.approx(rank, rel=0.05)


def test_effective_rank_of_unequal_columns():
    """RankMe, eq. 1, written out."""
    values = torch.tensor([4.0, 2.0, 1.0, 1.0])
    features = with_singular_values(100, values, 8)
    shares = values / values.sum()
    expected = torch.exp(-(shares * shares.log()).sum())
    assert float(effective_rank(features)) == pytest.approx(float(expected), rel=0.01)


def test_effective_rank_of_what_does_not_vary():
    assert float(effective_rank(torch.ones(50, 8) * torch.arange(8))) == pytest.approx(1.0, abs=1e-3)
    for bad in (math.nan, math.inf):
        features = torch.randn(50, 8)
        features[3, 3] = bad
        assert math.isnan(float(effective_rank(features)))


def test_effective_rank_of_many_rows_is_that_of_some():
    features = torch.randn(100_000, 16, generator=torch.Generator().manual_seed(0))
    assert float(effective_rank(features)) == pytest.approx(16, rel=0.01)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch", [2, 4, 64])
def test_position_explained(batch):
    content, position = noise(batch, 49, 32), noise(1, 49, 32)
    assert float(position_explained(position.expand(batch, -1, -1))) == pytest.approx(1.0, abs=1e-4)
    assert float(position_explained(content)) < 0.05
    other = torch.randn(1, 49, 32, generator=torch.Generator().manual_seed(1))
    assert float(position_explained(other.expand(batch, -1, -1) + content)) == pytest.approx(0.5, abs=0.05)
    # What is the same at all positions of a sample is content, too.
    assert float(position_explained(noise(batch, 1, 32).expand(-1, 49, -1))) < 0.05


def test_position_explained_is_nan_only_where_no_position_has_two_samples():
    assert math.isnan(float(position_explained(noise(1, 49, 32))))
    assert math.isnan(float(position_explained(noise(4, 1, 32))))
    valid = torch.zeros(2, 49, dtype=torch.bool)
    valid[0] = True  # of the other sample there is nothing but padding
    assert math.isnan(float(position_explained(noise(2, 49, 32), valid)))
    valid[1, :2] = True
    assert 0 <= float(position_explained(noise(2, 49, 32), valid)) <= 1
    assert float(position_explained(torch.zeros(4, 49, 32))) == 1  # the same for every sample


def test_what_padding_holds_is_no_matter():
    """NaN there, as a front-end of one's own may leave it, is not NaN in the figure."""
    valid = torch.arange(49) < torch.tensor([49, 30, 20, 10])[:, None]
    targets = noise(4, 49, 32)
    expected = position_explained(targets, valid)
    targets[~valid] = math.nan
    torch.testing.assert_close(position_explained(targets, valid), expected)


def test_every_figure_that_may_be_nan_has_words_for_it():
    """All figures of single samples with one hidden position, and of constant targets."""
    model = tiny_model()
    images = digit_images(model.config)
    for count, hidden in ((1, 10), (1, 1), (2, 10)):
        batch = ImageMaskCollator(model.config)([images[i] for i in range(count)])
        if hidden == 1:
            batch = {"pixel_values": batch["pixel_values"], "mask": torch.arange(16)[None, None] == 3}
        output = model(**batch)
        figures = measure_health(output, model.config)
        undefined = {name for name, value in figures.items() if math.isnan(value)}
        assert undefined == set(undefined_figures({name: float(value) for name, value in figures.items()}))
        assert ("position_explained" in undefined) == (count == 1)
        assert not undefined or math.isfinite(figures["regression_loss"])
    output.targets = torch.ones_like(output.targets)
    figures = measure_health(output, model.config)
    assert math.isnan(figures["loss_below_constant"]) and float(figures["constant_loss"]) == 0


@pytest.fixture
def measured():
    model = tiny_model(loss_beta=0.5)
    images = digit_images(model.config)
    batch = ImageMaskCollator(model.config)([images[i] for i in range(8)])
    output = model(**batch)
    return model, batch, output, measure_health(output, model.config)


def test_constant_loss_is_the_loss_of_predicting_the_mean(measured):
    _, batch, output, health = measured
    masked = output.targets[:, None].expand(-1, 2, -1, -1)[batch["mask"]]  # [masked, D]
    constant = regression_loss(masked.mean(0), masked, loss_beta=0.5).mean()
    torch.testing.assert_close(health["constant_loss"], constant)
    expected = 1 - output.regression_loss / constant
    torch.testing.assert_close(health["loss_below_constant"], expected.detach())


def test_std_and_cosine_are_those_of_masked_positions(measured):
    _, batch, output, health = measured
    masked = output.targets[:, None].expand(-1, 2, -1, -1)[batch["mask"]]  # [masked, D]
    predictions = output.predictions[batch["mask"]]
    torch.testing.assert_close(health["target_std"], masked.std(0).mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(health["prediction_std"], predictions.detach().std(0).mean(), atol=1e-4, rtol=1e-4)
    cosine = torch.cosine_similarity(predictions, masked, dim=-1).mean()
    torch.testing.assert_close(health["teacher_student_cosine"], cosine.detach())
    torch.testing.assert_close(health["cls_loss"], output.cls_loss.detach())
    assert float(health["masked_fraction"]) == pytest.approx(10 / 16)
    assert all(value.ndim == 0 and not value.requires_grad for value in health.values())


# ---- judgement ----

HEALTHY = {
    "loss": 5.0,
    "regression_loss": 3.0,
    "constant_loss": 4.0,
    "grad_norm": 1.0,
    "target_std": 0.9,
    "prediction_std": 0.5,
    "target_spread": 0.2,
    "position_explained": 0.5,
    "feature_encoder_std": 0.6,
    "student_rank": 8.0,
}


def history(num: int = 10, last: int = 3, **changes: float) -> list[dict]:
    """`num` logs, ten steps apart, the last few of them with changes; between them logs of another kind."""
    entries = [HEALTHY | {"step": 10 * (i + 1)} for i in range(num)]
    for entry in entries[num - last :]:
        entry.update(changes)
    return [part for entry in entries for part in (entry, {"step": entry["step"], "eval_loss": 1.0})]


def judge(entries, start_step=20, patience=3):
    return diagnose(entries, start_step=start_step, patience=patience)


def test_a_healthy_history_has_no_diagnosis():
    assert judge(history()) is None
    assert judge([]) is None
    assert judge([{"step": 1, "loss": 3.0}, {"step": 2, "eval_loss": math.nan}]) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regression_loss": 13.0}, r"loss has diverged: regression_loss 13 is more than 3 times .*\(4\)"),
        (
            {"feature_encoder_std": 0.01},
            r"feature encoder.*hardly depends on the input.*feature_encoder_std 0.01, it was 0.6",
        ),
        ({"target_spread": 0.003}, r"teacher's layers hardly vary.*target_spread 0.003, it was 0.2"),
        ({"student_rank": 1.5}, r"collapsed to few dimensions \(student_rank 1.5, it was"),
        ({"position_explained": 0.991}, r"no longer depend on content: position alone explains 99.1%"),
        ({"target_std": 0.05}, r"targets are constant \(target_std 0.05\)"),
        ({"prediction_std": 0.005}, r"predictions are constant \(prediction_std 0.005\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_every_collapse_is_named_with_remedies(changes, message):
    diagnosis = judge(history(**changes))
    assert diagnosis.startswith("The run collapsed at or before step 100")
    assert "lower learning_rate" in diagnosis and "stop_on_collapse=False" in diagnosis
    with pytest.raises(CollapseError, match=message):
        raise CollapseError(diagnosis)


def test_several_findings_are_all_named():
    diagnosis = judge(history(target_std=0.01, prediction_std=0.001))
    assert "targets are constant" in diagnosis and "predictions are constant" in diagnosis


@pytest.mark.parametrize("name", ["position_explained", "feature_encoder_std", "target_spread", "student_rank"])
def test_nan_hides_no_collapse(name):
    """Neither one in the first log, which others are compared with, nor one among the last."""
    ill = {"position_explained": 0.99, "feature_encoder_std": 1e-3, "target_spread": 1e-3, "student_rank": 1.0}[name]
    entries = history(last=5, **{name: ill})
    entries[0][name] = entries[-4][name] = math.nan
    assert name in judge(entries) or "position alone" in judge(entries)
    always = history()
    for entry in always:
        entry[name] = math.nan
    assert judge(always) is None


def test_patience_and_start_step():
    changes = {"prediction_std": 0.001}
    assert judge(history(last=2, **changes)) is None
    assert judge(history(last=2, **changes), patience=2)
    interrupted = history(last=4, **changes)
    interrupted[-4]["prediction_std"] = 0.5
    assert judge(interrupted) is None
    assert judge(history(**changes), start_step=81) is None
    assert judge(history(**changes), start_step=80)
    assert judge(history(num=3, **changes), start_step=0) is None  # the first log is what later ones are compared with


@pytest.mark.parametrize("name", ["loss", "regression_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_believed_at_once(name, value):
    diagnosis = judge(history(num=1, last=1, **{name: value}), start_step=1000, patience=5)
    assert diagnosis.startswith(f"The run diverged: {name} is {value} at step 10")


def test_an_infinite_gradient_alone_is_none():
    """fp16 finds its loss scale by such steps."""
    assert judge(history(last=1, grad_norm=math.inf)) is None


# ---- real runs ----


def run(tmp_path, model, **overrides) -> Data2VecTrainer:
    settings = {"logging_steps": 5, "health_start_step": 20, "per_device_train_batch_size": 8, "learning_rate": 3e-3}
    args = arguments(tmp_path, **(settings | overrides))
    return Data2VecTrainer(model, args, train_dataset=digit_images(model.config))


@pytest.mark.parametrize("max_steps", [60, pytest.param(150, marks=pytest.mark.slow)])
def test_a_healthy_run_is_not_stopped(tmp_path, max_steps):
    trainer = run(tmp_path, tiny_model(), max_steps=max_steps, warmup_steps=10)
    trainer.train()
    assert trainer.state.global_step == max_steps
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert entries[-1]["loss_below_constant"] > 0.15 > entries[0]["loss_below_constant"]


def test_a_collapse_that_the_loss_does_not_show_is_stopped(tmp_path):
    """A teacher that is the student, and weight decay that takes the input away: only position is left to predict."""
    model = tiny_model(ema_decay=0.0, ema_end_decay=0.0)
    settings = {"weight_decay": 100.0, "lr_scheduler_type": "constant", "warmup_steps": 0}
    trainer = run(tmp_path, model, max_steps=150, **settings)
    with pytest.raises(CollapseError, match="position alone explains (99|100)"):
        trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert entries[-1]["loss"] < entries[len(entries) // 2]["loss"] < entries[0]["loss"]
    assert entries[-1]["target_std"] > 0.5
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    assert state["global_step"] == trainer.state.global_step < 150


class OneChannel(TrainerCallback):
    """Silences all but one channel of the student's output from step 50 on."""

    def on_step_end(self, args, state, control, **kwargs):
        norm = kwargs["model"].base_model.trunk.layers[-1].norm2
        if state.global_step == 50:
            for parameter in norm.parameters():
                parameter.requires_grad_(False)[1:] = 0.0


def test_a_collapse_to_few_dimensions_is_stopped(tmp_path):
    trainer = run(tmp_path, tiny_model(), max_steps=150)
    trainer.add_callback(OneChannel())
    with pytest.raises(CollapseError, match=r"few dimensions \(student_rank 1\b"):
        trainer.train()


def test_a_run_of_single_samples_says_once_that_positions_cannot_be_judged(tmp_path, caplog):
    trainer = run(tmp_path, tiny_model(), max_steps=10, per_device_train_batch_size=1)
    with caplog.at_level("WARNING"):
        trainer.train()
    said = [record.message for record in caplog.records if "is NaN" in record.message]
    assert said == [
        "position_explained is NaN at step 5: no two samples of the micro-batch share a position (it has one sample, "
        "or one position). It is not judged where it is."
    ]


def test_small_targets_without_normalisation_are_not_a_collapse(tmp_path):
    model = tiny_model(instance_norm_target_layer=False, layer_norm_targets=False)
    trainer = run(tmp_path, model, max_steps=60)
    trainer.train()
    assert trainer.state.global_step == 60
