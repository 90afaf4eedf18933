"""Paired samples, masked: each modality predicts its own hidden positions and, by what is visible, the others'."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from .core import Data2VecPreTrainingOutput, Observation, total_loss
from .cross_modal import (
    PairViews,
    centred_targets,
    check_pairs,
    direction,
    pair_regression,
    pooled_layers,
    position_regression,
)
from .embedding import mean_over_positions
from .objective import weighted_losses

LARGEST_FACTOR = 10.0  # of balanced gradients: what fresh heads send back is short, and noise


def pretrain_on_masked_pairs(
    model: Any, pairs: Mapping[str, Mapping[str, Tensor | None]], return_loss: bool = True
) -> Data2VecPreTrainingOutput:
    """Loss of a batch of B paired samples: within each modality as for unpaired ones, and across modalities.

    The loss within is the mean of the modalities' own, weighted by `loss_weights`. Across modalities the student's
    visible states of one predict the other's pooled target (a head, from the mean of each view) and its targets at all
    positions, less their mean over the batch (a predictor, from each sample's first view), in both directions.

    Args:
        model: a `Data2Vec2ForPreTraining` with `cross_attention_layers`.
        pairs: of each modality `inputs` [B, ...], `mask` bool [B, M, T] and, as for a batch of it, `attention_mask`,
            `ids_keep` and `noise_keys`.
        return_loss: whether to compute the loss.

    Returns:
        `loss` and its terms, `losses`: those of `build_terms` with the modality's name before them, and those of
        `build_pair_terms` times the config's `cross_modal_weight`; `constant_loss` and `constant_position_loss`, the
        same for the best constants; `cross_modal_weight`, with what balancing makes of it; `targets` [B, modalities,
        D]; `pooled_states`; `target_spread` of the pooled layers.

    Raises:
        ValueError: the model has no such heads; the batch has fewer than two modalities or samples, or unequally many.
    """
    check_pairs(model.config, pairs)
    config = model.config
    seen = {name: _observe(model, name, part) for name, part in pairs.items()}
    pooled = {
        name: pooled_layers(one.layers, config.of(name).average_top_k_layers, one.views.valid)
        for name, one in seen.items()
    }
    targets = {
        name: model.cross_norms.targets[name](layers)[:, None] for name, layers in pooled.items()
    }  # [B, 1, D] each
    fields: dict[str, Any] = {}
    if return_loss:
        losses = _own_losses(model, seen)
        if config.cross_modal_weight:
            balance = GradientBalance({name: one.views.student_states for name, one in seen.items()})
            across = _pair_views(model, seen, balance.states, targets)
            terms = weighted_losses(model.build_pair_terms(), across)
            if config.cross_modal_balance:
                balance.set(torch.stack(list(losses.values())).sum(), torch.stack(list(terms.values())).sum())
            losses |= {name: config.cross_modal_weight * loss for name, loss in terms.items()}
            constant = across.constant()
            fields = {
                "constant_loss": config.cross_modal_weight * pair_regression(constant),
                "constant_position_loss": config.cross_modal_weight * position_regression(constant),
                "cross_modal_weight": config.cross_modal_weight * balance.factor,
            }
        fields |= total_loss(losses)
    means = {name: _mean_of_views(model, name, one, one.views.student_states).mean(1) for name, one in seen.items()}
    return Data2VecPreTrainingOutput(
        **fields,
        targets=torch.cat(list(targets.values()), dim=1),
        target_spread=torch.stack([layers.std(dim=0).mean() for layers in pooled.values()]).mean(),
        pooled_states={name: state.detach() for name, state in means.items()},
    )


class GradientBalance:
    """Scales what one loss sends back into the student, so that it is as long as what another one does.

    The factor is `|g_own| / |g_across|`, with g the gradients on the student's states, where both losses part (as Esser
    et al. 2021, eq. 7, weight a loss by the gradients on a last layer). Only the student's gradient is scaled: heads
    and predictors learn by the loss as it is. The factor follows from the batch alone, so there is nothing to save, and
    a resumed run has the same.

    Args:
        states: the student's, of each modality.

    Attributes:
        states: the same values, to compute the second loss of.
        factor: a scalar; 1 until `set` is called, and without gradients, as in evaluation.
    """

    def __init__(self, states: Mapping[str, Tensor]) -> None:
        self.own = list(states.values())
        self.states = {name: one.view_as(one) for name, one in states.items()}
        self.factor = torch.ones((), device=self.own[0].device)
        for one in self.states.values():
            if one.requires_grad:
                one.register_hook(lambda gradient: gradient * self.factor.to(gradient.dtype))

    def set(self, own: Tensor, across: Tensor) -> None:
        """Choose the factor; both losses are scalars."""
        if not (own.requires_grad and across.requires_grad):
            return
        lengths = []
        for loss, states in ((own, self.own), (across, list(self.states.values()))):
            parts = torch.autograd.grad(loss, states, retain_graph=True, allow_unused=True)
            lengths.append(torch.stack([part.detach().float().norm() for part in parts if part is not None]).norm())
        # Own losses that don't count (weight 0) leave nothing to compare with.
        ratio = torch.where(lengths[0] > 0, lengths[0] / lengths[1].clamp_min(1e-12), 1.0)
        self.factor = ratio.clamp_max(LARGEST_FACTOR)


def _observe(model: Any, name: str, part: Mapping[str, Tensor | None]) -> Observation:
    view = {key: part.get(key) for key in ("ids_keep", "noise_keys")}
    return model.observe(part["inputs"], part.get("mask"), part.get("attention_mask"), name, **view)


def _mean_of_views(model: Any, name: str, seen: Observation, states: Tensor) -> Tensor:
    """The student's states [R, S, D] averaged over what each view shows: [B, M, D]."""
    visible = states[:, model.config.of(name).num_extra_tokens :]  # [R, V, D]
    return mean_over_positions(visible, seen.views.visible_valid).unflatten(0, seen.views.mask.shape[:2])


