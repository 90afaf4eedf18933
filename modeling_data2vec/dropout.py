"""Dropout that costs little on a CPU: 16 random bits a number, made again in the backward pass instead of kept.

torch draws a number of full precision for each value, one after the other, and keeps the mask in fp32. Here its
generator gives a key for each position; the rest is arithmetic on the keys (`counter_rng.py`), in pieces that stay in
the processor's cache. A GPU has fused kernels for dropout, so there torch's own runs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .counter_rng import random_lanes

DROPOUT_STREAM = 4  # of `counter_rng`; masking.py lists all
LEVELS = 2**16  # of a random number
PIECE = 2**18  # numbers that are worked on at once: 1 MiB in fp32


def runs_here(device: torch.device, rate: float) -> bool:
    """Whether this dropout is the one to take: on a CPU, unless nothing or everything is dropped."""
    return device.type == "cpu" and 0 < rate < 1 - 0.5 / LEVELS


def draw_keys(shape: tuple[int, ...]) -> Tensor:
    """Draw int32 keys from torch's generator: a resumed run or a checkpointed layer gets the same ones again."""
    return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32)


def survivors(keys: Tensor, count: int, rate: float, dtype: torch.dtype) -> tuple[Tensor, float]:
    """Draw which of `count` numbers of each key survive.

    Args:
        keys: int32 [...].
        count: numbers for each key.
        rate: the share to be dropped; it is rounded to steps of 1/65536.
        dtype: of the result.

    Returns:
        1 where a number survives and 0 where it is dropped, [..., count]; and the scale of those that survive, with
        which the mean is exact, too, for the rounded rate.
    """
    dropped = round(rate * LEVELS)
    lanes = random_lanes(keys.flatten(), count, DROPOUT_STREAM)
    # In place the comparison stays with 16 bits; bool would be slow to make and slow to multiply with.
    kept = lanes.ge_(dropped - LEVELS // 2).to(dtype)
    return kept.view(*keys.shape, count), LEVELS / (LEVELS - dropped)


class _Dropout(torch.autograd.Function):
    """Dropout of [N, D] by [N] keys. It multiplies by the same numbers in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keys: Tensor, rate: float) -> Tensor:
        ctx.save_for_backward(keys)
        ctx.rate = rate
        if torch.compiler.is_compiling():  # a compiler makes pieces of its own
            kept, scale = survivors(keys, x.shape[1], rate, x.dtype)
            return x * kept.mul_(scale)
        output = torch.empty_like(x)
        rows = max(1, PIECE // x.shape[1])
        for some, its_keys, its_output in zip(x.split(rows), keys.split(rows), output.split(rows), strict=True):
            kept, scale = survivors(its_keys, x.shape[1], rate, x.dtype)
            torch.mul(some, kept.mul_(scale), out=its_output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (keys,) = ctx.saved_tensors
        return _Dropout.apply(gradients[0], keys, ctx.rate), None, None


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Zero values at random and scale the others up; any shape [..., D].

    Args:
        x: any floating-point tensor.
        rate: the probability of a value to be dropped.
        training: False to change nothing.

    Example:
        >>> x = dropout(torch.ones(1000, 64), 0.25, training=True)
        >>> x.unique(), 0.98 < x.mean() < 1.02
        (tensor([0.0000, 1.3333]), tensor(True))
    """
    if not training or rate == 0.0:
        return x
    if not runs_here(x.device, rate) or x.ndim == 0:
        return F.dropout(x, rate)
    rows = x.reshape(-1, x.shape[-1])  # [N, D]
    return _Dropout.apply(rows, draw_keys((rows.shape[0],)), rate).view(x.shape)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, by the function above."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape [..., D]."""
        return dropout(input, self.p, self.training)
