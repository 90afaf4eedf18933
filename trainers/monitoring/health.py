"""Health of a run: figures that show a collapse, and the diagnosis of a run's log.

The loss alone does not tell: in a collapse it falls beautifully. Neither does the targets' variance, since
normalisation blows up whatever variation is left. What does tell is the feature encoder's spread, the targets' spread
before normalisation, and how much of the targets the position alone explains (docs/health.md).
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from modeling_data2vec import Data2VecPreTrainingConfig, Data2VecPreTrainingOutput
from modeling_data2vec.objective import regression_loss, spread, weighted_variance

from .alignment import measure_alignment

MAX_ROWS = 1024  # rows that an effective rank is computed from

# Thresholds of `diagnose`, tried on healthy and collapsed runs (docs/health.md). Those of the targets' and
# predictions' std are the authors' defaults; shares are of the highest value logged so far.
MIN_TARGET_STD = 0.1
MIN_PREDICTION_STD = 0.01
MIN_SHARE_OF_SPREAD = 0.02
MIN_SHARE_OF_RANK = 0.35
MAX_POSITION_EXPLAINED = 0.98
MAX_LOSS_TO_CONSTANT = 3.0


class CollapseError(RuntimeError):
    """A run was stopped because its representations collapsed, or its loss or weights diverged."""


def effective_rank(features: Tensor) -> Tensor:
    """RankMe (Garrido et al. 2023, eq. 1): the exponential of the entropy of the singular values, from 1 to D.

    Features are centred first: their mean says nothing about differences between samples.

    Args:
        features: [N, D]; at most 1,024 evenly spaced rows are used.
    """
    rows = features.detach().float()
    rows = rows[:: max(1, math.ceil(rows.shape[0] / MAX_ROWS))]
    rows = rows - rows.mean(0)
    # The smaller Gram matrix has the squared singular values as eigenvalues.
    gram = rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T
    finite = gram.isfinite().all()  # of a diverged run there is no rank, and the solver would fail
    singular = torch.linalg.eigvalsh(torch.where(finite, gram, 0.0).double()).clamp_min(0).sqrt()
    shares = singular / singular.sum().clamp_min(1e-12)
    rank = torch.exp(-torch.xlogy(shares, shares).sum()).float()
    return torch.where(finite, rank, torch.nan)


def position_explained(targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Share of the targets' variance that the position alone explains, 0 to 1; NaN where no two samples share one.

    1 means that every sample has the same targets: nothing about content is left to learn. An analysis of variance with
    positions as groups, corrected for the number of samples (ε²), so that noise gives 0 in any batch.

    Args:
        targets: [B, T, D].
        valid: bool [B, T], True at real positions; None for all.
    """
    batch, length, _ = targets.shape
    if batch < 2 or length < 2:
        return targets.new_full((), float("nan"))
    weights = targets.new_ones(batch, length, 1) if valid is None else valid[..., None].to(targets.dtype)  # [B, T, 1]
    targets = torch.where(weights > 0, targets, 0.0)  # whatever padding holds, be it NaN
    counts = weights.sum(0)  # [T, 1], samples that have a position
    means = (targets * weights).sum(0) / counts.clamp_min(1)  # [T, D]
    mean = (targets * weights).sum((0, 1)) / counts.sum()  # [D]
    within = ((targets - means).square() * weights).sum() / (counts - 1).clamp_min(0).sum()
    total = ((targets - mean).square() * weights).sum() / (counts.sum() - 1)
    # Targets without any variance are the same for every sample: 1.
    return (1 - within / total.clamp_min(1e-12)).clamp(0, 1)


