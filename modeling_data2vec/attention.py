"""Attention with dropout, or a bias that is trained, on a CPU without a matrix of all pairs of positions in memory.

torch's fused attention has neither on a CPU: it falls back to plain operations, which keep several matrices
[R, H, S, S] for the backward pass. Here scores, softmax and dropout are computed a few heads at a time, and again in
the backward pass (the idea of Dao et al. 2022, "FlashAttention").
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from .dropout import PIECE, draw_keys, runs_here, survivors

Part = tuple[slice, slice]  # of rows and heads


class _DroppedAttention(torch.autograd.Function):
    """Query, key and value [R, H, S, D/H], a mask for their scores, and keys [R, H, S] of dropout to [R, S, H, D/H].

    Without keys nothing is dropped.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        keys: Tensor | None,
        scale: float,
        rate: float,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, mask, keys)
        ctx.scale, ctx.rate = scale, rate
        rows, heads, length, dim = query.shape
        output = query.new_empty(rows, length, heads, dim)
        for part in _parts(query):
            # Without a copy, every product would make one of what it reads.
            q, k, v = query[part].mul(scale).contiguous(), key[part].contiguous(), value[part].contiguous()
            weights = _softmax(q, k, _part_of(mask, part))  # [r, h, S, S]
            kept, grown = _survivors(keys, part, length, rate, weights.dtype)
            dropped = weights if kept is None else weights.mul_(kept)
            output.transpose(1, 2)[part] = dropped.to(v.dtype) @ v.mul(grown)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        query, key, value, mask, keys = ctx.saved_tensors
        rate, length, needs = ctx.rate, query.shape[2], ctx.needs_input_grad
        d_query, d_key, d_value = (torch.empty_like(x) for x in (query, key, value))
        d_mask = torch.zeros_like(mask, dtype=torch.promote_types(mask.dtype, torch.float32)) if needs[3] else None
        for part in _parts(query):
            q, k, v = query[part].mul(ctx.scale).contiguous(), key[part].contiguous(), value[part].contiguous()
            weights = _softmax(q, k, _part_of(mask, part))
            kept, grown = _survivors(keys, part, length, rate, weights.dtype)
            d_output = gradients[0].transpose(1, 2)[part].mul(grown).contiguous()  # [r, h, S, D/H]
            d_weights, dropped = (d_output @ v.transpose(2, 3)).to(weights.dtype), weights
            if kept is not None:
                d_weights, dropped = d_weights.mul_(kept), kept.mul_(weights)
            d_value[part] = dropped.to(v.dtype).transpose(2, 3) @ d_output
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            if d_mask is not None:
                its = _part_of(d_mask, part)
                its += d_scores.sum_to_size(its.shape)
            d_scores = d_scores.to(q.dtype)
            d_query[part] = (d_scores @ k).mul_(ctx.scale)
            d_key[part] = d_scores.transpose(2, 3) @ q
        return d_query, d_key, d_value, None if d_mask is None else d_mask.to(mask.dtype), None, None, None


def _parts(x: Tensor) -> Iterator[Part]:
    """Rows and heads of [R, H, S, D/H] whose scores are a piece together; a compiler makes pieces of its own."""
    rows, heads, length, _ = x.shape
    if torch.compiler.is_compiling():
        yield slice(None), slice(None)
        return
    some_rows = max(1, PIECE // (heads * length**2))
    some_heads = min(heads, max(1, PIECE // length**2))
    for row in range(0, rows, some_rows):
        for head in range(0, heads, some_heads):
            yield slice(row, row + some_rows), slice(head, head + some_heads)


def _part_of(mask: Any, part: Part) -> Any:
    """A part of a mask [R or 1, H or 1, S, S]; None of None."""
    if mask is None:
        return None
    rows, heads = (slice(None) if size == 1 else which for size, which in zip(mask.shape, part, strict=False))
    return mask[rows, heads]


def _survivors(
    keys: Tensor | None, part: Part, length: int, rate: float, dtype: torch.dtype
) -> tuple[Tensor | None, float]:
    """`survivors` of a part; without keys None, for all."""
    return (None, 1.0) if keys is None else survivors(keys[part], length, rate, dtype)


def _softmax(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Attention weights in fp32; a mask is added, or True where there is something to attend to."""
    scores = query @ key.transpose(2, 3)  # [r, h, S, S]
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores += mask
    return F.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))


def dropped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, rate: float
) -> Tensor:
    """Self-attention on a CPU, with dropout of its weights or a mask that is trained.

    Args:
        query, key, value: [R, H, S, D/H].
        mask: broadcastable to [R, H, S, S]: bool, True at pairs that count, or added to the scores; None for none.
        scaling: factor of the scores.
        rate: the probability of a weight to be dropped; it may be 0.

    Returns:
        [R, S, H, D/H].

    Example:
        >>> x = torch.randn(2, 4, 10, 8)
        >>> dropped_attention(x, x, x, None, 8**-0.5, 0.1).shape
        torch.Size([2, 10, 4, 8])
    """
    keys = draw_keys(query.shape[:3]) if rate else None
    return _DroppedAttention.apply(query, key, value, mask, keys, scaling, rate)


def sdpa_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention "sdpa", but with the above where weights are dropped on a CPU."""
    if runs_here(query.device, dropout):
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        return dropped_attention(query, key, value, attention_mask, scaling, dropout), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
