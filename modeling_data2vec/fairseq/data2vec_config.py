"""The authors' (fairseq) configs of data2vec 1.0 as ours, and back: pure functions, no fairseq needed.

`name` is the reference's name of a model: "data2vec_audio", "data2vec_text" or "data2vec_vision".
"""

from collections.abc import Mapping
from typing import Any

from ..configuration_data2vec import (
    Data2VecAudioPreTrainingConfig,
    Data2VecTextPreTrainingConfig,
    Data2VecVisionPreTrainingConfig,
)
from ..configuration_pretraining import Data2VecPreTrainingConfig
from .data2vec2_config import convolution_shapes, positions_width, refuse_for_fairseq, square_edge
from .data2vec_options import NAMES, NO_OPTION, OFF_V1, SAME_NAME, left_out_options_v1


def config_from_fairseq_v1(
    model_config: Mapping[str, Any],
    name: str,
    *,
    vocab_size: int | None = None,
    mask_token_id: int | None = None,
    fine_tuned: bool = False,
) -> Data2VecPreTrainingConfig:
    """Our config for a data2vec 1.0 model of the reference.

    Args:
        model_config: the `model` section of the reference's config, resolved (a plain dict).
        name: the reference's name of the model.
        vocab_size, mask_token_id: of a text model; the reference keeps them in its dictionary.
        fine_tuned: whether the model was fine-tuned, so that options of pretraining alone may be anything.

    Raises:
        ValueError: names options that can't be represented, or another model.
    """
    if name not in NAMES:
        raise ValueError(f"the model is {name!r}, but only {', '.join(NAMES)} are data2vec 1.0")
    if used := left_out_options_v1(model_config, name, fine_tuned=fine_tuned):
        raise ValueError(
            f"the reference's options {used} are not supported (docs/differences.md says why): "
            "this checkpoint can't be represented"
        )
    model_config = OFF_V1 | dict(model_config)
    shared: dict[str, Any] = {field: model_config[field] for field in SAME_NAME if field in model_config}
    scale = model_config["loss_scale"]
    shared |= {"padding": "reference", "loss_scale": scale}
    if name == "data2vec_audio":
        return _audio_config(model_config, shared)
    not_positive = scale is not None and scale <= 0
    if name == "data2vec_vision":
        return _vision_config(model_config, shared | ({"loss_scale": 1.0} if not_positive else {}))
    if not_positive:
        shared["loss_scale"] = None  # 1/sqrt(D)
    if vocab_size is None:
        raise ValueError("a text model needs vocab_size: the number of rows of its embed_tokens.weight")
    return _text_config(model_config, shared | {"vocab_size": vocab_size, "mask_token_id": mask_token_id})


def _audio_config(reference: Mapping[str, Any], shared: dict[str, Any]) -> Data2VecPreTrainingConfig:
    dims, kernels, strides = zip(*convolution_shapes(reference["conv_feature_layers"]), strict=True)
    depth = reference["pos_conv_depth"]
    top_k = reference["average_top_k_layers"]
    if reference["ema_layers_only"]:  # whatever ema_transformer_only is
        shared["teacher_scope"] = "layers"
    elif reference["ema_transformer_only"]:
        shared["teacher_scope"] = "encoder"
    else:
        # The reference then averages all layers, whatever average_top_k_layers is.
        shared["teacher_scope"], top_k = "model", reference["encoder_layers"]
    shared["average_top_k_layers"] = min(top_k, reference["encoder_layers"])
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
    shared["average_top_k_layers"] = min(reference["average_top_k_layers"], reference["depth"])
    max_block = reference["max_mask_patches_per_block"]
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
        max_mask_block=max_block if max_block < num_patches else None,
    )


def _text_config(reference: Mapping[str, Any], shared: dict[str, Any]) -> Data2VecPreTrainingConfig:
    transformer = reference["transformer"]
    encoder = transformer["encoder"]
    shared["average_top_k_layers"] = min(reference["average_top_k_layers"], encoder["layers"])
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


