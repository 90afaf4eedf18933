"""Maps between the authors' (fairseq) configs and weight names and ours: pure functions, no fairseq needed."""

import ast
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .configuration_data2vec2 import (
    Data2Vec2AudioConfig,
    Data2Vec2PreTrainingConfig,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
)

# The prefix of the student's weights here, by the reference's name of the modality.
STUDENT_PREFIX = {"AUDIO": "data2vec2_audio", "IMAGE": "data2vec2_vision", "TEXT": "data2vec2_text"}

# Options of the reference that this package leaves out, with the only value it accepts. docs/differences.md says why.
LEFT_OUT_COMMON: dict[str, Any] = {
    "dropout_input": 0.0,
    "start_drop_path_rate": 0.0,
    "norm_affine": True,
    "shared_decoder": None,
    "recon_loss": 0.0,
    "d2v_loss": 1.0,
    "mae_init": False,
    "skip_ema": False,
}
LEFT_OUT_MODALITY: dict[str, Any] = {
    "start_drop_path_rate": 0.0,
    "end_drop_path_rate": 0.0,
    "init_extra_token_zero": False,
    "mask_prob_min": None,
    "keep_masked_pct": 0.0,
    "add_masks": False,
    "remove_masks": False,
    "mask_dropout": 0.0,
    "mask_channel_prob": 0.0,
    "encoder_zero_mask": True,
    "local_grad_mult": 1.0,
    "alibi_max_pos": None,
    "learned_alibi": False,
    "alibi_distance": "manhattan",
    "fixed_positions": True,
    "transformer_decoder": False,
    "enc_dec_transformer": False,
    "conv_mae": None,
    "extractor_mode": "layer_norm",
    "conv_pos_pre_ln": False,
    "learned_pos": True,
    "no_scale_embedding": True,
    "layernorm_embedding": True,
}
LEFT_OUT_DECODER: dict[str, Any] = {
    "add_positions_masked": False,
    "add_positions_all": False,
}

# What our configs call the options of the reference, for each section of its config.
MODEL_FIELDS = {
    "hidden_size": "embed_dim",
    "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads",
    "layer_norm_eps": "norm_eps",
    "hidden_dropout": "encoder_dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "post_mlp_dropout": "post_mlp_drop",
    "drop_path_rate": "end_drop_path_rate",
    "layerdrop": "layerdrop",
    "num_masks": "clone_batch",
    "average_top_k_layers": "average_top_k_layers",
    "end_of_block_targets": "end_of_block_targets",
    "batch_norm_target_layer": "batch_norm_target_layer",
    "instance_norm_target_layer": "instance_norm_target_layer",
    "layer_norm_target_layer": "layer_norm_target_layer",
    "layer_norm_targets": "layer_norm_targets",
    "instance_norm_targets": "instance_norm_targets",
    "loss_beta": "loss_beta",
    "loss_scale": "loss_scale",
    "cls_loss_weight": "cls_loss",
    "ema_decay": "ema_decay",
    "ema_end_decay": "ema_end_decay",
    "ema_anneal_end_step": "ema_anneal_end_step",
}
MODALITY_FIELDS = {
    "num_prenet_layers": "prenet_depth",
    "prenet_dropout": "prenet_dropout",
    "prenet_layerdrop": "prenet_layerdrop",
    "use_alibi": "use_alibi_encoder",
    "learned_alibi_scale": "learned_alibi_scale",
    "alibi_scale_per_head": "learned_alibi_scale_per_head",
    "alibi_scale_per_layer": "learned_alibi_scale_per_layer",
    "num_extra_tokens": "num_extra_tokens",
    "mask_prob": "mask_prob",
    "mask_length": "mask_length",
    "mask_prob_adjust": "mask_prob_adjust",
    "inverse_mask": "inverse_mask",
    "mask_noise_std": "mask_noise_std",
}
DECODER_FIELDS = {
    "decoder_dim": "decoder_dim",
    "decoder_groups": "decoder_groups",
    "decoder_kernel": "decoder_kernel",
    "decoder_layers": "decoder_layers",
    "decoder_residual": "decoder_residual",
    "decoder_dropout": "input_dropout",
    "decoder_projection_layers": "projection_layers",
    "decoder_projection_ratio": "projection_ratio",
}


