"""The authors' (fairseq) configs of data2vec 2.0 as ours, and back: pure functions, no fairseq needed."""

import ast
import math
from collections.abc import Mapping
from typing import Any

from ..configuration_data2vec2 import Data2Vec2PreTrainingConfig
from ..configuration_data2vec2_audio import Data2Vec2AudioConfig
from ..configuration_data2vec2_spectrogram import Data2Vec2SpectrogramConfig
from ..configuration_data2vec2_text import Data2Vec2TextConfig
from ..configuration_data2vec2_vision import Data2Vec2VisionConfig
from .data2vec2_options import (
    CONFIGS,
    DECODER_FIELDS,
    EAT_LENGTH,
    EAT_MEL_BINS,
    EAT_PATCH,
    EAT_TIME_PATCHES,
    MODALITY_FIELDS,
    MODEL_FIELDS,
    NAME,
    OFF,
    OFF_MODALITY,
    left_out_options,
    modality_of,
)

# What a model must have to be written for the reference, of the fields that have no option there.
_REQUIRED: dict[type, dict[str, Any]] = {
    Data2Vec2AudioConfig: {"front_end": "convolutions"},
    Data2Vec2SpectrogramConfig: {
        "num_mel_bins": EAT_MEL_BINS,
        "patch_shape": (EAT_PATCH, EAT_PATCH),
        "decoder_projection_layers": 1,
    },
    Data2Vec2TextConfig: {"pad_token_id": 1},
    Data2Vec2VisionConfig: {"decoder_projection_layers": 1},
}


def config_from_fairseq(
    model_config: Mapping[str, Any],
    *,
    vocab_size: int | None = None,
    pad_token_id: int = 1,
    flexible_mask: bool = False,
    fine_tuned: bool = False,
) -> Data2Vec2PreTrainingConfig:
    """Our config for a data2vec 2.0 model of the reference.

    Args:
        model_config: the `model` section of the reference's config, resolved (a plain dict).
        vocab_size: rows of a text model's embedding, which the reference's config doesn't hold.
        pad_token_id: a text model's padding token.
        flexible_mask: what the config's `task` section says of an image model's masks, where EAT has it.
        fine_tuned: whether the model was fine-tuned, so that options of pretraining alone may be anything.

    Raises:
        ValueError: names options that this package leaves out.
    """
    if used := left_out_options(model_config, fine_tuned=fine_tuned):
        raise ValueError(
            f"the reference's options {used} are not supported (docs/differences.md says why): "
            "this checkpoint can't be represented"
        )
    name = modality_of(model_config)
    modality = OFF_MODALITY | dict(model_config["modalities"][name.lower()])
    model_config = OFF | dict(model_config)
    shared = _shared_fields(model_config, modality)
    if name == "IMAGE":
        return _image_config(shared | {"flexible_mask": flexible_mask}, modality)
    if name == "AUDIO":
        return _audio_config(shared, modality)
    if vocab_size is None:
        raise ValueError("a text model needs vocab_size: the number of rows of local_encoder.embed_tokens.weight")
    return _text_config(shared | {"vocab_size": vocab_size, "pad_token_id": pad_token_id}, modality)


def _image_config(shared: dict[str, Any], modality: Mapping[str, Any]) -> Data2Vec2PreTrainingConfig:
    """Of images, or of EAT's spectrograms."""
    width = modality.get("embed_dim", shared["hidden_size"])
    shared |= {
        "decoder_projection_layers": 1,  # its decoder has one, whatever projection_layers is
        "alibi_dims": modality.get("alibi_dims", 2),
        "patch_embed_dim": None if width == shared["hidden_size"] else width,
        "patch_size": modality["patch_size"],
    }
    if is_spectrogram(modality):
        return Data2Vec2SpectrogramConfig(**shared, num_mel_bins=EAT_MEL_BINS, spectrogram_length=modality[EAT_LENGTH])
    return Data2Vec2VisionConfig(**shared, image_size=modality["input_size"], num_channels=modality["in_chans"])


def _audio_config(shared: dict[str, Any], modality: Mapping[str, Any]) -> Data2Vec2AudioConfig:
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


def _text_config(shared: dict[str, Any], modality: Mapping[str, Any]) -> Data2Vec2TextConfig:
    if not shared["num_prenet_layers"]:
        shared["prenet_dropout"] = 0.0  # of text alone
    return Data2Vec2TextConfig(
        **shared,
        max_position_embeddings=modality["max_source_positions"],
        position_embeddings=not modality["no_token_positional_embeddings"],
        embedding_dropout=modality["dropout"],
    )


def is_spectrogram(modality: Mapping[str, Any]) -> bool:
    """Whether the reference's options of images are those of EAT, for spectrograms.

    Example:
        >>> is_spectrogram({"in_chans": 1, "target_length": 1024}), is_spectrogram({"in_chans": 1, "input_size": 224})
        (True, False)
    """
    return modality.get("in_chans") == 1 and EAT_LENGTH in modality


