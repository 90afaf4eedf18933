"""Maps between the authors' (fairseq) data2vec 1.0 models and ours: pure functions, no fairseq needed.

`name` is the reference's name of a model: "data2vec_audio", "data2vec_text" or "data2vec_vision".
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .configuration_data2vec import (
    Data2VecAudioPreTrainingConfig,
    Data2VecTextPreTrainingConfig,
    Data2VecVisionPreTrainingConfig,
)
from .configuration_pretraining import Data2VecPreTrainingConfig
from .conversion import convolution_shapes

NAMES = ("data2vec_audio", "data2vec_text", "data2vec_vision")

# Options of the reference that can't be represented, with the only value that is accepted. docs/differences.md says
# why. Dots lead into sections of its config.
LEFT_OUT_V1: dict[str, dict[str, Any]] = {
    "data2vec_audio": {
        "extractor_mode": "layer_norm",
        "layer_type": "transformer",
        "layer_norm_first": False,
        "feature_grad_mult": 1.0,
        "mask_selection": "static",
        "mask_other": 0.0,
        "no_mask_overlap": False,
        "mask_dropout": 0.0,
        "mask_channel_prob": 0.0,
        "attn_type": "",
        "pos_enc_type": "abs",
        "adp_num": -1,
    },
    "data2vec_text": {
        "transformer.activation_dropout": 0.0,
        "transformer.encoder.normalize_before": False,
        "transformer.encoder.learned_pos": True,
        "transformer.encoder.layerdrop": 0.0,
        "transformer.no_token_positional_embeddings": False,
        "transformer.no_scale_embedding": True,
        "transformer.layernorm_embedding": True,
    },
    "data2vec_vision": {"shared_rel_pos_bias": True},
}
# Fields that are called the same there and here, where the reference's model has them.
SAME_NAME = (
    "average_top_k_layers",
    "end_of_block_targets",
    "batch_norm_target_layer",
    "instance_norm_target_layer",
    "group_norm_target_layer",
    "layer_norm_target_layer",
    "layer_norm_targets",
    "instance_norm_targets",
    "loss_beta",
    "ema_decay",
    "ema_end_decay",
    "ema_anneal_end_step",
)


def _option(config: Mapping[str, Any], path: str) -> Any:
    """The value at "section.option", KeyError where there is none."""
    for name in path.split("."):
        config = config[name]
    return config


def left_out_options_v1(model_config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Options of a reference model config that can't be represented here: path to value, empty if there are none.

    Args:
        model_config: the `model` section of the reference's config, resolved.
        name: the reference's name of the model.
    """
    used = {}
    for path, accepted in LEFT_OUT_V1[name].items():
        try:
            value = _option(model_config, path)
        except KeyError:
            continue
        if value != accepted:
            used[path] = value
    if name == "data2vec_audio" and model_config["pos_conv_depth"] < 2:
        used["pos_conv_depth"] = model_config["pos_conv_depth"]
    return used


def config_from_fairseq_v1(
    model_config: Mapping[str, Any], name: str, *, vocab_size: int | None = None, mask_token_id: int | None = None
) -> Data2VecPreTrainingConfig:
    """Our config for a data2vec 1.0 model of the reference.

    Args:
        model_config: the `model` section of the reference's config, resolved (a plain dict).
        name: the reference's name of the model.
        vocab_size, mask_token_id: of a text model; the reference keeps them in its dictionary.

    Raises:
        ValueError: names options that can't be represented, or another model.
    """
    if name not in NAMES:
        raise ValueError(f"the model is {name!r}, but only {', '.join(NAMES)} are data2vec 1.0")
    if used := left_out_options_v1(model_config, name):
        raise ValueError(
            f"the reference's options {used} are not supported (docs/differences.md says why): "
            "this checkpoint can't be represented"
        )
    shared: dict[str, Any] = {field: model_config[field] for field in SAME_NAME if field in model_config}
    scale = model_config["loss_scale"]
    shared |= {"padding": "reference", "loss_scale": scale}
    if name == "data2vec_audio":
        return _audio_config(model_config, shared)
    # Images and text take 1/sqrt(D) for a scale that is not positive.
    shared["loss_scale"] = scale if scale is not None and scale > 0 else None
    if name == "data2vec_vision":
        return _vision_config(model_config, shared)
    if vocab_size is None:
        raise ValueError("a text model needs vocab_size: the number of rows of its embed_tokens.weight")
    return _text_config(model_config, shared | {"vocab_size": vocab_size, "mask_token_id": mask_token_id})


