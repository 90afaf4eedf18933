"""Weights of the authors' (fairseq) data2vec 2.0 models as ours, and back: pure functions, no fairseq needed."""

from collections.abc import Mapping
from functools import cache

from torch import Tensor

from ..configuration_data2vec2 import Data2Vec2PreTrainingConfig
from ..configuration_data2vec2_spectrogram import Data2Vec2SpectrogramConfig
from ..configuration_data2vec2_vision import Data2Vec2VisionConfig
from ..modeling_data2vec2_vision import sincos_positions
from .data2vec2_config import reference_modality
from .data2vec2_options import EAT_TIME_PATCHES
from .renaming import Renaming

# Of the part that belongs to a modality: the reference's names, ours.
FEATURE_ENCODER = (
    ("context_encoder.norm.", "norm."),
    ("context_encoder.blocks.{}.attn.", "prenet.{}.attention."),
    ("context_encoder.blocks.{}.", "prenet.{}."),
    ("extra_tokens", "extra_tokens"),
    ("alibi_scale", "alibi_scale"),
)
LOCAL_ENCODERS: dict[str, tuple[tuple[str, str], ...]] = {
    "IMAGE": (("local_encoder.proj.", "patch_embed."),),
    "IMAGE, projected": (("local_encoder.0.proj.", "patch_embed."), ("local_encoder.1.", "patch_projection.")),
    "AUDIO": (
        ("local_encoder.conv_layers.{}.0.", "convs.{}.conv."),
        ("local_encoder.conv_layers.{}.2.1.", "convs.{}.norm."),
        ("project_features.1.", "feature_norm."),
        ("project_features.2.", "feature_projection."),
        ("relative_positional_encoder.{}.0.", "position_convs.{-1}."),  # number 0 there is a transposition
    ),
    "TEXT": (
        ("local_encoder.embed_tokens.", "embed_tokens."),
        ("local_encoder.embed_positions.", "embed_positions."),
        ("local_encoder.layernorm_embedding.", "embed_norm."),
    ),
}
POSITIONS = "fixed_positional_encoder.positions"  # kept in the reference's files, computed here
ALIBI_SCALE = "feature_encoder.alibi_scale"  # [layers, H, 1, 1] here; there with an axis for the batch after the first


@cache
def renaming(modality: str, *, projected: bool = False) -> Renaming:
    """Names of weights without our prefix of the student, for the reference's name of a modality.

    `projected` is for patches of another width than the model's, which a linear layer follows.

    Example:
        >>> renaming("IMAGE").ours("blocks.3.attn.qkv.weight")
        'trunk.layers.3.attention.qkv.weight'
    """
    prefix = f"modality_encoders.{modality}."
    return Renaming(
        [
            ("blocks.{}.attn.", "trunk.layers.{}.attention."),
            ("blocks.{}.", "trunk.layers.{}."),
            ("norm.", "trunk.norm."),
            *(
                (prefix + theirs, f"feature_encoder.{ours}")
                for theirs, ours in (*FEATURE_ENCODER, *LOCAL_ENCODERS[modality + ", projected" * projected])
            ),
            (f"{prefix}decoder.blocks.{{}}.0.", "head.convs.{}."),
            (f"{prefix}decoder.proj.", "head.proj."),
        ]
    )


def state_from_fairseq(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], config: Data2Vec2PreTrainingConfig
) -> dict[str, Tensor]:
    """State dict of a `Data2Vec2...ForPreTraining` from the reference's student and teacher.

    Args:
        student: the reference's `model` entry without its `_ema`.
        teacher: its `_ema`, whose names are relative to the averaged module.
        config: ours, from `config_from_fairseq`.

    Raises:
        KeyError: lists the names that no such model of the reference has.
    """
    modality = reference_modality(config)
    names = renaming(modality, projected=_is_projected(config))
    state: dict[str, Tensor] = {}
    unknown = []
    whole = {name: (name, value) for name, value in student.items()}
    whole |= {f"teacher.{name}": (_averaged(config) + name, value) for name, value in teacher.items()}
    for full, (name, value) in whole.items():
        if name.endswith(POSITIONS):
            continue
        if (key := names.ours(name)) is None:
            unknown.append(full)
            continue
        value = value.squeeze(1) if key == ALIBI_SCALE else value
        if full.startswith("teacher."):
            state[f"teacher.{key}"] = value
        else:
            state[key if key.startswith("head.") else f"{_student_prefix(config)}.{key}"] = value
    if unknown:
        raise KeyError(f"not weights of a data2vec 2.0 model of the reference for {modality}: {', '.join(unknown)}")
    return state


def state_to_fairseq(
    state: Mapping[str, Tensor], config: Data2Vec2PreTrainingConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The reverse of `state_from_fairseq`: the reference's student and teacher, also with what it keeps of positions.

    Args:
        state: of a `Data2Vec2...ForPreTraining`, or of an encoder with the prefix of one.
        config: the model's.
    """
    modality = reference_modality(config)
    names = renaming(modality, projected=_is_projected(config))
    inside, prefix = _averaged(config), f"{_student_prefix(config)}."
    student: dict[str, Tensor] = {}
    teacher: dict[str, Tensor] = {}
    for key, value in state.items():
        short = key.removeprefix("teacher.").removeprefix(prefix)
        if (name := names.theirs(short)) is None:
            raise KeyError(f"{key!r} is not a weight that the reference's model for {modality} has")
        value = value.unsqueeze(1) if short == ALIBI_SCALE else value
        if key.startswith("teacher."):
            teacher[name.removeprefix(inside)] = value
        else:
            student[name] = value
    if isinstance(config, Data2Vec2VisionConfig | Data2Vec2SpectrogramConfig):
        name = f"modality_encoders.{modality}.{POSITIONS}"
        rows, columns = config.grid
        if isinstance(config, Data2Vec2SpectrogramConfig):
            rows = max(EAT_TIME_PATCHES, rows)
        positions = sincos_positions((rows, columns), config.hidden_size)[None]  # [1, T, D]
        student[name] = positions
        if teacher and config.teacher_scope != "trunk":
            teacher[name] = positions.clone()  # a file counts what its tensors share only once
    return student, teacher


def _is_projected(config: Data2Vec2PreTrainingConfig) -> bool:
    """Whether patches have another width than the model."""
    return getattr(config, "patch_embed_dim", None) not in (None, config.hidden_size)


def _averaged(config: Data2Vec2PreTrainingConfig) -> str:
    """The prefix of the teacher's names: it averages the blocks alone, or the whole model."""
    return "blocks." if config.teacher_scope == "trunk" else ""


def _student_prefix(config: Data2Vec2PreTrainingConfig) -> str:
    return config.model_type.replace("-", "_")