def _shared_fields(model_config: Mapping[str, Any], modality: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that configs of all modalities have."""
    if model_config["ema_encoder_only"]:
        teacher_scope = "trunk"
    else:
        teacher_scope = "model" if modality["ema_local_encoder"] else "encoder"
    sections = ((model_config, MODEL_FIELDS), (modality, MODALITY_FIELDS), (modality["decoder"], DECODER_FIELDS))
    fields: dict[str, Any] = {ours: section[theirs] for section, names in sections for ours, theirs in names.items()}
    return fields | {
        "average_top_k_layers": min(model_config["average_top_k_layers"], model_config["depth"]),
        "intermediate_size": int(model_config["embed_dim"] * model_config["mlp_ratio"]),
        "norm_position": "pre_doubled" if model_config["layer_norm_first"] else "post",
        "padding": "reference",
        "cls_loss_reduction": "sum",
        "teacher_scope": teacher_scope,
    }


def config_to_fairseq(config: Data2Vec2PreTrainingConfig) -> dict[str, Any]:
    """The `model` section of a reference config for a model of ours: what it says, and no more.

    fairseq fills in its defaults for the rest. Two settings of ours have no counterpart there: exact padding, and the
    mean over rows of the CLS loss, which the reference sums.

    Raises:
        ValueError: the model can't be built there, or would compute something else.
    """
    if config.norm_position == "pre":
        raise ValueError(
            'norm_position is "pre", which the authors\' code does not have (docs/differences.md): only "post" and '
            '"pre_doubled" can be written for it'
        )
    refuse_for_fairseq(config, {"hidden_act": "gelu", "group_norm_target_layer": False} | _REQUIRED[type(config)])
    name = reference_modality(config)
    modality: dict[str, Any] = {theirs: getattr(config, ours) for ours, theirs in MODALITY_FIELDS.items()}
    modality["type"] = name
    modality["decoder"] = {theirs: getattr(config, ours) for ours, theirs in DECODER_FIELDS.items()}
    modality["ema_local_encoder"] = config.teacher_scope == "model"
    # The defaults of fairseq's own classes that differ from the only value that is accepted.
    modality |= {"init_extra_token_zero": False}
    modality |= _options_of_modality(config)
    model: dict[str, Any] = {theirs: getattr(config, ours) for ours, theirs in MODEL_FIELDS.items()}
    return model | {
        "_name": NAME,
        "supported_modality": name,
        "mlp_ratio": mlp_ratio(config.hidden_size, config.intermediate_size),
        "layer_norm_first": config.norm_position == "pre_doubled",
        "ema_encoder_only": config.teacher_scope == "trunk",
        "modalities": {name.lower(): modality},
    }


def _options_of_modality(config: Data2Vec2PreTrainingConfig) -> dict[str, Any]:
    """What a modality has beside the options of all."""
    if isinstance(config, Data2Vec2AudioConfig):
        shapes = list(zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True))
        return {
            "feature_encoder_spec": str(shapes),
            "conv_pos_depth": config.num_conv_pos_embeddings,
            "conv_pos_width": positions_width(config, fewest=1),
            "conv_pos_groups": config.num_conv_pos_embedding_groups,
        }
    if isinstance(config, Data2Vec2TextConfig):
        return {
            "max_source_positions": config.max_position_embeddings,
            "no_token_positional_embeddings": not config.position_embeddings,
            "dropout": config.embedding_dropout,
        }
    assert isinstance(config, Data2Vec2VisionConfig | Data2Vec2SpectrogramConfig)
    patches = {"embed_dim": config.patch_embed_dim or config.hidden_size, "alibi_dims": config.alibi_dims}
    if isinstance(config, Data2Vec2VisionConfig):
        size = {"input_size": square_edge(config), "patch_size": config.patch_size, "in_chans": config.num_channels}
        return size | patches
    length = {EAT_LENGTH: config.spectrogram_length, "max_length": max(EAT_TIME_PATCHES, config.grid[0])}
    return length | {"patch_size": EAT_PATCH, "in_chans": 1} | patches


def refuse_for_fairseq(config: Any, required: Mapping[str, Any]) -> None:
    """Raise a ValueError for the first field whose value the authors' code can't have; `required` says which it has."""
    for name, value in required.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{name} is {getattr(config, name)!r}, which the authors' code can't have: only models with {value!r} "
                "can be written for it"
            )


def square_edge(config: Any) -> int:
    """Pixels of the edge of a model's images; a ValueError where they are not square, as they are in the reference."""
    height, width = config.image_shape
    if height != width:
        raise ValueError(f"image_size is {config.image_size}, but the authors' code has models of square images only")
    return height


def positions_width(config: Any, fewest: int) -> int:
    """[conv_pos] of a speech model: the reference makes the kernel of it again, of at least 3.

    Raises:
        ValueError: it would make another one, or has no model of so few (`fewest`) such convolutions.
    """
    depth, kernel = config.num_conv_pos_embeddings, config.conv_pos_kernel_size
    if depth < fewest or kernel < 3:
        raise ValueError(
            f"num_conv_pos_embeddings is {depth} and conv_pos_kernel_size {kernel}, but the authors' code has at least "
            f"{fewest} such convolution(s), with a kernel of at least 3"
        )
    return kernel * depth


def mlp_ratio(hidden_size: int, intermediate_size: int) -> float:
    """The number of which the reference makes the width again: `int(hidden_size * ratio)`.

    Example:
        >>> mlp_ratio(768, 3072), int(49 * (1 / 49)), int(49 * mlp_ratio(49, 1))
        (4.0, 0, 1)
    """
    ratio = intermediate_size / hidden_size
    while int(hidden_size * ratio) < intermediate_size:
        ratio = math.nextafter(ratio, math.inf)
    return ratio


def reference_modality(config: Data2Vec2PreTrainingConfig) -> str:
    """The reference's name of the modality that a config of ours is for.

    Example:
        >>> reference_modality(Data2Vec2VisionConfig())
        'IMAGE'
    """
    if isinstance(config, Data2Vec2SpectrogramConfig):
        return "IMAGE"
    return next(name for name, config_class in CONFIGS.items() if isinstance(config, config_class))


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
