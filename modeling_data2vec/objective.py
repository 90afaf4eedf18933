"""What the student predicts, the teacher's top layers normalised and averaged, and the loss (arXiv 2202.03555 §3.3)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def instance_norm(x: Tensor, valid: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Standardise each channel of each sample over its positions; [B, T, D] to [B, T, D], biased variance.

    With `valid` [B, T] only the positions where it is True count.
    """
    if valid is None:
        return F.instance_norm(x.transpose(1, 2), eps=eps).transpose(1, 2)  # F.instance_norm wants [B, D, T]
    return _standardise(x, valid[..., None].to(x.dtype), dims=(1,), eps=eps)


def batch_norm(x: Tensor, valid: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Standardise each channel over all samples and positions of the batch; arguments as for `instance_norm`."""
    if valid is None:
        return F.batch_norm(x.transpose(1, 2), None, None, training=True, eps=eps).transpose(1, 2)
    return _standardise(x, valid[..., None].to(x.dtype), dims=(0, 1), eps=eps)


def group_norm(x: Tensor, valid: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Standardise each sample over all its positions and channels; arguments as for `instance_norm`."""
    if valid is None:
        return F.layer_norm(x, x.shape[1:], eps=eps)
    return _standardise(x, valid[..., None].expand_as(x).to(x.dtype), dims=(1, 2), eps=eps)


def _standardise(x: Tensor, weights: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """Subtract the weighted mean over `dims` and divide by the standard deviation; x and weights [B, T, D or 1]."""
    total = weights.sum(dims, keepdim=True)
    centred = x - (x * weights).sum(dims, keepdim=True) / total
    variance = (centred.square() * weights).sum(dims, keepdim=True) / total
    return centred * torch.rsqrt(variance + eps)


def layer_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Standardise each position over its channels, without affine parameters; any [..., D]."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def make_targets(
    layers: Sequence[Tensor],
    average_top_k_layers: int,
    *,
    batch_norm_target_layer: bool = False,
    instance_norm_target_layer: bool = False,
    group_norm_target_layer: bool = False,
    layer_norm_target_layer: bool = False,
    layer_norm_targets: bool = False,
    instance_norm_targets: bool = False,
    valid: Tensor | None = None,
) -> Tensor:
    """Turn the teacher's layers into regression targets: normalise each of the top K, average, normalise.

    Args:
        layers: the teacher's layers from first to last, each [B, T, D].
        average_top_k_layers: K, how many of the last layers to average.
        batch_norm_target_layer, instance_norm_target_layer, group_norm_target_layer, layer_norm_target_layer: norms of
            each layer before the average, applied in this order.
        layer_norm_targets, instance_norm_targets: norms of the average, applied in this order.
        valid: bool [B, T], True at real positions: padding then takes no part in norms over positions.

    Returns:
        fp32 [B, T, D].

    Raises:
        ValueError: if K is not between 1 and the number of layers.

    Example:
        >>> layers = [torch.randn(2, 9, 16) for _ in range(4)]
        >>> make_targets(layers, 2, instance_norm_target_layer=True, layer_norm_targets=True).shape
        torch.Size([2, 9, 16])
    """
    if not 1 <= average_top_k_layers <= len(layers):
        raise ValueError(
            f"average_top_k_layers is {average_top_k_layers}, but the teacher has {len(layers)} layers to average: "
            f"choose a number from 1 to {len(layers)}"
        )
    targets = torch.zeros_like(layers[-1], dtype=torch.float32)
    for layer in layers[-average_top_k_layers:]:
        layer = layer.float()
        if batch_norm_target_layer:
            layer = batch_norm(layer, valid)
        if instance_norm_target_layer:
            layer = instance_norm(layer, valid)
        if group_norm_target_layer:
            layer = group_norm(layer, valid)
        if layer_norm_target_layer:
            layer = layer_norm(layer)
        targets += layer
    targets /= average_top_k_layers
    if layer_norm_targets:
        targets = layer_norm(targets)
    if instance_norm_targets:
        targets = instance_norm(targets, valid)
    return targets


def layer_spread(layers: Sequence[Tensor], average_top_k_layers: int, valid: Tensor | None = None) -> Tensor:
    """How much the teacher's top layers vary over samples and positions *before* they are normalised.

    Normalisation hides a collapse: whatever variation is left is blown up to unit size. This is the mean over layers
    and channels of the standard deviation over all real positions of the batch, a scalar.
    """
    return torch.stack([spread(layer, valid) for layer in layers[-average_top_k_layers:]]).mean()


def spread(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean over channels of the standard deviation over real positions; x [B, T, D], valid [B, T], a scalar."""
    rows = x.detach().float().flatten(0, 1)  # [B * T, D]
    if valid is None:
        return rows.std(dim=0).mean()
    return weighted_variance(rows, valid.flatten().float()).sqrt().mean()


def weighted_variance(rows: Tensor, weights: Tensor) -> Tensor:
    """Unbiased variance of each channel over rows that count `weights` times; [N, D] and [N] to [D]."""
    weights, total = weights[:, None], weights.sum()
    mean = (rows * weights).sum(0) / total
    return ((rows - mean).square() * weights).sum(0) / (total - 1)


# ---- loss ----


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
