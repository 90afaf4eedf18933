"""The teacher's weights: an exponential moving average of the student's (arXiv 2202.03555 eq. 1 and §3.3)."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from .full_precision import FullPrecision


class Teacher(FullPrecision):
    """Holds the averaged weights."""


def ema_decay_at(step: int, ema_decay: float, ema_end_decay: float, ema_anneal_end_step: int) -> float:
    """Decay of the average that is taken after optimizer step `step`: a linear ramp, then constant.

    Args:
        step: number of finished optimizer steps, from 1.
        ema_decay: decay τ at step 0.
        ema_end_decay: decay from `ema_anneal_end_step` on. At 1 the teacher stands still.
        ema_anneal_end_step: length of the ramp in optimizer steps.

    Example:
        >>> round(ema_decay_at(50, 0.9, 1.0, 100), 3)
        0.95
    """
    if step >= ema_anneal_end_step or ema_decay == ema_end_decay:
        return ema_end_decay
    remaining = 1 - step / ema_anneal_end_step
    return ema_end_decay - (ema_end_decay - ema_decay) * remaining


def local_shard(tensor: Tensor) -> Tensor:
    """The part of a sharded weight (FSDP2) that this process holds; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, decay: float, copied: tuple[str, ...] = ()) -> None:
    """Move the teacher towards the student in place: `teacher = decay * teacher + (1 - decay) * student`.

    Parameters are paired by name: the teacher may lack some of the student's. Frozen parameters of the student, those
    under the names in `copied`, and all buffers are copied. With a decay of 1 or more nothing happens at all, as in the
    reference. Where both are sharded alike, each process averages its own part.

    Args:
        teacher: module whose parameters and buffers are a subset, by name, of the student's; parameters in fp32.
        student: module with the current weights, in any floating dtype.
        decay: weight of the old teacher, in [0, 1].
        copied: beginnings of parameter names.

    Raises:
        KeyError: if the teacher has a parameter that the student lacks.
    """
    if decay >= 1.0:
        return
    students = dict(student.named_parameters())
    averaged: list[Tensor] = []
    sources: list[Tensor] = []
    for name, parameter in teacher.named_parameters():
        student_parameter = students[name]
        target, source = local_shard(parameter.data), local_shard(student_parameter.data)
        if student_parameter.requires_grad and not name.startswith(copied):
            averaged.append(target)
            sources.append(source.to(target.dtype))
        else:
            target.copy_(source)
    if averaged:
        torch._foreach_lerp_(averaged, sources, 1.0 - decay)
    buffers = dict(student.named_buffers())
    for name, buffer in teacher.named_buffers():
        buffer.copy_(buffers[name])


@torch.no_grad()
def copy_weights(teacher: nn.Module, student: nn.Module, names: Collection[str] | None = None) -> None:
    """Set the teacher's weights, or those called `names`, to exact copies of the student's, by name."""
    states = student.state_dict()
    for name, value in teacher.state_dict().items():
        if names is None or name in names:
            value.copy_(states[name])
