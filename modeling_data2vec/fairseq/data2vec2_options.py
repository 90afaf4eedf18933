"""Options of the authors' (fairseq) data2vec 2.0 models: our names of them, and those that this package leaves out."""

from collections.abc import Mapping
from typing import Any

from ..configuration_data2vec2 import Data2Vec2PreTrainingConfig
from ..configuration_data2vec2_audio import Data2Vec2AudioConfig
from ..configuration_data2vec2_text import Data2Vec2TextConfig
from ..configuration_data2vec2_vision import Data2Vec2VisionConfig

NAME = "data2vec_multi"  # the reference's, of all its 2.0 models
# Our configs by the reference's name of the modality; its enumeration counts them in this order, from 1.
CONFIGS: dict[str, type[Data2Vec2PreTrainingConfig]] = {
    "AUDIO": Data2Vec2AudioConfig,
    "IMAGE": Data2Vec2VisionConfig,
    "TEXT": Data2Vec2TextConfig,
}

# EAT takes a spectrogram for an image of one channel, and only its options of images have a length in time. Its code
# has no patches of another size and no other number of mel bins. Its files hold positions for so many patches along
# time, or before April 2024 for as many as `target_length` has.
EAT_LENGTH = "target_length"
EAT_MEL_BINS, EAT_PATCH, EAT_TIME_PATCHES = 128, 16, 768

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
    "utterance_level": False,
}
LEFT_OUT_MODALITY: dict[str, Any] = {
    "start_drop_path_rate": 0.0,
    "end_drop_path_rate": 0.0,
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

# Of those, what matters in training alone: a model that is only to be used may have any value.
TRAINING_ONLY = {
    *("dropout_input", "start_drop_path_rate", "end_drop_path_rate", "shared_decoder", "recon_loss", "d2v_loss"),
    *("mae_init", "skip_ema", "utterance_level", "mask_prob_min", "keep_masked_pct", "add_masks", "remove_masks"),
    *("mask_dropout", "mask_channel_prob", "encoder_zero_mask", "local_grad_mult", "transformer_decoder"),
    *("enc_dec_transformer", "add_positions_masked", "add_positions_all"),
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


# Options that older files lack: they were added to the reference later, switched off.
OFF: dict[str, Any] = {
    "layer_norm_first": False,
    "activation_dropout": 0.0,
    "layerdrop": 0.0,
    "end_drop_path_rate": 0.0,
    "end_of_block_targets": False,
    "batch_norm_target_layer": False,
    "instance_norm_target_layer": False,
    "layer_norm_target_layer": False,
    "layer_norm_targets": False,
    "instance_norm_targets": False,
    "loss_beta": 0.0,
    "loss_scale": None,
    "cls_loss": 0.0,
}
OFF_MODALITY: dict[str, Any] = {
    "prenet_dropout": 0.0,
    "prenet_layerdrop": 0.0,
    "use_alibi_encoder": False,
    "learned_alibi_scale": False,
    "learned_alibi_scale_per_head": False,
    "learned_alibi_scale_per_layer": False,
    "num_extra_tokens": 0,
    "mask_prob_adjust": 0.0,
    "inverse_mask": False,
    "ema_local_encoder": False,
    "no_token_positional_embeddings": False,
}


def modality_of(model_config: Mapping[str, Any]) -> str:
    """The reference's name of the one modality that a model was trained on: "AUDIO", "IMAGE" or "TEXT".

    Raises:
        ValueError: for a model of several modalities, or another name.
    """
    value = model_config.get("supported_modality")
    name = str(value).rsplit(".", 1)[-1].upper()
    if isinstance(value, int) and 1 <= value <= len(CONFIGS):
        name = list(CONFIGS)[value - 1]
    if name not in CONFIGS:
        raise ValueError(
            f"supported_modality is {value!r}, but only models of one modality can be converted: {', '.join(CONFIGS)}"
        )
    return name


def left_out_options(model_config: Mapping[str, Any], *, fine_tuned: bool = False) -> dict[str, Any]:
    """Options of a reference model config that are set to something this package leaves out.

    Args:
        model_config: the `model` section of the reference's config, resolved.
        fine_tuned: whether what matters in pretraining alone may be anything.

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
    if not modality.get("use_alibi_encoder"):
        used.pop("alibi_distance", None)
    if name != "image" and modality.get("embed_dim", model_config["embed_dim"]) != model_config["embed_dim"]:
        used[f"modalities.{name}.embed_dim"] = modality["embed_dim"]
    if fine_tuned:
        used = {option: value for option, value in used.items() if option not in TRAINING_ONLY}
    return used