def _weighted_std(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over channels of sqrt(variance over positions + 1e-6); values [N, D], weights [N] that count repeats."""
    return (weighted_variance(values, weights) + 1e-6).sqrt().mean()


def _real_rows(x: Tensor, valid: Tensor | None) -> Tensor:
    """[N, T, D] to the rows of real positions, [n, D]."""
    return x.flatten(0, 1) if valid is None else x[valid]


@torch.no_grad()
def measure_health(output: Data2VecPreTrainingOutput, config: Data2VecPreTrainingConfig) -> dict[str, Tensor]:
    """Health figures of one batch, each a scalar tensor; padding doesn't count.

    | figure | meaning |
    |---|---|
    | `regression_loss`, `cls_loss` and so on | terms of the loss, weighted, by their names |
    | `constant_loss` | loss of predicting, for every masked position, the targets' mean |
    | `loss_below_constant` | 1 - regression_loss / constant_loss: 0 is a constant predictor, 1 a perfect one |
    | `target_std`, `prediction_std` | std over masked positions, mean over channels |
    | `target_spread` | std of the teacher's layers *before* normalisation |
    | `position_explained` | share of the targets' variance that the position alone explains |
    | `teacher_student_cosine` | cosine of predictions and targets at masked positions |
    | `student_rank` | effective rank of the student's visible tokens |
    | `feature_encoder_rank`, `feature_encoder_std` | the same and the std of the local features, before positions |
    | `masked_fraction` | share of positions that is masked |
    """
    assert output.predictions is not None and output.targets is not None and output.mask is not None
    assert output.student_states is not None and output.local_features is not None
    assert output.losses is not None and output.target_spread is not None
    predictions, targets = output.predictions.float(), output.targets
    weights = output.mask.float()  # [B, M, T]
    num_masks = weights.shape[1]
    target_weights = weights.sum(1).flatten()  # [B * T], how many masks hide a position
    flat_targets = targets.flatten(0, 1)  # [B * T, D]
    constant = (flat_targets * target_weights[:, None]).sum(0) / target_weights.sum()  # [D]
    constant_losses = regression_loss(constant, flat_targets, loss_beta=config.loss_beta, loss_scale=config.loss_scale)
    constant_loss = (constant_losses * target_weights).sum() / target_weights.sum()
    cosine = torch.cosine_similarity(predictions, targets[:, None], dim=-1)  # [B, M, T]
    states = output.student_states[:, config.num_extra_tokens :]  # [R, V or T, D]
    figures = {
        **_term_figures(output.losses, "regression_loss", constant_loss),
        "target_std": _weighted_std(flat_targets, target_weights),
        "prediction_std": _weighted_std(predictions.flatten(0, 2), weights.flatten()),
        "target_spread": output.target_spread,
        "position_explained": position_explained(targets, output.valid),
        "teacher_student_cosine": (cosine * weights).sum() / weights.sum(),
        "student_rank": effective_rank(_real_rows(states, output.visible_valid)),
        "feature_encoder_rank": effective_rank(_real_rows(output.local_features, output.valid)),
        "feature_encoder_std": spread(output.local_features, output.valid),
        "masked_fraction": weights.mean() if output.valid is None else weights.sum() / (num_masks * output.valid.sum()),
    }
    return figures


@torch.no_grad()
def measure_pairs(output: Data2VecPreTrainingOutput) -> dict[str, Tensor]:
    """Figures of a batch of paired samples.

    | figure | meaning |
    |---|---|
    | `cross_modal_loss` and so on | terms of the loss, weighted, by their names |
    | `constant_loss`, `loss_below_constant` | as in `measure_health`, of pooled targets |
    | `position_below_constant` | the same of the targets at positions |
    | `cross_modal_weight` | the factor of what is predicted across modalities, of masked pairs |
    | `cka_...`, `found_...`, `uniformity_...` | whether modalities agree: `measure_alignment` |
    | `pooled_spread` | std over the batch of the teacher's pooled layers *before* normalisation |

    Pooled targets that hardly vary are noise when they are normalised.
    """
    assert output.losses is not None and output.target_spread is not None
    figures = {name: loss.detach() for name, loss in output.losses.items()}
    if output.constant_loss is not None:
        figures |= _term_figures(output.losses, "cross_modal_loss", output.constant_loss)
    if output.constant_position_loss is not None and "cross_position_loss" in output.losses:
        figures["position_below_constant"] = 1 - output.losses["cross_position_loss"] / output.constant_position_loss
    if output.cross_modal_weight is not None:
        figures["cross_modal_weight"] = output.cross_modal_weight
    if output.pooled_states is not None:
        figures |= measure_alignment(output.pooled_states)
    return {**figures, "pooled_spread": output.target_spread}


def _term_figures(losses: Mapping[str, Tensor], regression: str, constant_loss: Tensor) -> dict[str, Tensor]:
    """Each term of the loss by its name, and `regression`, where it is among them, beside that of a constant."""
    figures = {name: loss.detach() for name, loss in losses.items()} | {"constant_loss": constant_loss}
    if regression in losses:
        below = 1 - losses[regression].detach() / constant_loss
        figures["loss_below_constant"] = torch.where(constant_loss > 0, below, torch.nan)
    return figures


# What it means that a figure is NaN while the loss is finite.
NOT_FINITE = "hold NaN or infinity in places that the loss does not see"
WHY_NAN = {
    "loss_below_constant": "the targets are constant, so that a constant predictor has no loss either",
    "target_std": "a single position is hidden",
    "prediction_std": "a single position is hidden",
    "target_spread": f"the micro-batch has a single position, or the teacher's layers {NOT_FINITE}",
    "pooled_spread": "the micro-batch has a single pair",
    "position_explained": "no two samples of the micro-batch share a position (it has one sample, or one position)",
    "teacher_student_cosine": f"predictions {NOT_FINITE}",
    "student_rank": f"the student's features {NOT_FINITE}",
    "feature_encoder_rank": f"the feature encoder's features {NOT_FINITE}",
    "feature_encoder_std": f"the micro-batch has a single position, or the feature encoder's features {NOT_FINITE}",
}


def undefined_figures(entry: Mapping[str, float]) -> dict[str, str]:
    """The figures of a log entry that are NaN beside a finite loss, each with what that means in words.

    Example:
        >>> undefined_figures({"step": 5, "loss": 1.0, "pooled_spread": math.nan})
        {'pooled_spread': 'the micro-batch has a single pair'}
    """
    return {name: why for name, why in WHY_NAN.items() if math.isnan(entry.get(name, 0.0))}


REMEDIES = (
    "Try, in this order: a lower learning_rate, more warmup_steps, an ema_decay nearer to 1, a larger batch or more "
    "masks, instance_norm_target_layer or layer_norm_targets if both are off. "
    "The figures are explained in docs/health.md; stop_on_collapse=False turns this check off."
)


def diagnose(
    history: Sequence[Mapping[str, float]], *, start_step: int, patience: int, modality: str = ""
) -> str | None:
    """Judge a run from its log: None while it is healthy, otherwise what is wrong and what to do.

    Args:
        history: `TrainerState.log_history`, of a joint model a part of `by_modality`; entries without health figures
            are passed over.
        start_step: entries before this optimizer step are not judged (warm-up looks odd without being ill).
        patience: how many of the last entries must all agree, of each figure those in which it is a number. A loss of
            NaN or infinity is believed at once; of other figures `undefined_figures` says what NaN means.
        modality: whose log it is, to be named; empty for all there is.
    """
    run = f"The run's {modality} part" if modality else "The run"
    entries = [entry for entry in history if "constant_loss" in entry]
    if not entries:
        return None
    last = entries[-1]
    # The terms of the loss, too, of which a user may have added any: their names end with "_loss".
    for name in ("loss", *(name for name in last if name.endswith("_loss")), "grad_norm"):
        if name in last and not math.isfinite(last[name]) and (name != "grad_norm" or not math.isfinite(last["loss"])):
            return f"{run} diverged: {name} is {last[name]} at step {last['step']}. {REMEDIES}"

    recent = entries[-patience:]
    if len(entries) <= patience or recent[0]["step"] < start_step:
        return None
    findings = _findings(entries, start_step, patience)
    if not findings:
        return None
    return f"{run} collapsed at or before step {last['step']}: {'; '.join(findings)}. {REMEDIES}"


def _findings(entries: Sequence[Mapping[str, float]], start_step: int, patience: int) -> list[str]:
    """Faults that the last entries show, in words; figures that a log does not have are not judged."""
    findings = []
    for name in ("regression_loss", "cross_modal_loss"):
        recent = entries[-patience:]
        if any(name not in entry for entry in recent):
            continue
        # Constant targets leave a constant predictor without any loss.
        ratios = [entry[name] / max(entry["constant_loss"], 1e-12) for entry in recent]
        if min(ratios) > MAX_LOSS_TO_CONSTANT and ratios[-1] >= ratios[0]:
            findings.append(
                f"the loss has diverged: {name} {recent[-1][name]:.3g} is more than {MAX_LOSS_TO_CONSTANT:g} times "
                f"that of a constant predictor ({recent[-1]['constant_loss']:.3g})"
            )

    def last_values(name: str) -> list[float]:
        """The last `patience` values that are numbers, if there are so many since `start_step`; else none."""
        numbers = [entry[name] for entry in entries if _is_number(entry, name) and entry["step"] >= start_step]
        return numbers[-patience:] if len(numbers) >= patience else []

    for name, share, what in (
        ("feature_encoder_std", MIN_SHARE_OF_SPREAD, "the feature encoder's output hardly depends on the input"),
        ("target_spread", MIN_SHARE_OF_SPREAD, "the teacher's layers hardly vary before normalisation"),
        ("pooled_spread", MIN_SHARE_OF_SPREAD, "the teacher's pooled layers hardly vary before normalisation"),
        ("student_rank", MIN_SHARE_OF_RANK, "the student's features have collapsed to few dimensions"),
    ):
        highest = max((entry[name] for entry in entries if _is_number(entry, name)), default=0.0)
        values = last_values(name)
        if values and max(values) < share * highest:
            findings.append(f"{what} ({name} {values[-1]:.3g}, it was {highest:.3g})")
    explained = last_values("position_explained")
    if explained and min(explained) > MAX_POSITION_EXPLAINED:
        findings.append(f"the targets no longer depend on content: position alone explains {explained[-1]:.1%} of them")
    first = next((entry["target_std"] for entry in entries if _is_number(entry, "target_std")), 1.0)
    scale = min(1.0, first)  # targets that are not normalised start small
    for name, floor, what in (
        ("target_std", MIN_TARGET_STD, "the targets are constant"),
        ("prediction_std", MIN_PREDICTION_STD, "the predictions are constant"),
    ):
        values = last_values(name)
        if values and max(values) < floor * scale:
            findings.append(f"{what} ({name} {values[-1]:.3g})")
    return findings


def _is_number(entry: Mapping[str, float], name: str) -> bool:
    return math.isfinite(entry.get(name, math.nan))
