"""The regression loss between what the student predicts and the teacher's targets (arXiv 2202.03555 eq. 3)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def regression_loss(
    predictions: Tensor, targets: Tensor, *, loss_beta: float = 0.0, loss_scale: float | None = None
) -> Tensor:
    """Loss of each position: squared error or smooth L1, *summed* over channels and scaled.

    Args:
        predictions: [..., D].
        targets: [..., D], broadcast against `predictions`.
        loss_beta: 0 for squared error; otherwise smooth L1, which is `d²/2β` below β and `|d| - β/2` above.
        loss_scale: factor of the sum over channels; None for 1/sqrt(D).

    Returns:
        fp32 [...], one loss for each position.

    Example:
        >>> regression_loss(torch.ones(2, 3, 4), torch.zeros(2, 3, 4)).shape
        torch.Size([2, 3])
    """
    predictions, targets = torch.broadcast_tensors(predictions.float(), targets.float())
    if loss_beta == 0.0:
        per_channel = F.mse_loss(predictions, targets, reduction="none")
    else:
        per_channel = F.smooth_l1_loss(predictions, targets, beta=loss_beta, reduction="none")
    scale = 1 / math.sqrt(predictions.shape[-1]) if loss_scale is None else loss_scale
    return per_channel.sum(-1) * scale


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` over the positions where `mask` is True; both of the same shape, a scalar."""
    return (values * mask).sum() / mask.sum()


def mean_over_positions(x: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of each sample over its real positions; x [B, T, D], valid bool [B, T] or None for all, to [B, D]."""
    if valid is None:
        return x.mean(1)
    return x.masked_fill(~valid[..., None], 0).sum(1) / valid.sum(1, keepdim=True).clamp_min(1)
