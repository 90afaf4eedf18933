"""Paired samples, such as a picture and its spoken name: one modality's pooled latents predicted from another's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from .configuration_data2vec2_joint import Data2Vec2Config
from .core import Data2VecPreTrainingOutput, total_loss
from .embedding import Embedding, mean_over_positions
from .heads import RegressionHead
from .objective import Term, masked_mean, regression_loss, weighted_losses
from .running_norm import RunningWhitening
from .student_teacher import Data2Vec2StudentTeacher

PAIRS = "pairs"  # what a batch of paired samples is called, beside the modalities


def direction(source: str, target: str) -> str:
    """The name of the head that predicts `target` from `source`."""
    return f"{source}_to_{target}"


class CrossModalHeads(nn.ModuleDict):
    """A head for each ordered pair of modalities, "audio_to_text" and so on.

    Each predicts the other modality's pooled target from the mean of this modality's states, both of whole inputs.

    Args:
        config: reads `modalities`, `hidden_size` and `cross_modal_layers`.

    Example:
        >>> from .configuration_data2vec2_audio import Data2Vec2AudioConfig
        >>> from .configuration_data2vec2_text import Data2Vec2TextConfig
        >>> sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, average_top_k_layers=1,
        ...     layerdrop=0.0, ema_decay=0.9999, ema_anneal_end_step=100_000)
        >>> config = Data2Vec2Config(audio_config=Data2Vec2AudioConfig(**sizes),
        ...     text_config=Data2Vec2TextConfig(decoder_groups=1, **sizes), cross_modal_layers=1)
        >>> list(CrossModalHeads(config))
        ['audio_to_text', 'text_to_audio']
    """

    def __init__(self, config: Data2Vec2Config):
        names = [direction(*pair) for pair in permutations(config.modalities, 2)]
        super().__init__({name: RegressionHead(config.hidden_size, config.cross_modal_layers) for name in names})

    def forward(self, states: Mapping[str, Tensor]) -> dict[tuple[str, str], Tensor]:
        """Predictions [B, D] of (source, target), of states [B, D] of each modality that the samples have."""
        return {pair: self[direction(*pair)](states[pair[0]]) for pair in permutations(states, 2)}


class CrossModalNorms(nn.Module):
    """Norms over samples, of each modality, of what the heads get and of what they are to predict.

    The target of a whole sample is each of the teacher's pooled layers, standardised over *samples*, then their mean,
    whitened over samples. Not the mean of the targets of pretraining: these are standardised over the positions of each
    sample, so that their mean over positions is zero by construction. A norm over samples leaves what distinguishes a
    sample from the others, and can't be met by a constant. The same norm of the student's states lets a head learn all
    directions of its input equally fast.

    Args:
        config: reads `modalities`, `hidden_size` and each modality's `average_top_k_layers`.

    Attributes:
        states: by modality, of [..., 1, D].
        targets: by modality, of [B, K, D] from `pooled_layers`.
    """

    def __init__(self, config: Data2Vec2Config):
        super().__init__()
        layers = {name: config.of(name).average_top_k_layers for name in config.modalities}
        self.states = nn.ModuleDict({name: RunningWhitening(1, config.hidden_size) for name in layers})
        self.targets = nn.ModuleDict({name: RunningWhitening(k, config.hidden_size) for name, k in layers.items()})


def pooled_states(side: Data2Vec2StudentTeacher, embedding: Embedding) -> Tensor:
    """The student's states of the whole input, nothing hidden, averaged over its real positions: [B, D]."""
    tokens, attention_masks = side.feature_encoder.contextualize(embedding)
    states, _ = side.trunk(tokens, attention_masks, differences=side.differences)  # [B, E + T, D]
    return mean_over_positions(states[:, side.config.num_extra_tokens :], embedding.valid)


def pooled_layers(layers: Sequence[Tensor], average_top_k_layers: int, valid: Tensor | None = None) -> Tensor:
    """Each of the teacher's top K layers, averaged over the real positions: K x [B, T, D] to fp32 [B, K, D]."""
    means = [mean_over_positions(layer.float(), valid) for layer in layers[-average_top_k_layers:]]
    return torch.stack(means, dim=1)