def _audio_config(reference: Mapping[str, Any], shared: dict[str, Any]) -> Data2VecPreTrainingConfig:
    dims, kernels, strides = zip(*convolution_shapes(reference["conv_feature_layers"]), strict=True)
    depth = reference["pos_conv_depth"]
    if not reference["ema_transformer_only"]:
        # The reference then averages all layers, whatever average_top_k_layers is.
        shared |= {"teacher_scope": "model", "average_top_k_layers": reference["encoder_layers"]}
    else:
        shared["teacher_scope"] = "layers" if reference["ema_layers_only"] else "encoder"
    return Data2VecAudioPreTrainingConfig(
        **shared,
        hidden_size=reference["encoder_embed_dim"],
        num_hidden_layers=reference["encoder_layers"],
        num_attention_heads=reference["encoder_attention_heads"],
        intermediate_size=reference["encoder_ffn_embed_dim"],
        hidden_act=reference["activation_fn"],
        hidden_dropout=reference["dropout"],
        attention_dropout=reference["attention_dropout"],
        activation_dropout=reference["activation_dropout"],
        feat_proj_dropout=reference["dropout_input"],
        layerdrop=reference["encoder_layerdrop"],
        conv_dim=dims,
        conv_kernel=kernels,
        conv_stride=strides,
        conv_bias=reference["conv_bias"],
        num_conv_pos_embeddings=depth,
        conv_pos_kernel_size=max(3, reference["conv_pos"] // depth),
        num_conv_pos_embedding_groups=reference["conv_pos_groups"],
        mask_prob=reference["mask_prob"],
        mask_length=reference["mask_length"],
        equal_mask_counts=reference["require_same_masks"],
    )


def _vision_config(reference: Mapping[str, Any], shared: dict[str, Any]) -> Data2VecPreTrainingConfig:
    num_patches = (reference["image_size"] // reference["patch_size"]) ** 2
    return Data2VecVisionPreTrainingConfig(
        **shared,
        teacher_scope="encoder" if reference["ema_transformer_only"] else "model",
        hidden_size=reference["embed_dim"],
        num_hidden_layers=reference["depth"],
        num_attention_heads=reference["num_heads"],
        intermediate_size=4 * reference["embed_dim"],  # the reference's mlp_ratio has no effect
        attention_probs_dropout_prob=reference["attention_dropout"],
        drop_path_rate=reference["drop_path"],
        layer_scale_init_value=reference["layer_scale_init_value"],
        image_size=reference["image_size"],
        patch_size=reference["patch_size"],
        num_channels=reference["in_channels"],
        mask_prob=reference["num_mask_patches"] / num_patches,
        min_mask_block=reference["min_mask_patches_per_block"],
    )


def _text_config(reference: Mapping[str, Any], shared: dict[str, Any]) -> Data2VecPreTrainingConfig:
    transformer = reference["transformer"]
    encoder = transformer["encoder"]
    return Data2VecTextPreTrainingConfig(
        **shared,
        teacher_scope="layers" if reference["ema_transformer_layers_only"] else "model",
        hidden_size=encoder["embed_dim"],
        num_hidden_layers=encoder["layers"],
        num_attention_heads=encoder["attention_heads"],
        intermediate_size=encoder["ffn_embed_dim"],
        hidden_act=transformer["activation_fn"],
        hidden_dropout_prob=transformer["dropout"],
        attention_probs_dropout_prob=transformer["attention_dropout"],
        max_position_embeddings=transformer["max_source_positions"] + 2,  # fairseq's padding is token 1
        head_layers=reference["head_layers"],
    )


# ---- weights ----

# Patterns over the reference's names. Those of layers hold for student and teacher.
KEYS_V1: dict[str, tuple[tuple[str, str], ...]] = {
    "data2vec_audio": (
        (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
        (r"^feature_extractor\.conv_layers\.(\d+)\.2\.1\.", r"feature_extractor.conv_layers.\1.layer_norm."),
        (r"^layer_norm\.", "feature_projection.layer_norm."),
        (r"^post_extract_proj\.", "feature_projection.projection."),
        (r"^mask_emb$", "masked_spec_embed"),
        (r"^encoder\.pos_conv\.(\d+)\.0\.", r"encoder.pos_conv_embed.layers.\1.conv."),
        (r"^encoder\.layer_norm\.", "encoder.layer_norm."),
        (r"^encoder\.layers\.(\d+)\.self_attn\.", r"encoder.layers.\1.attention."),
        (r"^encoder\.layers\.(\d+)\.self_attn_layer_norm\.", r"encoder.layers.\1.layer_norm."),
        (r"^encoder\.layers\.(\d+)\.fc1\.", r"encoder.layers.\1.feed_forward.intermediate_dense."),
        (r"^encoder\.layers\.(\d+)\.fc2\.", r"encoder.layers.\1.feed_forward.output_dense."),
        (r"^encoder\.layers\.(\d+)\.final_layer_norm\.", r"encoder.layers.\1.final_layer_norm."),
        (r"^final_proj\.", "head.0."),
    ),
    "data2vec_text": (
        (r"^embed_tokens\.", "embeddings.word_embeddings."),
        (r"^embed_positions\.", "embeddings.position_embeddings."),
        (r"^layernorm_embedding\.", "embeddings.LayerNorm."),
        (r"^layers\.(\d+)\.self_attn\.q_proj\.", r"encoder.layer.\1.attention.self.query."),
        (r"^layers\.(\d+)\.self_attn\.k_proj\.", r"encoder.layer.\1.attention.self.key."),
        (r"^layers\.(\d+)\.self_attn\.v_proj\.", r"encoder.layer.\1.attention.self.value."),
        (r"^layers\.(\d+)\.self_attn\.out_proj\.", r"encoder.layer.\1.attention.output.dense."),
        (r"^layers\.(\d+)\.self_attn_layer_norm\.", r"encoder.layer.\1.attention.output.LayerNorm."),
        (r"^layers\.(\d+)\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
        (r"^layers\.(\d+)\.fc2\.", r"encoder.layer.\1.output.dense."),
        (r"^layers\.(\d+)\.final_layer_norm\.", r"encoder.layer.\1.output.LayerNorm."),
        (r"^encoder\.regression_head\.", "head."),
    ),
    "data2vec_vision": (
        (r"^patch_embed\.conv\.", "embeddings.patch_embeddings.projection."),
        (r"^cls_emb$", "embeddings.cls_token"),
        (r"^mask_emb$", "embeddings.mask_token"),
        (r"^encoder\.rel_pos_bias\.(?=relative_position_bias_table$)", "encoder.relative_position_bias."),
        (r"^encoder\.norm\.", "layernorm."),
        (r"^encoder\.blocks\.(\d+)\.attn\.q_bias$", r"encoder.layer.\1.attention.attention.query.bias"),
        (r"^encoder\.blocks\.(\d+)\.attn\.v_bias$", r"encoder.layer.\1.attention.attention.value.bias"),
        (r"^encoder\.blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
        (r"^encoder\.blocks\.(\d+)\.gamma_([12])$", r"encoder.layer.\1.lambda_\2"),
        (r"^encoder\.blocks\.(\d+)\.mlp\.0\.", r"encoder.layer.\1.intermediate.dense."),
        (r"^encoder\.blocks\.(\d+)\.mlp\.2\.", r"encoder.layer.\1.output.dense."),
        (r"^encoder\.blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
        (r"^encoder\.blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    ),
}
PACKED = re.compile(r"^encoder\.blocks\.(\d+)\.attn\.qkv\.weight$")
# In the reference's files, but of no use: a buffer that is computed, a version, and a layer that is never called.
DROPPED_V1 = ("relative_position_index", "version", "final_proj.weight", "final_proj.bias")
STUDENT_ALONE = ("head.", "masked_spec_embed")
# What comes before the names of the averaged module in those of the student (config fields `ema_*_only`).
TEXT_ENCODER = "encoder.sentence_encoder."


def _converted(name: str, value: Tensor, model: str) -> dict[str, Tensor]:
    """Our names, without prefix, and values of one weight of the reference."""
    short = name.removeprefix(TEXT_ENCODER)
    if match := PACKED.match(short):
        prefix = f"encoder.layer.{match[1]}.attention.attention"
        return {
            f"{prefix}.{part}.weight": third
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True)
        }
    for pattern, replacement in KEYS_V1[model]:
        if re.match(pattern, short):
            return {re.sub(pattern, replacement, short): value}
    if short.endswith(DROPPED_V1):
        return {}
    raise KeyError(f"{name!r} is not a weight of a {model} model of the reference")


def state_from_fairseq_v1(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], config: Data2VecPreTrainingConfig
) -> dict[str, Tensor]:
    """State dict of a `Data2Vec{Audio,Text,Vision}ForPreTraining` from the reference's student and teacher.

    Args:
        student: the reference's `model` entry without its `_ema`.
        teacher: its `_ema`, whose names are relative to the averaged module.
        config: ours, from `config_from_fairseq_v1`.

    Raises:
        KeyError: for a name that no such model of the reference has.
    """
    model = config.model_type.replace("-", "_")
    whole = config.teacher_scope == "model" and model != "data2vec_text"
    inside = "" if whole else TEXT_ENCODER if model == "data2vec_text" else "encoder."
    state: dict[str, Tensor] = {}
    for name, value in student.items():
        for key, converted in _converted(name, value, model).items():
            state[key if key.startswith("head.") else f"{model}.{key}"] = converted
    if (tokens := state.get(f"{model}.embeddings.word_embeddings.weight")) is not None:
        state[f"{model}.embeddings.token_type_embeddings.weight"] = torch.zeros_like(tokens[:1])
    for name, value in teacher.items():
        for key, converted in _converted(inside + name, value, model).items():
            # What comes before the layers is the student's, unless the teacher is a whole model; no target passes what
            # comes after them, nor a mask embedding.
            if key.startswith("encoder.") or (config.teacher_scope == "model" and not key.startswith(STUDENT_ALONE)):
                state[f"teacher.{key}"] = converted
    return state
