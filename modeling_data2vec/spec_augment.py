"""Masks of time and of channels for the fine-tuning of speech (SpecAugment, arXiv 1904.08779)."""

from typing import Any

import torch
from torch import Tensor

from .span_masks import span_mask


def spec_augment(
    tokens: Tensor,
    valid: Tensor | None = None,
    *,
    keys: Tensor,
    mask_time_prob: float = 0.0,
    mask_time_length: int = 10,
    mask_feature_prob: float = 0.0,
    mask_feature_length: int = 64,
) -> Tensor:
    """Set spans of frames, and spans of channels at all frames, to 0 (wav2vec 2.0, arXiv 2006.11477 §4.3).

    The authors fine-tune data2vec 2.0 so: nothing learned stands at hidden frames, as in its pretraining.

    Args:
        tokens: [B, T, D], frames after the feature encoder's projection.
        valid: bool [B, T], False at padding; spans lie within the clip. A clip shorter than a span stays whole.
        keys: int32 [B], which decide.
        mask_time_prob, mask_feature_prob: share of frames and of channels that spans would hide if none overlapped
            [mask_prob, mask_channel_prob].
        mask_time_length, mask_feature_length: frames and channels of a span [mask_length, mask_channel_length].

    Returns:
        [B, T, D].

    Example:
        >>> keys = torch.arange(2, dtype=torch.int32)
        >>> frames = spec_augment(torch.ones(2, 50, 8), keys=keys, mask_time_prob=0.5, mask_time_length=5)
        >>> (frames[:, :, 0] == 0).float().mean().round(decimals=1)
        tensor(0.5000)
    """
    batch, length, dim = tokens.shape
    if mask_time_prob > 0 and mask_time_length < length:
        counts = None if valid is None else valid.sum(1)  # [B]
        lengths = None if counts is None else counts.clamp(min=2)
        hidden = span_mask(batch, length, mask_time_prob, mask_time_length, generator=keys, lengths=lengths)
        if counts is not None:
            hidden = hidden & (counts > mask_time_length)[:, None]
        tokens = tokens.masked_fill(hidden[..., None], 0.0)
    if mask_feature_prob > 0 and mask_feature_length < dim:
        hidden = span_mask(batch, dim, mask_feature_prob, mask_feature_length, generator=~keys)
        tokens = tokens.masked_fill(hidden[:, None], 0.0)
    return tokens


def augment_as_configured(frames: Tensor, valid: Tensor | None, config: Any) -> Tensor:
    """`spec_augment` of [B, T, D] as a config says, by keys of torch's global generator, whose state checkpoints hold.

    Nothing is drawn where nothing is to be hidden.
    """
    if not (config.mask_time_prob or config.mask_feature_prob):
        return frames
    keys = torch.randint(-(2**31), 2**31, (len(frames),), dtype=torch.int32).to(frames.device)
    return spec_augment(
        frames,
        valid,
        keys=keys,
        mask_time_prob=config.mask_time_prob,
        mask_time_length=config.mask_time_length,
        mask_feature_prob=config.mask_feature_prob,
        mask_feature_length=config.mask_feature_length,
    )