def centred_targets(targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Targets at positions without what they have in common: less the mean over the batch at each position.

    Most of a target at a position follows from its place alone, which a predictor across modalities is told. What is
    left is what distinguishes a sample from the others, so nothing of it is known without the other modality; 0 is the
    best constant.

    Args:
        targets: [B, T, D] of one modality.
        valid: bool [B, T], True at real positions; None for all.

    Returns:
        [B, T, D]; 0 at padded positions, and where a position is real in one sample only.

    Example:
        >>> centred_targets(torch.tensor([[[1.0], [5.0]], [[3.0], [7.0]]])).flatten().tolist()
        [-1.0, -1.0, 1.0, 1.0]
    """
    if valid is None:
        return targets - targets.mean(0)
    real = valid[..., None].to(targets.dtype)  # [B, T, 1]
    mean = (targets * real).sum(0) / real.sum(0).clamp_min(1)  # [T, D]
    return (targets - mean) * real


@dataclass(frozen=True)
class PairViews:
    """Paired samples as the student and the teacher see them: the argument of the terms of their loss.

    Attributes:
        predictions: [B, D] of each ordered pair (source, target) of modalities, predicted from the source.
        targets: [B, D] of each modality.
        position_predictions: [B, T, D] of each ordered pair, at the T positions of the target; none by default.
        position_targets: [B, T, D] of each modality, from `centred_targets`.
        valid: bool [B, T] of each modality, True at real positions; None where nothing is padded.

    Of masked samples, `predictions` are [B, M, D], from each of the source's M views, and `targets` [B, 1, D].
    """

    predictions: dict[tuple[str, str], Tensor]
    targets: dict[str, Tensor]
    position_predictions: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    position_targets: dict[str, Tensor] = field(default_factory=dict)
    valid: dict[str, Tensor | None] = field(default_factory=dict)

    def constant(self) -> "PairViews":
        """The same with the best constant predictions."""
        # Both kinds of targets have mean 0: over samples of the run, and over the batch.
        pooled = {pair: torch.zeros_like(found) for pair, found in self.predictions.items()}
        at_positions = {pair: torch.zeros_like(found) for pair, found in self.position_predictions.items()}
        return replace(self, predictions=pooled, position_predictions=at_positions)


def pair_terms(config: Data2Vec2Config) -> list[Term]:
    """The terms of the loss of paired samples across modalities: of pooled targets and, where asked for, at positions.

    Each is a mean over all ordered pairs of modalities.
    """
    terms = [Term("cross_modal_loss", 1.0, pair_regression)]
    if config.cross_attention_layers:
        terms.append(Term("cross_position_loss", 1.0, position_regression))
    return terms


def pair_regression(views: PairViews) -> Tensor:
    """Mean over ordered pairs of modalities and over samples of the loss summed over channels, a scalar."""
    losses = [regression_loss(found, views.targets[target]).mean() for (_, target), found in views.predictions.items()]
    return torch.stack(losses).mean()


def position_regression(views: PairViews) -> Tensor:
    """The same at positions: mean over ordered pairs of modalities and over the target's real positions, a scalar."""
    losses = []
    for (_, target), found in views.position_predictions.items():
        at_positions = regression_loss(found, views.position_targets[target])  # [B, T]
        valid = views.valid[target]
        losses.append(at_positions.mean() if valid is None else masked_mean(at_positions, valid))
    return torch.stack(losses).mean()


def pretrain_on_pairs(
    model: Any, pairs: Mapping[str, Mapping[str, Tensor | None]], return_loss: bool = True
) -> Data2VecPreTrainingOutput:
    """Loss of a batch of B paired samples, in which each has all the modalities that are given.

    Args:
        model: a `Data2Vec2ForPreTraining` with `cross_modal_layers`.
        pairs: `inputs` [B, ...] and, where something is padded, `attention_mask` of two or more modalities.
        return_loss: whether to compute the loss.

    Returns:
        `loss` and its terms, `losses`, as the model's `build_pair_terms` lists them; `constant_loss`, the regression
        loss of the best constant; `targets` [B, modalities, D]; `target_spread`, of the pooled layers over the batch
        before they are normalised.

    Raises:
        ValueError: the model has no such heads; the batch has fewer than two modalities or samples, or unequally many.
    """
    check_pairs(model.config, pairs)
    states, targets, spreads = {}, {}, []
    for name, part in pairs.items():
        inputs, attention_mask = part["inputs"], part.get("attention_mask")
        side = model.side(name)
        embedding = side.embed(inputs, attention_mask)
        states[name] = pooled_states(side, embedding)
        layers = model.teacher_layers(inputs, embedding, attention_mask, modality=name)
        pooled = pooled_layers(layers, side.config.average_top_k_layers, embedding.valid)
        targets[name] = model.cross_norms.targets[name](pooled)
        spreads.append(pooled.std(dim=0).mean())
    fields: dict[str, Any] = {}
    if return_loss:
        normalised = {name: model.cross_norms.states[name](state[:, None]) for name, state in states.items()}
        views = PairViews(model.cross_modal(normalised), targets)
        fields = total_loss(weighted_losses(model.build_pair_terms(), views))
        fields["constant_loss"] = pair_regression(views.constant())
    return Data2VecPreTrainingOutput(
        **fields,
        targets=torch.stack(list(targets.values()), dim=1),
        target_spread=torch.stack(spreads).mean(),
        pooled_states={name: state.detach() for name, state in states.items()},
    )


def check_pairs(config: Data2Vec2Config, pairs: Mapping[str, Mapping[str, Tensor | None]]) -> None:
    """Raise a ValueError for a batch that is no pairs, or a model without heads for them."""
    if not config.cross_modal_layers:
        raise ValueError(
            "pairs are given, but the model has no heads for them: build it with cross_modal_layers of at least 1"
        )
    sizes = {name: len(part["inputs"]) for name, part in pairs.items()}  # type: ignore[arg-type]
    alone = bool(config.cross_attention_layers) and not config.cross_modal_weight  # each modality predicts its own
    if len(sizes) < (1 if alone else 2) or len(set(sizes.values())) > 1 or min(sizes.values()) < 2:
        raise ValueError(
            f"pairs hold {sizes or 'nothing'} (samples of each modality), but must hold two or more modalities, and "
            "equally many samples of each, at least 2: their targets are normalised over samples"
        )