# ---- configs for the reference ----


def config_to_fairseq_v1(config: Data2VecPreTrainingConfig) -> dict[str, Any]:
    """The `model` section of a reference config for a data2vec 1.0 model: what it says, and no more.

    fairseq fills in its defaults for the rest. Exact padding and several masks for a sample have no counterpart there.

    Raises:
        ValueError: the model can't be built there, or would compute something else.
    """
    name = reference_name(config)
    no_options = NO_OPTION[name]
    refuse_for_fairseq(config, no_options)
    shared: dict[str, Any] = {field: getattr(config, field) for field in SAME_NAME if field not in no_options}
    shared |= {"_name": name, "loss_scale": config.loss_scale}
    if isinstance(config, Data2VecAudioPreTrainingConfig):
        return shared | _audio_section(config)
    if isinstance(config, Data2VecVisionPreTrainingConfig):
        return shared | _vision_section(config)
    assert isinstance(config, Data2VecTextPreTrainingConfig)
    return shared | _text_section(config)


def _audio_section(config: Data2VecAudioPreTrainingConfig) -> dict[str, Any]:
    return {
        "extractor_mode": "layer_norm",
        "encoder_layers": config.num_hidden_layers,
        "encoder_embed_dim": config.hidden_size,
        "encoder_ffn_embed_dim": config.intermediate_size,
        "encoder_attention_heads": config.num_attention_heads,
        "activation_fn": config.hidden_act,
        "dropout": config.hidden_dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "dropout_input": config.feat_proj_dropout,
        "encoder_layerdrop": config.layerdrop,
        "conv_feature_layers": str(list(zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True))),
        "conv_bias": config.conv_bias,
        "pos_conv_depth": config.num_conv_pos_embeddings,
        "conv_pos": positions_width(config, fewest=2),
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "mask_prob": config.mask_prob,
        "mask_length": config.mask_length,
        "require_same_masks": config.equal_mask_counts,
        "ema_transformer_only": config.teacher_scope != "model",
        "ema_layers_only": config.teacher_scope == "layers",
    }


def _vision_section(config: Data2VecVisionPreTrainingConfig) -> dict[str, Any]:
    refuse_for_fairseq(config, {"intermediate_size": 4 * config.hidden_size})
    edge, num_patches = square_edge(config), config.grid[0] * config.grid[1]
    return {
        "embed_dim": config.hidden_size,
        "depth": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "attention_dropout": config.attention_probs_dropout_prob,
        "drop_path": config.drop_path_rate,
        "layer_scale_init_value": config.layer_scale_init_value,
        "image_size": edge,
        "patch_size": config.patch_size,
        "in_channels": config.num_channels,
        "num_mask_patches": round(config.mask_prob * num_patches),
        "min_mask_patches_per_block": config.min_mask_block,
        "max_mask_patches_per_block": config.max_mask_block or num_patches,
        "ema_transformer_only": config.teacher_scope != "model",
    }


def _text_section(config: Data2VecTextPreTrainingConfig) -> dict[str, Any]:
    return {
        "head_layers": config.head_layers,
        "ema_transformer_layers_only": config.teacher_scope != "model",
        "transformer": {
            "activation_fn": config.hidden_act,
            "dropout": config.hidden_dropout_prob,
            "attention_dropout": config.attention_probs_dropout_prob,
            "max_source_positions": config.max_position_embeddings - 2,
            "layernorm_embedding": True,
            "no_scale_embedding": True,
            "encoder": {
                "embed_dim": config.hidden_size,
                "ffn_embed_dim": config.intermediate_size,
                "layers": config.num_hidden_layers,
                "attention_heads": config.num_attention_heads,
                "learned_pos": True,
            },
        },
    }


def reference_name(config: Data2VecPreTrainingConfig) -> str:
    """The reference's name of the model that a config of ours is for.

    Example:
        >>> reference_name(Data2VecTextPreTrainingConfig())
        'data2vec_text'
    """
    return config.model_type.replace("-", "_")
