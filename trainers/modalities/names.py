"""Which modality is meant: of a batch, by the name of its raw input, and of a model, joint or single.

Batches of paired samples are a member of their own, "pairs".
"""

from collections.abc import Iterable
from typing import Any

from modeling_data2vec import Data2Vec2Config
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.cross_modal import PAIRS
from modeling_data2vec.modeling_data2vec2_joint import MODALITY_OF_INPUT

INPUT_OF_MODALITY = {modality: name for name, modality in MODALITY_OF_INPUT.items()}


def modality_of(inputs: Iterable[str]) -> str:
    """The modality of a sample or batch, by the names of its inputs.

    Raises:
        ValueError: there is no raw input, or that of several modalities.

    Example:
        >>> modality_of({"pixel_values": ..., "mask": ...})
        'vision'
    """
    names = list(inputs)
    members = MODALITY_OF_INPUT | {PAIRS: PAIRS}
    found = [modality for name, modality in members.items() if name in names]
    if len(found) != 1:
        raise ValueError(f"a batch has {', '.join(names)}, but must have exactly one of {', '.join(members)}")
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


def members_of(config: Any) -> tuple[str, ...]:
    """What a model can be trained on: its modalities and, with heads for them, "pairs"."""
    pairs = (PAIRS,) if getattr(config, "cross_modal_layers", 0) else ()
    return (*modalities_of(config), *pairs)


def config_of(config: Any, member: str) -> Any:
    """The config of one modality of a model: its own part, or the whole of a model that has only this one.

    Of "pairs", which all modalities take part in, it is the whole, too.

    Raises:
        ValueError: the model does not have it.
    """
    if member not in members_of(config):
        hint = ": set cross_modal_layers" if member == PAIRS else ""
        raise ValueError(f"the model has the modalities {', '.join(members_of(config))}, but not {member!r}{hint}")
    return config.of(member) if isinstance(config, Data2Vec2Config) and member != PAIRS else config


def loss_weight_of(config: Any, modality: str) -> float:
    """How much the modality's mean loss weighs in that of an optimizer step."""
    return config.loss_weight(modality) if isinstance(config, Data2Vec2Config) else 1.0
