"""Which modality is meant: of a batch, by the name of its raw input, and of a model, joint or single."""

from collections.abc import Iterable
from typing import Any

from modeling_data2vec import Data2Vec2Config
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.modeling_data2vec_joint import MODALITY_OF_INPUT


def modality_of(inputs: Iterable[str]) -> str:
    """The modality of a sample or batch, by the names of its inputs.

    Raises:
        ValueError: there is no raw input, or that of several modalities.

    Example:
        >>> modality_of({"pixel_values": ..., "mask": ...})
        'vision'
    """
    names = list(inputs)
    found = [modality for name, modality in MODALITY_OF_INPUT.items() if name in names]
    if len(found) != 1:
        raise ValueError(f"a batch has {', '.join(names)}, but must have exactly one of {', '.join(MODALITY_OF_INPUT)}")
    return found[0]


def modalities_of(config: Any) -> tuple[str, ...]:
    """All modalities of a model; that of one kind of input has one.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextConfig
        >>> modalities_of(Data2Vec2TextConfig())
        ('text',)
    """
    if isinstance(config, Data2Vec2Config):
        return config.modalities
    return (MODALITY_OF_INPUT[pretraining_class(config.model_type).main_input_name],)


def config_of(config: Any, modality: str) -> Any:
    """The config of one modality of a model: its own part, or the whole of a model that has only this one.

    Raises:
        ValueError: the model does not have it.
    """
    if modality not in modalities_of(config):
        raise ValueError(f"the model has the modalities {', '.join(modalities_of(config))}, but not {modality!r}")
    return config.of(modality) if isinstance(config, Data2Vec2Config) else config


def loss_weight_of(config: Any, modality: str) -> float:
    """How much the modality's mean loss weighs in that of an optimizer step."""
    return config.loss_weight(modality) if isinstance(config, Data2Vec2Config) else 1.0
