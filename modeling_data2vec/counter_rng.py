"""Random numbers that are a pure function of a key: same key, same numbers, in any batch, process or worker.

A stateful generator makes a sample's mask depend on what was drawn before it, hence on batch size, accumulation, the
number of processes and where a run was resumed. Here each row of a batch has a 32-bit key and number i of that row is
a hash of (key, i), so whole batches are drawn at once and rows never disturb each other (the idea of Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"; the mixing function is MurmurHash3's 32-bit finaliser).
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

FIRST, SECOND = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)  # MurmurHash3's factors
SMALL = 1 << 15  # numbers that torch mixes on one thread anyway, and numpy by cheaper calls


def _mix32(x: Tensor) -> Tensor:
    """Mix int32 bits in place; products wrap around, as the hash needs."""
    # Tensors that trace a program are of a subclass, and have no array to share memory with.
    if x.device.type == "cpu" and x.numel() <= SMALL and type(x) is Tensor and not torch.compiler.is_compiling():
        bits = x.numpy().view(np.uint32)
        bits ^= bits >> 16
        bits *= FIRST
        bits ^= bits >> 13
        bits *= SECOND
        bits ^= bits >> 16
        return x
    x ^= (x >> 16) & 0xFFFF  # `>>` keeps the sign: the masks make the shifts logical
    x *= -2048144789  # 0x85EBCA6B as int32
    x ^= (x >> 13) & 0x7FFFF
    x *= -1028477387  # 0xC2B2AE35 as int32
    x ^= (x >> 16) & 0xFFFF
    return x


def to_int32(value: int) -> int:
    """The low 32 bits of a number, as those of a signed one."""
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


def random_bits(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """[N] keys to [N, count] int32 with all 32 bits random; `stream` separates uses of the same key."""
    return _mix32(_counters(count, stream, keys) ^ keys.to(torch.int32)[:, None])  # [N, count]


def random_lanes(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """[N] keys to [N, count] int16 with all 16 bits random, two of each 32 bits, for keys that are random themselves.

    Such keys need half of the mixing, and dropout asks for more numbers than anything else.
    """
    x = _counters((count + 1) // 2, stream, keys) ^ keys[:, None]  # [N, count / 2]
    x *= -2048144789
    shifted = x >> 16
    x ^= shifted.bitwise_and_(0xFFFF)
    x *= -1028477387
    return x.view(torch.int16)[:, :count]


_longest: dict[tuple[int, torch.device], Tensor] = {}  # of a stream: shorter ones are its beginning


def _counters(count: int, stream: int, like: Tensor) -> Tensor:
    """The numbers 0 to `count`, mixed with a stream: int32 [count]; computed once where they may be kept."""
    known = _longest.get((stream, like.device))
    if known is not None and len(known) >= count:
        return known[:count]
    counters = torch.arange(count, dtype=torch.int32, device=like.device) * -1640531527
    counters = _mix32(counters ^ to_int32(stream * 0x3C6EF372 + 0x1B873593))
    if type(like) is Tensor and not torch.compiler.is_compiling():  # else it would be a part of somebody's program
        _longest[stream, like.device] = counters
    return counters


def uniform(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """Numbers in [0, 1), [N, count] fp32, for [N] int32 keys."""
    return ((random_bits(keys, count, stream) >> 8) & 0xFFFFFF).to(torch.float32) * 2**-24


def normal(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """Standard normal numbers, [N, count] fp32, for [N] int32 keys (Box-Muller transform)."""
    # Two uniform numbers make two normal ones: a radius from one half of them, an angle from the other.
    half = (count + 1) // 2
    both = uniform(keys, 2 * half, stream)  # [N, 2 * half]
    radius = torch.sqrt_(torch.log1p(both[:, :half].neg()).mul_(-2.0))
    angle = both[:, half:] * (2 * math.pi)
    return torch.cat([radius * angle.cos(), radius.mul_(angle.sin_())], dim=1)[:, :count]


# ---- the same for one key, in Python: a few numbers of a few keys cost less than the calls of tensors ----


def _mix(x: int) -> int:
    """`_mix32` of one unsigned number."""
    x = (x ^ x >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    x = (x ^ x >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return x ^ x >> 16


@lru_cache(256)
def _mixed_value(value: int) -> int:
    return _mix((value & 0xFFFFFFFF) * 0x9E3779B9 & 0xFFFFFFFF ^ _mix((value >> 32) + 1 & 0xFFFFFFFF))


@lru_cache(64)
def _mixed_counters(count: int, stream: int) -> list[int]:
    mixed = stream * 0x3C6EF372 + 0x1B873593 & 0xFFFFFFFF
    return [_mix(i * 0x9E3779B9 & 0xFFFFFFFF ^ mixed) for i in range(count)]


def derive_key(key: int, value: int) -> int:
    """`derive_keys` of one key and one number, as an unsigned number.

    Example:
        >>> int(derive_keys(torch.tensor(7, dtype=torch.int32), 3)) % 2**32 == derive_key(7, 3)
        True
    """
    return _mix(_mix(key + 1013904223 & 0xFFFFFFFF) ^ _mixed_value(value))


def uniform_of_key(key: int, count: int, stream: int = 0) -> list[float]:
    """`uniform` of one key, signed or not.

    Example:
        >>> uniform(torch.tensor([7], dtype=torch.int32), 2)[0].tolist() == uniform_of_key(7, 2)
        True
    """
    key &= 0xFFFFFFFF
    found = []
    for x in _mixed_counters(count, stream):  # `_mix` of each, without the calls
        x ^= key
        x = (x ^ x >> 16) * 0x85EBCA6B & 0xFFFFFFFF
        x = (x ^ x >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
        found.append(((x ^ x >> 16) >> 8) * 2**-24)
    return found
