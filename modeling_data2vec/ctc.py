"""CTC, the loss of speech recognition, over the real frames of each clip."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def ctc_loss(logits: Tensor, labels: Tensor, num_frames: Tensor, config: Any) -> Tensor:
    """CTC over each clip's real frames and each sentence's real letters (Graves et al. 2006).

    Args:
        logits: [B, T, vocab_size].
        labels: int64 [B, letters], negative after the end of a sentence.
        num_frames: int [B], real frames.
        config: with `vocab_size`, `pad_token_id` (the blank), `ctc_loss_reduction` and `ctc_zero_infinity`.

    Raises:
        ValueError: a label is beyond the vocabulary.
    """
    if labels.max() >= config.vocab_size:
        raise ValueError(f"labels go up to {int(labels.max())}, but vocab_size is {config.vocab_size}")
    letters = labels >= 0
    return F.ctc_loss(
        F.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1),  # [T, B, vocab_size]
        labels.masked_select(letters),
        num_frames,
        letters.sum(1),
        blank=config.pad_token_id or 0,
        reduction=config.ctc_loss_reduction,
        zero_infinity=config.ctc_zero_infinity,
    )


def real_lengths(inputs: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Real raw input [B] of each row of [B, length, ...], in samples, frames or tokens."""
    if attention_mask is None:
        return inputs.new_full(inputs.shape[:1], inputs.shape[1], dtype=torch.long)
    return attention_mask.long().sum(1)