def modality_of(model_config: Mapping[str, Any]) -> str:
    """The reference's name of the one modality that a model was trained on: "AUDIO", "IMAGE" or "TEXT".

    Raises:
        ValueError: for a model of several modalities, or another name.
    """
    name = str(model_config.get("supported_modality")).rsplit(".", 1)[-1].upper()
    if name not in STUDENT_PREFIX:
        raise ValueError(
            f"supported_modality is {model_config.get('supported_modality')!r}, but only models of one modality can be "
            f"converted: {', '.join(STUDENT_PREFIX)}"
        )
    return name


def left_out_options(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a reference model config that are set to something this package leaves out.

    Args:
        model_config: the `model` section of the reference's config, resolved.

    Returns:
        name to value, empty when the model can be built here.
    """
    name = modality_of(model_config).lower()
    modality = model_config["modalities"][name]
    sections = (
        (model_config, LEFT_OUT_COMMON),
        (modality, LEFT_OUT_MODALITY),
        (modality["decoder"], LEFT_OUT_DECODER),
    )
    used = {
        option: section[option]
        for section, allowed in sections
        for option, value in allowed.items()
        if option in section and section[option] != value
    }
    if not modality["num_extra_tokens"]:
        used.pop("init_extra_token_zero", None)  # there is nothing to initialise
    if not modality["use_alibi_encoder"]:
        used.pop("alibi_distance", None)
    if modality.get("embed_dim", model_config["embed_dim"]) != model_config["embed_dim"]:
        used[f"modalities.{name}.embed_dim"] = modality["embed_dim"]
    return used


def config_from_fairseq(
    model_config: Mapping[str, Any], *, vocab_size: int | None = None, pad_token_id: int = 1
) -> Data2Vec2PreTrainingConfig:
    """Our config for a data2vec 2.0 model of the reference.

    Args:
        model_config: the `model` section of the reference's config, resolved (a plain dict).
        vocab_size: rows of a text model's embedding, which the reference's config doesn't hold.
        pad_token_id: a text model's padding token.

    Raises:
        ValueError: names options that this package leaves out.
    """
    if used := left_out_options(model_config):
        raise ValueError(
            f"the reference's options {used} are not supported (docs/differences.md says why): "
            "this checkpoint can't be represented"
        )
    name = modality_of(model_config)
    modality = model_config["modalities"][name.lower()]
    shared = _shared_fields(model_config, modality)
    if name == "IMAGE":
        return Data2Vec2VisionConfig(
            **shared,
            image_size=modality["input_size"],
            patch_size=modality["patch_size"],
            num_channels=modality["in_chans"],
        )
    if name == "AUDIO":
        dims, kernels, strides = zip(*convolution_shapes(modality["feature_encoder_spec"]), strict=True)
        depth = modality["conv_pos_depth"]
        return Data2Vec2AudioConfig(
            **shared,
            conv_dim=dims,
            conv_kernel=kernels,
            conv_stride=strides,
            num_conv_pos_embeddings=depth,
            conv_pos_kernel_size=max(3, modality["conv_pos_width"] // depth),
            num_conv_pos_embedding_groups=modality["conv_pos_groups"],
        )
    if vocab_size is None:
        raise ValueError("a text model needs vocab_size: the number of rows of local_encoder.embed_tokens.weight")
    return Data2Vec2TextConfig(
        **shared,
        vocab_size=vocab_size,
        max_position_embeddings=modality["max_source_positions"],
        position_embeddings=not modality["no_token_positional_embeddings"],
        embedding_dropout=modality["dropout"],
        pad_token_id=pad_token_id,
    )


def _shared_fields(model_config: Mapping[str, Any], modality: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that configs of all modalities have."""
    if model_config["ema_encoder_only"]:
        teacher_scope = "trunk"
    else:
        teacher_scope = "model" if modality["ema_local_encoder"] else "encoder"
    sections = ((model_config, MODEL_FIELDS), (modality, MODALITY_FIELDS), (modality["decoder"], DECODER_FIELDS))
    fields: dict[str, Any] = {ours: section[theirs] for section, names in sections for ours, theirs in names.items()}
    return fields | {
        "intermediate_size": int(model_config["embed_dim"] * model_config["mlp_ratio"]),
        "norm_position": "pre_doubled" if model_config["layer_norm_first"] else "post",
        "padding": "reference",
        "cls_loss_reduction": "sum",
        "teacher_scope": teacher_scope,
    }


def convolution_shapes(spec: str) -> list[tuple[int, int, int]]:
    """(channels, kernel, stride) of each layer from a sum of (repeated) lists: "[(512, 10, 5)] + [(512, 3, 2)] * 4".

    Example:
        >>> convolution_shapes("[(8, 10, 5)] + [(8,3,2)] * 2")
        [(8, 10, 5), (8, 3, 2), (8, 3, 2)]
    """

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return value(node.left) * value(node.right)
        return ast.literal_eval(node)

    return [tuple(layer) for layer in value(ast.parse(spec.strip(), mode="eval").body)]


# ---- weights ----

# Patterns over the reference's names, with the modality left out of them.
KEYS = (
    (r"^blocks\.(\d+)\.attn\.", r"trunk.layers.\1.attention."),
    (r"^blocks\.(\d+)\.", r"trunk.layers.\1."),
    (r"^norm\.", "trunk.norm."),
    (r"^context_encoder\.norm\.", "feature_encoder.norm."),
    (r"^context_encoder\.blocks\.(\d+)\.attn\.", r"feature_encoder.prenet.\1.attention."),
    (r"^context_encoder\.blocks\.(\d+)\.", r"feature_encoder.prenet.\1."),
    (r"^extra_tokens$", "feature_encoder.extra_tokens"),
    (r"^alibi_scale$", "feature_encoder.alibi_scale"),
    (r"^decoder\.blocks\.(\d+)\.0\.", r"head.convs.\1."),
    (r"^decoder\.proj\.", "head.proj."),
)
MODALITY_KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "IMAGE": ((r"^local_encoder\.proj\.", "feature_encoder.patch_embed."),),
    "AUDIO": (
        (r"^local_encoder\.conv_layers\.(\d+)\.0\.", r"feature_encoder.convs.\1.conv."),
        (r"^local_encoder\.conv_layers\.(\d+)\.2\.1\.", r"feature_encoder.convs.\1.norm."),
        (r"^project_features\.1\.", "feature_encoder.feature_norm."),
        (r"^project_features\.2\.", "feature_encoder.feature_projection."),
    ),
    "TEXT": (
        (r"^local_encoder\.embed_tokens\.", "feature_encoder.embed_tokens."),
        (r"^local_encoder\.embed_positions\.", "feature_encoder.embed_positions."),
        (r"^local_encoder\.layernorm_embedding\.", "feature_encoder.embed_norm."),
    ),
}
# Kept in the reference's files but computed here.
DROPPED = ("fixed_positional_encoder.positions",)


