"""A joint model of single ones: their own parts side by side, and one trunk of theirs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .configuration_data2vec2_joint import SHARED_FIELDS, Data2Vec2Config, modality_configs
from .modeling_data2vec2_joint import Data2Vec2ForPreTraining
from .slices import sliced_name

# Shared fields that say how a trunk is trained, not what it computes: models may differ in them before they are merged.
TRAINING_FIELDS = (
    *("hidden_dropout", "attention_dropout", "activation_dropout", "post_mlp_dropout", "drop_path_rate", "layerdrop"),
    *("ema_decay", "ema_end_decay", "ema_anneal_end_step", "initializer_range"),
)
AVERAGE = "average"


def merge_models(models: Mapping[str, Any], trunk: str = AVERAGE, **options: Any) -> Data2Vec2ForPreTraining:
    """Build a joint model of single ones, to continue from: student, teacher and decoders are theirs.

    Args:
        models: `Data2Vec2{Audio,Spectrogram,Text,Vision}ForPreTraining` by modality: "audio", "spectrogram", "text",
            "vision".
        trunk: whose trunk the joint model gets, or "average" for the mean of all. How it is trained (dropouts, the
            teacher's decay) is as in that model, or the first.
        options: further fields of `Data2Vec2Config`, e.g. `modality_norms=True`.

    Raises:
        ValueError: no or unknown modalities, a model of another kind, an unknown `trunk`, trunks of different shapes.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextConfig, Data2Vec2TextForPreTraining
        >>> config = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64)
        >>> joint = merge_models({"text": Data2Vec2TextForPreTraining(config)}, modality_lora_rank=4)
        >>> joint.config.modalities
        ('text',)
    """
    _check(models, trunk)
    first = models[trunk] if trunk != AVERAGE else next(iter(models.values()))
    training = {name: getattr(first.config, name) for name in TRAINING_FIELDS}
    configs = {}
    for modality, model in models.items():
        values = {key: value for key, value in model.config.to_dict().items() if key != "model_type"}
        configs[f"{modality}_config"] = modality_configs()[modality](**(values | training))
    joint = Data2Vec2ForPreTraining(Data2Vec2Config(**configs, **options))
    weights = {modality: model.state_dict() for modality, model in models.items()}
    state = joint.state_dict()
    for name, value in state.items():
        sources = _sources(name, models, weights, trunk)
        if sources:  # else what single models do not have: differences, which begin at zero
            value.copy_(torch.stack([source.to(value.dtype) for source in sources]).mean(0))
    joint.load_state_dict(state)
    joint.freeze_teacher()
    return joint


def _sources(
    name: str, models: Mapping[str, Any], weights: Mapping[str, Mapping[str, Tensor]], trunk: str
) -> list[Tensor]:
    """The single models' weights that one of the joint model's is made of."""
    sources = []
    for modality, model in models.items():
        kind, single = sliced_name(name, modality, model.base_model_prefix)
        shared = name.startswith(("data2vec2.trunk.", "teacher.trunk."))
        if kind == "weight" and single in weights[modality] and not (shared and trunk not in (AVERAGE, modality)):
            sources.append(weights[modality][single])
    return sources


def _check(models: Mapping[str, Any], trunk: str) -> None:
    if not models or any(modality not in modality_configs() for modality in models):
        raise ValueError(
            f"models has {', '.join(models) or 'no modality'}, but takes {', '.join(modality_configs())}, one or more"
        )
    if trunk != AVERAGE and trunk not in models:
        raise ValueError(f"trunk is {trunk!r}, but must be one of {', '.join(models)} or {AVERAGE!r}")
    for modality, model in models.items():
        if type(model.config) is not modality_configs()[modality] or not hasattr(model, "teacher"):
            raise ValueError(
                f"the model for {modality} is a {type(model).__name__}, but must be a pretraining model with a "
                f"{modality_configs()[modality].__name__}: load it with AutoModelForPreTraining"
            )
    fields = [name for name in SHARED_FIELDS if name not in TRAINING_FIELDS]
    for name in fields:
        values = {modality: getattr(model.config, name) for modality, model in models.items()}
        if len(set(values.values())) > 1:
            found = ", ".join(f"{value} of {modality}" for modality, value in values.items())
            raise ValueError(f"{name} differs ({found}): only trunks of one shape can be merged")