def _own_losses(model: Any, seen: Mapping[str, Observation]) -> dict[str, Tensor]:
    """What each modality predicts of its own, as `audio_regression_loss` and so on."""
    total = sum(model.config.loss_weight(name) for name in seen) or 1.0
    losses: dict[str, Tensor] = {}
    for name, one in seen.items():
        share = model.config.loss_weight(name) / total
        own = weighted_losses(model.build_terms(model.side(name).config), one.views)
        losses |= {f"{name}_{term}": share * loss for term, loss in own.items()}
    return losses


def _pair_views(
    model: Any, seen: Mapping[str, Observation], states: Mapping[str, Tensor], targets: dict[str, Tensor]
) -> PairViews:
    """Predict each modality from the states [R, S, D] of each other one."""
    means = {name: _mean_of_views(model, name, one, states[name]) for name, one in seen.items()}  # [B, M, D]
    inputs = {name: model.cross_norms.states[name](mean[..., None, :]) for name, mean in means.items()}
    predictions, at_positions = {}, {}
    for source, target in permutations(seen, 2):
        name, one = direction(source, target), seen[source]
        views = one.views.mask.shape[:2]  # (B, M)
        predictions[source, target] = model.cross_modal[name](inputs[source])
        # The first view of M: all of them would ask for the target's T positions M times.
        visible = states[source].unflatten(0, views)[:, 0, model.config.of(source).num_extra_tokens :]  # [B, V, D]
        valid = None if one.views.visible_valid is None else one.views.visible_valid.unflatten(0, views)[:, 0]  # [B, V]
        assert one.ids_keep is not None
        predictor = model.cross_attention[name]
        at_positions[source, target] = predictor(visible, one.ids_keep[:, 0], one.grid, seen[target].grid, valid)
    return PairViews(
        predictions,
        targets,
        at_positions,
        {name: centred_targets(one.views.targets, one.views.valid) for name, one in seen.items()},
        {name: one.views.valid for name, one in seen.items()},
    )