def key_from_fairseq(name: str, modality: str) -> str | None:
    """Our name, without prefix, of a weight of the reference's model; None for weights that are computed here.

    Args:
        name: the reference's name.
        modality: "AUDIO", "IMAGE" or "TEXT".

    Raises:
        KeyError: for a name that no such model of the reference has.

    Example:
        >>> key_from_fairseq("blocks.3.attn.qkv.weight", "IMAGE")
        'trunk.layers.3.attention.qkv.weight'
    """
    short = name.removeprefix(f"modality_encoders.{modality}.")
    if short in DROPPED:
        return None
    if match := re.match(r"^relative_positional_encoder\.(\d+)\.0\.(\w+)$", short):
        # Number 0 in the reference is a transposition.
        return f"feature_encoder.position_convs.{int(match[1]) - 1}.{match[2]}"
    for pattern, replacement in (*KEYS, *MODALITY_KEYS[modality]):
        if re.match(pattern, short):
            return re.sub(pattern, replacement, short)
    raise KeyError(f"{name!r} is not a weight of a data2vec 2.0 model of the reference for {modality}")


def state_from_fairseq(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], modality: str, *, ema_encoder_only: bool = False
) -> dict[str, Tensor]:
    """State dict of a `Data2Vec2...ForPreTraining` from the reference's student and teacher.

    Args:
        student: the reference's `model` entry without its `_ema`.
        teacher: its `_ema`, whose names are relative to the averaged module.
        modality: "AUDIO", "IMAGE" or "TEXT".
        ema_encoder_only: whether that module is `blocks` alone (config field of the same name).
    """
    state: dict[str, Tensor] = {}
    for name, value in student.items():
        if (key := key_from_fairseq(name, modality)) is not None:
            value = _scale_shape(key, value)
            state[key if key.startswith("head.") else f"{STUDENT_PREFIX[modality]}.{key}"] = value
    for name, value in teacher.items():
        if (key := key_from_fairseq(f"blocks.{name}" if ema_encoder_only else name, modality)) is not None:
            state[f"teacher.{key}"] = _scale_shape(key, value)
    return state


def _scale_shape(key: str, value: Tensor) -> Tensor:
    """The reference's ALiBi scale [layers, 1, H, 1, 1] without its axis for the batch."""
    return value.squeeze(1) if key == "feature_encoder.alibi_scale" else value
