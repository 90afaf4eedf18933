"""Targets made of the teacher's layers, and the terms of the loss (arXiv 2202.03555 §3.3).

docs/objectives.md shows how to add a term or a target of one's own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .embedding import mean_over_positions


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
    # Two passes: the variance from centred values stays exact where a mean is large beside it.
    total = weights.sum(dims, keepdim=True)
    centred = x - (x * weights).sum(dims, keepdim=True) / total
    variance = (centred.square() * weights).sum(dims, keepdim=True) / total
    return centred * torch.rsqrt(variance + eps)


def layer_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Standardise each position over its channels, without affine parameters; any [..., D]."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


@dataclass(frozen=True)
class Targets:
    """Turns the teacher's layers into regression targets: normalise each of the top K, average, normalise.

    A subclass that overrides `chosen` or `__call__` makes other targets; a model's `build_targets` returns it.

    Args:
        average_top_k_layers: K, how many of the last layers to average.
        end_of_block_targets: the teacher hands out the ends of its layers instead of their feed-forward outputs.
        batch_norm_target_layer, instance_norm_target_layer, group_norm_target_layer, layer_norm_target_layer: norms of
            each layer before the average, applied in this order.
        layer_norm_targets, instance_norm_targets: norms of the average, applied in this order.

    Example:
        >>> targets = Targets(2, instance_norm_target_layer=True, layer_norm_targets=True)
        >>> targets([torch.randn(2, 9, 16) for _ in range(4)]).shape
        torch.Size([2, 9, 16])
    """

    average_top_k_layers: int
    end_of_block_targets: bool = False
    batch_norm_target_layer: bool = False
    instance_norm_target_layer: bool = False
    group_norm_target_layer: bool = False
    layer_norm_target_layer: bool = False
    layer_norm_targets: bool = False
    instance_norm_targets: bool = False

    @classmethod
    def from_config(cls, config: Any) -> "Targets":
        """The targets that a pretraining config describes; its fields have the same names."""
        return cls(
            average_top_k_layers=config.average_top_k_layers,
            end_of_block_targets=config.end_of_block_targets,
            batch_norm_target_layer=config.batch_norm_target_layer,
            instance_norm_target_layer=config.instance_norm_target_layer,
            group_norm_target_layer=config.group_norm_target_layer,
            layer_norm_target_layer=config.layer_norm_target_layer,
            layer_norm_targets=config.layer_norm_targets,
            instance_norm_targets=config.instance_norm_targets,
        )

    def chosen(self, layers: Sequence[Tensor]) -> Sequence[Tensor]:
        """The layers that targets are made of: the last K.

        Raises:
            ValueError: K is not between 1 and the number of layers.
        """
        if not 1 <= self.average_top_k_layers <= len(layers):
            raise ValueError(
                f"average_top_k_layers is {self.average_top_k_layers}, but the teacher has {len(layers)} layers to "
                f"average: choose a number from 1 to {len(layers)}"
            )
        return layers[-self.average_top_k_layers :]

    def normalized(self, layer: Tensor, valid: Tensor | None = None) -> Tensor:
        """One layer after the norms of layers: [B, T, D] to fp32 [B, T, D]; `valid` as for `__call__`."""
        layer = layer.float()
        if self.batch_norm_target_layer:
            layer = batch_norm(layer, valid)
        if self.instance_norm_target_layer:
            layer = instance_norm(layer, valid)
        if self.group_norm_target_layer:
            layer = group_norm(layer, valid)
        return layer_norm(layer) if self.layer_norm_target_layer else layer

    def __call__(self, layers: Sequence[Tensor], valid: Tensor | None = None) -> Tensor:
        """Compute the targets of a batch.

        Args:
            layers: the teacher's layers from first to last, each [B, T, D].
            valid: bool [B, T], True at real positions: padding then takes no part in norms over positions.

        Returns:
            fp32 [B, T, D].
        """
        # Summed in place: one fp32 tensor [B, T, D] instead of K normalized ones at a time.
        chosen = self.chosen(layers)
        targets = torch.zeros_like(chosen[-1], dtype=torch.float32)
        for layer in chosen:
            targets += self.normalized(layer, valid)
        targets /= len(chosen)
        if self.layer_norm_targets:
            targets = layer_norm(targets)
        if self.instance_norm_targets:
            targets = instance_norm(targets, valid)
        return targets

    def spread(self, layers: Sequence[Tensor], valid: Tensor | None = None) -> Tensor:
        """Measure how much the chosen layers vary over samples and positions *before* they are normalised.

        Normalisation hides a collapse: whatever variation is left is blown up to unit size. This is the mean over
        layers and channels of the standard deviation over all real positions of the batch, a scalar.
        """
        return torch.stack([spread(layer, valid) for layer in self.chosen(layers)]).mean()


def spread(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean over channels of the standard deviation over real positions; x [B, T, D], valid [B, T], a scalar."""
    rows = x.detach().float().flatten(0, 1)  # [B * T, D]
    if valid is None:  # in two passes, which on a CPU take an eighth of the time of `std` over the outer axis
        return (rows - rows.mean(0)).square_().sum(0).div_(len(rows) - 1).sqrt_().mean()
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
    # The M views share targets: [B, M, T, D] and [B, 1, T, D]. In fp32, since a sum over D channels follows.
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


