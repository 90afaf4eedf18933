"""Random numbers that are a pure function of a key: same key, same numbers, in any batch, process or worker.

A stateful generator makes a sample's mask depend on what was drawn before it, hence on batch size, accumulation, the
number of processes and where a run was resumed. Here each row of a batch has a 32-bit key and number i of that row is
a hash of (key, i), so whole batches are drawn at once and rows never disturb each other (the idea of Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"; the mixing function is MurmurHash3's 32-bit finaliser).
"""

import math

import torch
from torch import Tensor


def _mix32(x: Tensor) -> Tensor:
    """Mix int32 bits in place; products wrap around, as the hash needs."""
    x ^= (x >> 16) & 0xFFFF  # `>>` keeps the sign: the masks make the shifts logical
    x *= -2048144789  # 0x85EBCA6B as int32
    x ^= (x >> 13) & 0x7FFFF
    x *= -1028477387  # 0xC2B2AE35 as int32
    x ^= (x >> 16) & 0xFFFF
    return x


def _to_int32(value: int) -> int:
    return (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)


def derive_keys(keys: Tensor, value: int | Tensor) -> Tensor:
    """Derive a new key from each key and a number, e.g. an epoch, a sample's id or the index of a mask.

    Args:
        keys: int32 tensor of any shape.
        value: an integer, or an integer tensor that broadcasts against `keys`.

    Returns:
        int32 tensor of the broadcast shape.

    Example:
        >>> keys = derive_keys(derive_keys(torch.tensor(7, dtype=torch.int32), 3), torch.arange(4))
        >>> keys.shape, keys.dtype
        (torch.Size([4]), torch.int32)
    """
    value = torch.as_tensor(value, dtype=torch.int64, device=keys.device)
    low, high = value.to(torch.int32), (value >> 32).to(torch.int32)  # .to(int32) keeps the low 32 bits
    mixed = _mix32(low * -1640531527 ^ _mix32(high + 1))  # 0x9E3779B9: spreads small integers over all bits
    return _mix32(_mix32(keys + 1013904223) ^ mixed)


def _bits(keys: Tensor, count: int, stream: int) -> Tensor:
    """[N] keys to [N, count] int32 with all 32 bits random; `stream` separates uses of the same key."""
    counters = torch.arange(count, dtype=torch.int32, device=keys.device) * -1640531527
    counters = _mix32(counters ^ _to_int32(stream * 0x3C6EF372 + 0x1B873593))
    return _mix32(counters[None, :] ^ keys.to(torch.int32)[:, None])  # [N, count]


def uniform(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """Numbers in [0, 1), [N, count] fp32, for [N] int32 keys."""
    return ((_bits(keys, count, stream) >> 8) & 0xFFFFFF).to(torch.float32) * 2**-24


def normal(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """Standard normal numbers, [N, count] fp32, for [N] int32 keys (Box-Muller transform)."""
    # Two uniform numbers make two normal ones: a radius from one half of them, an angle from the other.
    half = (count + 1) // 2
    both = uniform(keys, 2 * half, stream)  # [N, 2 * half]
    radius = torch.sqrt_(torch.log1p(both[:, :half].neg()).mul_(-2.0))
    angle = both[:, half:] * (2 * math.pi)
    return torch.cat([radius * angle.cos(), radius.mul_(angle.sin_())], dim=1)[:, :count]
