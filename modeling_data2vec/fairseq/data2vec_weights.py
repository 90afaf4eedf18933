"""Weights of the authors' (fairseq) data2vec 1.0 models as ours, and back: pure functions, no fairseq needed."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers.models.data2vec.modeling_data2vec_vision import Data2VecVisionRelativePositionBias

from ..configuration_data2vec import Data2VecTextPreTrainingConfig, Data2VecVisionPreTrainingConfig
from ..configuration_pretraining import Data2VecPreTrainingConfig
from .data2vec_config import reference_name
from .renaming import Renaming

TEXT_ENCODER = "encoder.sentence_encoder."
# The reference's names and ours, without the prefix of the student.
RENAMINGS = {
    "data2vec_audio": Renaming(
        [
            ("feature_extractor.conv_layers.{}.0.", "feature_extractor.conv_layers.{}.conv."),
            ("feature_extractor.conv_layers.{}.2.1.", "feature_extractor.conv_layers.{}.layer_norm."),
            ("layer_norm.", "feature_projection.layer_norm."),
            ("post_extract_proj.", "feature_projection.projection."),
            ("mask_emb", "masked_spec_embed"),
            ("encoder.pos_conv.{}.0.", "encoder.pos_conv_embed.layers.{}.conv."),
            ("encoder.layer_norm.", "encoder.layer_norm."),
            ("encoder.layers.{}.self_attn.", "encoder.layers.{}.attention."),
            ("encoder.layers.{}.self_attn_layer_norm.", "encoder.layers.{}.layer_norm."),
            ("encoder.layers.{}.fc1.", "encoder.layers.{}.feed_forward.intermediate_dense."),
            ("encoder.layers.{}.fc2.", "encoder.layers.{}.feed_forward.output_dense."),
            ("encoder.layers.{}.final_layer_norm.", "encoder.layers.{}.final_layer_norm."),
            ("final_proj.", "head.0."),
        ]
    ),
    "data2vec_text": Renaming(
        [
            *(
                (TEXT_ENCODER + theirs, ours)
                for theirs, ours in (
                    ("embed_tokens.", "embeddings.word_embeddings."),
                    ("embed_positions.", "embeddings.position_embeddings."),
                    ("layernorm_embedding.", "embeddings.LayerNorm."),
                    ("layers.{}.self_attn.q_proj.", "encoder.layer.{}.attention.self.query."),
                    ("layers.{}.self_attn.k_proj.", "encoder.layer.{}.attention.self.key."),
                    ("layers.{}.self_attn.v_proj.", "encoder.layer.{}.attention.self.value."),
                    ("layers.{}.self_attn.out_proj.", "encoder.layer.{}.attention.output.dense."),
                    ("layers.{}.self_attn_layer_norm.", "encoder.layer.{}.attention.output.LayerNorm."),
                    ("layers.{}.fc1.", "encoder.layer.{}.intermediate.dense."),
                    ("layers.{}.fc2.", "encoder.layer.{}.output.dense."),
                    ("layers.{}.final_layer_norm.", "encoder.layer.{}.output.LayerNorm."),
                )
            ),
            ("encoder.regression_head.", "head."),
        ]
    ),
    "data2vec_vision": Renaming(
        [
            ("patch_embed.conv.", "embeddings.patch_embeddings.projection."),
            ("cls_emb", "embeddings.cls_token"),
            ("mask_emb", "embeddings.mask_token"),
            (
                "encoder.rel_pos_bias.relative_position_bias_table",
                "encoder.relative_position_bias.relative_position_bias_table",
            ),
            ("encoder.norm.", "layernorm."),
            # Query, key and value in one matrix; ours is made of three by `_thirds`.
            ("encoder.blocks.{}.attn.qkv.weight", "encoder.layer.{}.attention.attention.qkv.weight"),
            ("encoder.blocks.{}.attn.q_bias", "encoder.layer.{}.attention.attention.query.bias"),
            ("encoder.blocks.{}.attn.v_bias", "encoder.layer.{}.attention.attention.value.bias"),
            ("encoder.blocks.{}.attn.proj.", "encoder.layer.{}.attention.output.dense."),
            ("encoder.blocks.{}.gamma_{}", "encoder.layer.{}.lambda_{}"),
            ("encoder.blocks.{}.mlp.0.", "encoder.layer.{}.intermediate.dense."),
            ("encoder.blocks.{}.mlp.2.", "encoder.layer.{}.output.dense."),
            ("encoder.blocks.{}.norm1.", "encoder.layer.{}.layernorm_before."),
            ("encoder.blocks.{}.norm2.", "encoder.layer.{}.layernorm_after."),
        ]
    ),
}
# In the reference's files, but of no use: a buffer that is computed, a version, and a layer that is never called.
DROPPED_V1 = ("relative_position_index", "version", "final_proj.weight", "final_proj.bias")
STUDENT_ALONE = ("head.", "masked_spec_embed")
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"  # transformers' model has them; zeros here
WORDS = "embeddings.word_embeddings.weight"
THIRDS = ("query", "key", "value")


def _averaged(config: Data2VecPreTrainingConfig) -> str:
    """The prefix of the student's names below which the teacher's begin: the module that it averages."""
    if reference_name(config) == "data2vec_text":
        return TEXT_ENCODER
    return "" if config.teacher_scope == "model" else "encoder."


def _owned(config: Data2VecPreTrainingConfig) -> tuple[str, ...]:
    """Beginnings of the names of the teacher's own weights.

    What comes before the layers is the student's, unless the teacher is a whole model or may stand still; no target
    passes what comes after them, nor a mask embedding.
    """
    if config.teacher_scope == "model":
        return ("",)
    if isinstance(config, Data2VecTextPreTrainingConfig) and config.teacher_keeps_embeddings:
        return ("embeddings.", "encoder.")
    return ("encoder.",)


def state_from_fairseq_v1(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], config: Data2VecPreTrainingConfig
) -> dict[str, Tensor]:
    """State dict of a `Data2Vec{Audio,Text,Vision}ForPreTraining` from the reference's student and teacher.

    Args:
        student: the reference's `model` entry without its `_ema`.
        teacher: its `_ema`, whose names are relative to the averaged module.
        config: ours, from `config_from_fairseq_v1`.

    Raises:
        KeyError: lists the names that no such model of the reference has.
    """
    model = reference_name(config)

    names = RENAMINGS[model]
    whole = (*student, *(_averaged(config) + name for name in teacher))
    if unknown := [name for name in whole if names.ours(name) is None and not name.endswith(DROPPED_V1)]:
        raise KeyError(f"not weights of a {model} model of the reference: {', '.join(unknown)}")

    def converted(name: str, value: Tensor) -> dict[str, Tensor]:
        key = names.ours(name)
        if key is None:
            return {}
        if not key.endswith("qkv.weight"):
            return {key: value}
        return {key.replace("qkv", part): third for part, third in zip(THIRDS, value.chunk(3), strict=True)}

    state: dict[str, Tensor] = {}
    for name, value in student.items():
        for key, ours in converted(name, value).items():
            state[key if key.startswith("head.") else f"{model}.{key}"] = ours
    if (tokens := state.get(f"{model}.{WORDS}")) is not None:
        state[f"{model}.{TOKEN_TYPES}"] = torch.zeros_like(tokens[:1])
    owned = _owned(config)
    for name, value in teacher.items():
        for key, ours in converted(_averaged(config) + name, value).items():
            if key.startswith(owned) and not key.startswith(STUDENT_ALONE):
                state[f"teacher.{key}"] = ours
    if f"teacher.{WORDS}" in state:
        state[f"teacher.{TOKEN_TYPES}"] = state[f"{model}.{TOKEN_TYPES}"].clone()
    return state


def state_to_fairseq_v1(
    state: Mapping[str, Tensor], config: Data2VecPreTrainingConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The reverse of `state_from_fairseq_v1`: the reference's student and teacher.

    What the reference's teacher holds beyond ours are copies of the student; a layer that is never called is zeros.

    Args:
        state: of a `Data2Vec{Audio,Text,Vision}ForPreTraining`, or of an encoder with the prefix of one.
        config: the model's.

    Raises:
        ValueError: the token types of a text model are not zeros, and the reference has none.
    """
    model = reference_name(config)
    if (types := state.get(f"{model}.{TOKEN_TYPES}")) is not None and types.any():
        raise ValueError("the model has token types that are not zeros, but the authors' code has no token types")

    def renamed(prefix: str) -> dict[str, Tensor]:
        part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        for key in [key for key in part if key.endswith("attention.attention.query.weight")]:
            thirds = [part.pop(key.replace("query", name)) for name in THIRDS]
            part[key.replace("query", "qkv")] = torch.cat(thirds)
        names = {key: RENAMINGS[model].theirs(key) for key in part if key != TOKEN_TYPES}
        if unknown := [key for key, name in names.items() if name is None]:
            raise KeyError(f"{prefix}{unknown[0]} is not a weight that the reference's {model} has")
        return {str(name): part[key] for key, name in names.items()}

    student = renamed(f"{model}.")
    heads = {RENAMINGS[model].theirs(key): value for key, value in state.items() if key.startswith("head.")}
    student |= {str(name): value for name, value in heads.items()}
    student |= _unused(student, config)
    teacher: dict[str, Tensor] = {}
    if any(key.startswith("teacher.") for key in state):
        inside = _averaged(config)
        whole = {name: value for name, value in student.items() if name.startswith(inside)} | renamed("teacher.")
        teacher = {name.removeprefix(inside): value for name, value in whole.items()}
    return student, teacher


def _unused(student: Mapping[str, Tensor], config: Data2VecPreTrainingConfig) -> dict[str, Tensor]:
    """Entries of the authors' files that no forward pass needs."""
    if isinstance(config, Data2VecVisionPreTrainingConfig):
        bias = Data2VecVisionRelativePositionBias(config, config.grid)
        weight = torch.zeros(config.hidden_size, config.hidden_size)
        return {
            "encoder.rel_pos_bias.relative_position_index": bias.generate_relative_position_index(config.grid),
            "final_proj.weight": weight,
            "final_proj.bias": weight[0].clone(),
        }
    if isinstance(config, Data2VecTextPreTrainingConfig):
        return {f"{TEXT_ENCODER}version": torch.tensor([3.0])}
    return {}
