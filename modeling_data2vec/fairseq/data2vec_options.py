"""Options of the authors' (fairseq) data2vec 1.0 models: those that are called the same here, and those left out.

`name` is the reference's name of a model: "data2vec_audio", "data2vec_text" or "data2vec_vision".
"""

from collections.abc import Mapping
from typing import Any

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
# Of those, what matters in training alone: a model that is only to be used may have any value.
TRAINING_ONLY_V1 = {
    *("feature_grad_mult", "mask_selection", "mask_other", "no_mask_overlap", "mask_dropout", "mask_channel_prob"),
    *("transformer.activation_dropout", "transformer.encoder.layerdrop"),
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
# Fields that are options of some of the reference's models alone: what each of the others has, and of ours the only
# value that can be written for it.
NO_OPTION: dict[str, dict[str, Any]] = {
    "data2vec_audio": {"end_of_block_targets": False},
    "data2vec_text": {"end_of_block_targets": False, "group_norm_target_layer": False, "pad_token_id": 1},
    "data2vec_vision": {"group_norm_target_layer": False, "hidden_act": "gelu"},
}

# Options that older files lack, with what the code did before it had them.
OFF_V1: dict[str, Any] = {
    "loss_scale": None,
    "loss_beta": 0.0,
    "conv_bias": False,
    "require_same_masks": True,
    "max_mask_patches_per_block": 196,
}


def _option(config: Mapping[str, Any], path: str) -> Any:
    """The value at "section.option", KeyError where there is none."""
    for name in path.split("."):
        config = config[name]
    return config


def left_out_options_v1(model_config: Mapping[str, Any], name: str, *, fine_tuned: bool = False) -> dict[str, Any]:
    """Options of a reference model config that can't be represented here: path to value, empty if there are none.

    Args:
        model_config: the `model` section of the reference's config, resolved.
        name: the reference's name of the model.
        fine_tuned: whether what matters in pretraining alone may be anything.
    """
    used = {}
    for path, accepted in LEFT_OUT_V1[name].items():
        try:
            value = _option(model_config, path)
        except KeyError:
            continue
        if value != accepted and not (fine_tuned and path in TRAINING_ONLY_V1):
            used[path] = value
    if name == "data2vec_audio" and model_config["pos_conv_depth"] < 2:
        used["pos_conv_depth"] = model_config["pos_conv_depth"]
    return used
