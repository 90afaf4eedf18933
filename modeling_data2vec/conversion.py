"""Maps between the authors' (fairseq) configs and weight names and ours: pure functions, no fairseq needed."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .configuration_data2vec import Data2Vec2VisionConfig

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
    "prenet_layerdrop": 0.0,
    "prenet_dropout": 0.0,
    "start_drop_path_rate": 0.0,
    "end_drop_path_rate": 0.0,
    "init_extra_token_zero": False,
    "mask_prob_min": None,
    "keep_masked_pct": 0.0,
    "add_masks": False,
    "remove_masks": False,
    "mask_dropout": 0.0,
    "mask_channel_prob": 0.0,
    "local_grad_mult": 1.0,
    "use_alibi_encoder": False,
    "fixed_positions": True,
    "transformer_decoder": False,
    "enc_dec_transformer": False,
    "conv_mae": None,
}
LEFT_OUT_DECODER: dict[str, Any] = {
    "add_positions_masked": False,
    "add_positions_all": False,
    "projection_layers": 1,
}


def left_out_options(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a reference model config that are set to something this package leaves out.

    Args:
        model_config: the `model` section of the reference's config, resolved.

    Returns:
        name to value, empty when the model can be built here.
    """
    modality = model_config["modalities"]["image"]
    sections = (
        (model_config, LEFT_OUT_COMMON),
        (modality, LEFT_OUT_MODALITY),
        (modality["decoder"], LEFT_OUT_DECODER),
    )
    used = {
        name: section[name]
        for section, allowed in sections
        for name, value in allowed.items()
        if name in section and section[name] != value
    }
    if not modality["num_extra_tokens"]:
        used.pop("init_extra_token_zero", None)  # there is nothing to initialise
    if modality["embed_dim"] != model_config["embed_dim"]:
        used["modalities.image.embed_dim"] = modality["embed_dim"]
    return used


def vision_config_from_fairseq(model_config: Mapping[str, Any]) -> Data2Vec2VisionConfig:
    """Our config for a data2vec 2.0 image model of the reference.

    Args:
        model_config: the `model` section of the reference's config, resolved (a plain dict).

    Raises:
        ValueError: names options that this package leaves out.
    """
    if used := left_out_options(model_config):
        raise ValueError(
            f"the reference's options {used} are not supported (docs/differences.md says why): "
            "this checkpoint can't be represented"
        )
    image = model_config["modalities"]["image"]
    decoder = image["decoder"]
    if model_config["ema_encoder_only"]:
        teacher_scope = "trunk"
    else:
        teacher_scope = "model" if image["ema_local_encoder"] else "encoder"
    return Data2Vec2VisionConfig(
        hidden_size=model_config["embed_dim"],
        num_hidden_layers=model_config["depth"],
        num_attention_heads=model_config["num_heads"],
        intermediate_size=int(model_config["embed_dim"] * model_config["mlp_ratio"]),
        norm_position="pre_doubled" if model_config["layer_norm_first"] else "post",
        layer_norm_eps=model_config["norm_eps"],
        hidden_dropout=model_config["encoder_dropout"],
        attention_dropout=model_config["attention_dropout"],
        activation_dropout=model_config["activation_dropout"],
        post_mlp_dropout=model_config["post_mlp_drop"],
        drop_path_rate=model_config["end_drop_path_rate"],
        layerdrop=model_config["layerdrop"],
        num_prenet_layers=image["prenet_depth"],
        num_extra_tokens=image["num_extra_tokens"],
        num_masks=model_config["clone_batch"],
        mask_prob=image["mask_prob"],
        mask_length=image["mask_length"],
        mask_prob_adjust=image["mask_prob_adjust"],
        inverse_mask=image["inverse_mask"],
        mask_noise_std=image["mask_noise_std"],
        average_top_k_layers=model_config["average_top_k_layers"],
        end_of_block_targets=model_config["end_of_block_targets"],
        batch_norm_target_layer=model_config["batch_norm_target_layer"],
        instance_norm_target_layer=model_config["instance_norm_target_layer"],
        layer_norm_target_layer=model_config["layer_norm_target_layer"],
        layer_norm_targets=model_config["layer_norm_targets"],
        instance_norm_targets=model_config["instance_norm_targets"],
        loss_beta=model_config["loss_beta"],
        loss_scale=model_config["loss_scale"],
        cls_loss_weight=model_config["cls_loss"],
        cls_loss_reduction="sum",
        ema_decay=model_config["ema_decay"],
        ema_end_decay=model_config["ema_end_decay"],
        ema_anneal_end_step=model_config["ema_anneal_end_step"],
        teacher_scope=teacher_scope,
        decoder_dim=decoder["decoder_dim"],
        decoder_groups=decoder["decoder_groups"],
        decoder_kernel=decoder["decoder_kernel"],
        decoder_layers=decoder["decoder_layers"],
        decoder_residual=decoder["decoder_residual"],
        decoder_dropout=decoder["input_dropout"],
        image_size=image["input_size"],
        patch_size=image["patch_size"],
        num_channels=image["in_chans"],
    )


