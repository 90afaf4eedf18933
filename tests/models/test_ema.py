"""ema.py: parity of the schedules with the authors' code, and what an average must and must not touch."""

import differences
import pytest
import reference_cases
import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from modeling_data2vec.ema import copy_weights, ema_decay_at, update_ema
from modeling_data2vec.trainers.runs.schedules import TRI_STAGE_START, tri_stage


def entries(part: str) -> list[tuple[str, str]]:
    names = reference_cases.names("schedules*")
    return [(name, entry) for name in names for entry in reference_cases.load(name).info.get(part, {})]


def weighted(value: float, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """A module whose only weight is `value`."""
    module = nn.Linear(1, 1, bias=False).to(dtype)
    nn.init.constant_(module.weight, value)
    return module


@pytest.mark.parametrize(("name", "entry"), entries("ema"))
def test_reference_schedules_ema(name, entry):
    schedule = reference_cases.load(name).info["ema"][entry]
    settings = {key: schedule[key] for key in ("ema_decay", "ema_end_decay", "ema_anneal_end_step")}
    for step, expected, stepped in schedule["step_decay_stepped"]:
        decay = ema_decay_at(step, **settings)
        assert abs(decay - expected) <= 1e-12, step
        teacher = weighted(0.0)
        update_ema(teacher, weighted(1.0), decay)
        assert teacher.weight.item() == pytest.approx(1.0 - decay if stepped else 0.0, rel=1e-6), step


@pytest.mark.parametrize(("name", "entry"), entries("lr"))
def test_reference_schedules_lr(name, entry):
    schedule = reference_cases.load(name).info["lr"][entry]
    if schedule["type"] == "tri_stage":
        assert schedule["other"]["init_lr_scale"] == schedule["other"]["final_lr_scale"] == TRI_STAGE_START
        factor = tri_stage(schedule["max_update"], schedule["phase_ratio"])
        for step, expected in schedule["step_lr"]:
            assert schedule["peak_lr"] * factor(step) == pytest.approx(expected, rel=1e-6), step
        return
    assert schedule["type"] == "cosine"
    other, peak, end = schedule["other"], schedule["peak_lr"], schedule["max_update"]
    if other["min_lr"] or other["warmup_init_lr"]:
        pytest.skip("a cosine that starts or ends above 0: no published recipe uses it")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    factor = get_cosine_schedule_with_warmup(optimizer, schedule["warmup_updates"], end).lr_lambdas[0]
    for step, expected in schedule["step_lr"]:
        if step < end:
            # In the very last steps 1 + cos(x) keeps few digits, hence an absolute bound of the peak's rounding.
            assert peak * factor(step) == pytest.approx(expected, rel=1e-6, abs=1e-15 * peak), step
        elif step == end:
            assert expected == pytest.approx(other["lr_shrink"] * peak)
            assert factor(step) == pytest.approx(0.0, abs=1e-12)
            assert "| cosine learning rate at `max_update` |" in differences.section("Different on purpose")


def test_modules_are_paired_by_name_and_the_teacher_may_lack_some():
    student = nn.ModuleDict({"extra": weighted(9.0), "b": weighted(2.0), "a": weighted(4.0)})
    teacher = nn.ModuleDict({"a": weighted(0.0), "b": weighted(0.0)})
    update_ema(teacher, student, 0.75)
    assert teacher["a"].weight.item() == 1.0
    assert teacher["b"].weight.item() == 0.5


def test_a_name_the_student_lacks_is_an_error():
    with pytest.raises(KeyError, match="c.weight"):
        update_ema(nn.ModuleDict({"c": weighted(0.0)}), nn.ModuleDict({"a": weighted(1.0)}), 0.9)


def test_frozen_parameters_and_buffers_are_copied():
    student, teacher = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(student.weight, 3.0)
    nn.init.constant_(student.bias, 5.0)
    student.bias.requires_grad_(False)
    student.running_mean.fill_(7.0)
    student.num_batches_tracked.fill_(11)
    update_ema(teacher, student, 0.5)
    assert teacher.weight.tolist() == [2.0, 2.0]
    assert teacher.bias.tolist() == [5.0, 5.0]
    assert teacher.running_mean.tolist() == [7.0, 7.0]
    assert int(teacher.num_batches_tracked) == 11


@pytest.mark.parametrize("decay", [1.0, 1.5])
def test_from_decay_one_on_nothing_happens(decay):
    student, teacher = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(student.weight, 3.0)
    student.bias.requires_grad_(False).fill_(5.0)
    student.running_mean.fill_(7.0)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    update_ema(teacher, student, decay)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_bf16_student_moves_an_fp32_teacher():
    teacher, student = weighted(1.0), weighted(2.0, torch.bfloat16)
    for _ in range(1000):
        update_ema(teacher, student, 0.999)
    assert teacher.weight.dtype == torch.float32
    assert teacher.weight.item() == pytest.approx(1.632, abs=5e-4)


def test_the_student_stays_as_it_is():
    teacher, student = weighted(1.0), weighted(2.0)
    update_ema(teacher, student, 0.5)
    assert student.weight.item() == 2.0
    assert not teacher.weight.grad_fn


def test_copy_weights_is_exact():
    student, teacher = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(student.weight, 1 / 3)
    student.running_var.fill_(4.0)
    copy_weights(teacher, student)
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in teacher.state_dict().items())
    nn.init.constant_(student.weight, 0.0)
    assert teacher.weight[0].item() == pytest.approx(1 / 3)


def test_copied_weights_follow_at_once():
    student = nn.ModuleDict({"positions": weighted(2.0), "layers": weighted(2.0)})
    teacher = nn.ModuleDict({"positions": weighted(0.0), "layers": weighted(0.0)})
    update_ema(teacher, student, 0.75, copied=("positions.",))
    assert (teacher["positions"].weight.item(), teacher["layers"].weight.item()) == (2.0, 0.5)


@pytest.mark.parametrize("ratios", [(0.5, 0.5), (0.5, 0.5, 0.5), (-0.1, 0.6, 0.5)])
def test_three_stages_are_the_whole_run(ratios):
    with pytest.raises(ValueError, match=r"tri_stage is \[.*three shares.*add up to 1"):
        tri_stage(100, ratios)