# ---- the terms of a loss ----


@dataclass(frozen=True)
class Views:
    """A batch as the student and the teacher see it: the argument of the terms of the loss.

    The fields are those of `Data2VecPreTrainingOutput` by the same names, which is this and the losses.
    """

    predictions: Tensor
    targets: Tensor
    mask: Tensor
    student_states: Tensor
    local_features: Tensor
    target_spread: Tensor
    valid: Tensor | None
    visible_valid: Tensor | None


class Term(NamedTuple):
    """One term of a loss, which is the sum of `weight * function(views)` over its terms.

    Attributes:
        name: by which it is logged and judged: ends with "_loss".
        weight: its factor.
        function: takes the `Views` of a batch (`PairViews` for paired samples), returns a scalar with gradients.
    """

    name: str
    weight: float
    function: Callable[[Any], Tensor]


def weighted_losses(terms: Sequence[Term], views: Any) -> dict[str, Tensor]:
    """Compute each term of a loss, times its weight, by its name.

    Raises:
        ValueError: a name is taken, does not end with "_loss", or could be mistaken for another figure in the log.

    Example:
        >>> weighted_losses([Term("half_loss", 0.5, torch.sum)], torch.ones(4))
        {'half_loss': tensor(2.)}
    """
    losses: dict[str, Tensor] = {}
    for name, weight, function in terms:
        if not name.isidentifier() or not name.endswith("_loss") or name == "constant_loss" or name in losses:
            raise ValueError(
                f"a term of the loss is called {name!r}, but each needs a name of its own, a word that ends with "
                '"_loss" and is not "constant_loss": by it the log and the health check find the term'
            )
        losses[name] = weight * function(views)
    return losses


def loss_terms(config: Any) -> list[Term]:
    """The terms of data2vec's loss: regression at hidden positions and, in 2.0 where it counts, the CLS token's.

    Args:
        config: a pretraining config.
    """
    loss = partial(regression_loss, loss_beta=config.loss_beta, loss_scale=config.loss_scale)

    def hidden_positions(views: Views) -> Tensor:
        return masked_mean(loss(views.predictions, views.targets[:, None]), views.mask)  # of [B, M, T]

    def cls_token(views: Views) -> Tensor:
        """The last extra token against the sample's mean target, which it can't know from one place."""
        cls = views.student_states[:, config.num_extra_tokens - 1].unflatten(0, views.mask.shape[:2])  # [B, M, D]
        valid = views.valid if config.padding == "exact" else None
        per_row = loss(cls, mean_over_positions(views.targets, valid)[:, None])  # [B, M]
        return per_row.sum() if config.cls_loss_reduction == "sum" else per_row.mean()

    terms = [Term("regression_loss", 1.0, hidden_positions)]
    if config.cls_loss_weight:
        terms.append(Term("cls_loss", config.cls_loss_weight, cls_token))
    return terms