# (pattern of the reference, replacement), tried in order; names are relative to the whole reference model.
VISION_KEYS: tuple[tuple[str, str], ...] = (
    (r"^blocks\.(\d+)\.attn\.", r"trunk.layers.\1.attention."),
    (r"^blocks\.(\d+)\.", r"trunk.layers.\1."),
    (r"^norm\.", "trunk.norm."),
    (r"^modality_encoders\.IMAGE\.context_encoder\.blocks\.(\d+)\.attn\.", r"feature_encoder.prenet.\1.attention."),
    (r"^modality_encoders\.IMAGE\.context_encoder\.blocks\.(\d+)\.", r"feature_encoder.prenet.\1."),
    (r"^modality_encoders\.IMAGE\.context_encoder\.norm\.", "feature_encoder.norm."),
    (r"^modality_encoders\.IMAGE\.local_encoder\.proj\.", "feature_encoder.patch_embed."),
    (r"^modality_encoders\.IMAGE\.extra_tokens$", "feature_encoder.extra_tokens"),
    (r"^modality_encoders\.IMAGE\.decoder\.blocks\.(\d+)\.0\.", r"head.convs.\1."),
    (r"^modality_encoders\.IMAGE\.decoder\.proj\.", "head.proj."),
)
# Kept in the reference's files but computed here.
VISION_DROPPED = ("modality_encoders.IMAGE.fixed_positional_encoder.positions",)


def vision_key_from_fairseq(name: str) -> str | None:
    """Our name, without prefix, of a weight of the reference's image model; None for weights that are computed here.

    Raises:
        KeyError: for a name that no image model of the reference has.

    Example:
        >>> vision_key_from_fairseq("blocks.3.attn.qkv.weight")
        'trunk.layers.3.attention.qkv.weight'
    """
    if name in VISION_DROPPED:
        return None
    for pattern, replacement in VISION_KEYS:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    raise KeyError(f"{name!r} is not a weight of a data2vec 2.0 image model of the reference")


def vision_state_from_fairseq(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], *, ema_encoder_only: bool = False
) -> dict[str, Tensor]:
    """State dict of `Data2Vec2VisionForPreTraining` from the reference's student and teacher.

    Args:
        student: the reference's `model` entry without its `_ema`.
        teacher: its `_ema`, whose names are relative to the averaged module.
        ema_encoder_only: whether that module is `blocks` alone (config field of the same name).
    """
    state: dict[str, Tensor] = {}
    for name, value in student.items():
        if (key := vision_key_from_fairseq(name)) is not None:
            state[key if key.startswith("head.") else f"data2vec2_vision.{key}"] = value
    for name, value in teacher.items():
        if (key := vision_key_from_fairseq(f"blocks.{name}" if ema_encoder_only else name)) is not None:
            state[f"teacher.{key}"] = value
    return state
