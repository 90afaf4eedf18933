"""The teacher of pretraining models: what it has of its own, how it moves, loads and is converted."""

import copy

import pytest
import torch
from image_models import assert_equal_states, batch_for, moved
from tiny_runs import JOINT, KINDS, tiny_joint_model, tiny_model, tiny_samples

from modeling_data2vec import Data2Vec2VisionForPreTraining
from modeling_data2vec.trainers.modalities.names import mask_collator

SCOPES = ("trunk", "encoder", "model")


@pytest.mark.parametrize("scope", SCOPES)
def test_teacher_scope_says_what_the_teacher_has_of_its_own(scope):
    model = tiny_model(teacher_scope=scope)
    parts = {name.split(".")[0] for name, _ in model.teacher.named_parameters()}
    assert parts == ({"trunk"} if scope == "trunk" else {"trunk", "feature_encoder"})
    embeds = {name for name, _ in model.teacher.named_parameters() if "patch_embed" in name}
    assert bool(embeds) == (scope == "model")
    students = dict(model.base_model.named_parameters())
    for name, parameter in model.teacher.named_parameters():
        assert torch.equal(parameter, students[name])

    loss = model(**batch_for(model.config)).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(parameter.grad is not None for parameter in model.base_model.parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())


@pytest.mark.parametrize("scope", SCOPES)
def test_targets_come_from_what_the_scope_covers(scope):
    """Moving the student's patch embedding changes the targets unless the teacher has its own."""
    model = tiny_model(teacher_scope=scope)
    batch = batch_for(model.config)
    before = model(**batch).targets
    with torch.no_grad():
        model.base_model.feature_encoder.patch_embed.weight.mul_(-1)
    assert torch.equal(model(**batch).targets, before) == (scope == "model")


def test_teacher_stays_in_eval_mode():
    model = tiny_model(hidden_dropout=0.5)
    model.train()
    assert model.base_model.training and not any(module.training for module in model.teacher.modules())
    batch = batch_for(model.config)
    assert torch.equal(model(**batch).targets, model(**batch).targets)


def test_state_dict_has_three_parts():
    model = tiny_model()
    assert {name.split(".")[0] for name in model.state_dict()} == {"data2vec2_vision", "teacher", "head"}
    students = {f"teacher.{name}" for name in model.base_model.state_dict()}
    assert {name for name in model.state_dict() if name.startswith("teacher.")} == students


def test_teacher_is_loaded_frozen_and_in_full_precision(tmp_path):
    model = moved(tiny_model())
    model.save_pretrained(tmp_path)
    loaded = Data2Vec2VisionForPreTraining.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert all(parameter.dtype == torch.float32 for parameter in loaded.teacher.parameters())
    assert {parameter.dtype for parameter in loaded.base_model.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in loaded.teacher.parameters())
    assert all(parameter.requires_grad for parameter in loaded.base_model.parameters())
    assert not any(module.training for module in loaded.teacher.modules())
    assert_equal_states(loaded.teacher, model.teacher)
    batch = batch_for(model.config)
    output = loaded(**batch)
    assert output.targets.dtype == torch.float32
    expected = model.eval()(**batch)
    assert float(output.loss.detach()) == pytest.approx(float(expected.loss.detach()), rel=0.05)


CONVERSIONS = {
    "to": lambda model: model.to(torch.bfloat16),
    "to a device and dtype": lambda model: model.to("cpu", torch.float16),
    "bfloat16": lambda model: model.bfloat16(),
    "half": lambda model: model.half(),
    "double": lambda model: model.double(),
    "a copy, twice": lambda model: copy.deepcopy(model.half()).bfloat16(),
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("kind", [*KINDS, JOINT])
def test_the_teacher_of_a_converted_model_still_moves(kind, conversion):
    """An average in half precision stands still: most of its steps are below the weights' rounding."""
    model = tiny_joint_model() if kind == JOINT else tiny_model(kind)
    model.config.ema_decay = model.config.ema_end_decay = 0.999
    exact = {name: value.clone() for name, value in model.teacher.named_parameters()}
    model = CONVERSIONS[conversion](model)
    assert {weight.dtype for weight in model.base_model.parameters()} != {torch.float32}
    for name, value in model.teacher.named_parameters():
        assert value.dtype == (torch.float64 if conversion == "double" else torch.float32), name
        assert torch.equal(value, exact[name].to(value.dtype)), name  # not rounded on the way either
    with torch.no_grad():
        for weight in model.base_model.parameters():
            weight.copy_(weight + 1)
    students = dict(model.base_model.named_parameters())
    for step in range(100):
        model.update_teacher(step + 1)
    for name, value in model.teacher.named_parameters():
        if students[name].requires_grad and not name.startswith(model.copied_into_teacher):
            moved = (value - exact[name]) / (students[name].to(value.dtype) - exact[name])
            torch.testing.assert_close(moved, torch.full_like(moved, 1 - 0.999**100), rtol=1e-3, atol=0, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    ("kind", "scope"),
    [(kind, scope) for kind in KINDS for scope in (SCOPES if kind.endswith("2.0") else ("layers", "model"))],
)
def test_a_converted_model_computes_the_same_loss(kind, scope, dtype, monkeypatch):
    # oneDNN's bf16 kernels for processors with AMX change the loss of 1.0's speech by 16%.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", dtype == torch.float64)
    model = tiny_model(kind, teacher_scope=scope)
    batch = mask_collator(model.config)([tiny_samples(model, 3)[i] for i in range(3)])
    expected = float(model(**batch).loss.detach())
    model = model.to(dtype)
    output = model(**batch)
    output.loss.backward()
    assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-5 if dtype == torch.float64 else 0.1)
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_a_teacher_on_no_device_is_made_in_full_precision():
    with torch.device("meta"):
        model = tiny_model()
    model = model.half().to_empty(device="cpu")
    assert {weight.dtype for weight in model.base_model.parameters()} == {torch.float16}
    assert {weight.dtype for weight in model.teacher.parameters()} == {torch.float32}


def test_checkpoint_without_a_teacher_starts_one_from_the_student(tmp_path, caplog):
    model = moved(tiny_model())
    model.base_model.save_pretrained(tmp_path)
    loaded, info = Data2Vec2VisionForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert "has no teacher" in caplog.text and "copy of the student" in caplog.text
    assert any(key.startswith("teacher.") for key in info["missing_keys"])
    assert_equal_states(loaded.base_model, model.base_model)
    assert_equal_states(loaded.teacher.trunk, model.base_model.trunk)
    assert_equal_states(loaded.teacher.feature_encoder, model.base_model.feature_encoder)
    assert not any(parameter.requires_grad for parameter in loaded.teacher.parameters())
