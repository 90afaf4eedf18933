"""Configs of data2vec 1.0: transformers' own, with the fields that pretraining needs.

They keep the native `model_type`: what is saved with them, plain transformers loads. None is registered with
`AutoConfig`, whose entries stay transformers'.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import Data2VecAudioConfig, Data2VecTextConfig, Data2VecVisionConfig

from .configuration_data2vec2_audio import WaveformShape
from .configuration_pretraining import (
    MAX_LAYERS,
    MAX_TABLE,
    Data2VecPreTrainingConfig,
    ImageShape,
    Number,
    Published,
    PublishedDecay,
)

TeacherScope = Literal["layers", "encoder", "model"]


class ReplacedPositions:
    """2.0's fields with 1.0's values: no prenet, no extra tokens but the encoder's own, no loss on them."""

    num_prenet_layers = 0
    num_extra_tokens = 0
    cls_loss_weight = 0.0


@strict
class Data2VecAudioPreTrainingConfig(ReplacedPositions, WaveformShape, Data2VecPreTrainingConfig, Data2VecAudioConfig):
    """Config of data2vec 1.0 pretraining for speech; the defaults are the published base recipe, but for
    `equal_mask_counts`, which it sets.

    Args:
        teacher_scope: what the teacher averages: the "layers" of the encoder, whose convolutional positions are copied
            from the student [ema_layers_only]; the "encoder" with them; or the whole "model" [not
            ema_transformer_only].
        equal_mask_counts: hide equally many frames of every clip of a batch, as the shortest row does
            [require_same_masks]. Masks then depend on the batch.
        head_layers: linear layers that predict the targets.

    The other arguments are those of `Data2VecPreTrainingConfig` and of transformers' `Data2VecAudioConfig`, of which
    `mask_time_*` and `mask_feature_*` are for fine-tuning.

    Example:
        >>> config = Data2VecAudioPreTrainingConfig()
        >>> config.model_type, config.mask_prob, config.mask_length
        ('data2vec-audio', 0.65, 10)
    """

    num_attention_heads: int = Published(12)
    intermediate_size: int = Published(3072)
    num_conv_pos_embedding_groups: int = Published(16)
    activation_dropout: Number = 0.0
    layerdrop: Number = 0.05
    mask_prob: Number = 0.65
    mask_length: int = 10
    average_top_k_layers: int = Published(8)
    instance_norm_target_layer: bool = True
    teacher_scope: TeacherScope = "layers"
    equal_mask_counts: bool = False
    head_layers: int = 1

    def validate_sizes(self) -> None:
        super().validate_sizes()
        self.at_least(1, "head_layers", MAX_LAYERS)

    def validate_mask_embedding(self) -> None:
        if not self.mask_time_prob and not self.mask_feature_prob:
            raise ValueError(
                "mask_time_prob and mask_feature_prob are 0, and transformers' model then has no mask embedding: set "
                "mask_time_prob above 0; pretraining draws its masks by mask_prob"
            )
        if self.add_adapter:
            raise ValueError("add_adapter is True, but pretraining predicts the encoder's frames: set it to False")


@strict
class Data2VecVisionPreTrainingConfig(ReplacedPositions, ImageShape, Data2VecPreTrainingConfig, Data2VecVisionConfig):
    """Config of data2vec 1.0 pretraining for images; the defaults are the paper's base model, which masks 60 %.

    Args:
        mask_length: not used: blocks have any size from `min_mask_block` patches on.
        min_mask_block: patches of the smallest block [min_mask_patches_per_block].
        max_mask_block: patches of the largest block; None for no limit [max_mask_patches_per_block].
        teacher_scope: what the teacher averages: the "encoder", or the whole "model" with its patch embedding [not
            ema_transformer_only]; "layers" is the encoder here.

    The other arguments are those of `Data2VecPreTrainingConfig` and of transformers' `Data2VecVisionConfig`.
    `use_mask_token` is always True.

    Example:
        >>> Data2VecVisionPreTrainingConfig().grid
        (14, 14)
    """

    num_attention_heads: int = Published(12)
    intermediate_size: int = Published(3072)
    layer_norm_eps: float = 1e-5
    layer_scale_init_value: float = 1e-4
    use_mean_pooling: bool = False
    use_shared_relative_position_bias: bool = True
    drop_path_rate: Number = 0.25
    mask_prob: Number = 0.6
    average_top_k_layers: int = Published(6)
    end_of_block_targets: bool = True
    layer_norm_targets: bool = True
    loss_beta: Number = 2.0
    ema_end_decay: Number = PublishedDecay(0.9998)
    ema_anneal_end_step: int = Published(375_300)
    teacher_scope: TeacherScope = "encoder"
    min_mask_block: int = 16
    max_mask_block: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.use_mask_token = True  # published checkpoints say False
        super().__post_init__(**kwargs)

    def validate_sizes(self) -> None:
        super().validate_sizes()
        self.at_least(1, "min_mask_block")
        if self.max_mask_block is not None:
            self.at_least(1, "max_mask_block")


@strict
class Data2VecTextPreTrainingConfig(ReplacedPositions, Data2VecPreTrainingConfig, Data2VecTextConfig):
    """Config of data2vec 1.0 pretraining for text; the defaults are the published base recipe.

    Args:
        mask_token_id: the token that stands at hidden positions; None for the last of the vocabulary, RoBERTa's.
        teacher_input: what the teacher reads: the "whole" sequence, as the paper says, or only the "masked" tokens, as
            the authors' released data pipeline makes it (docs/differences.md).
        teacher_scope: what the teacher averages: the "layers" [ema_transformer_layers_only], or the whole "model" with
            its embeddings; "encoder" is the layers here.
        head_layers: linear layers that predict the targets, the ones between them twice as wide.

    The other arguments are those of `Data2VecPreTrainingConfig` and of transformers' `Data2VecTextConfig`. As there,
    `max_position_embeddings` counts the padding's id and those below it; see `max_tokens`.

    Example:
        >>> Data2VecTextPreTrainingConfig().max_tokens
        512
    """

    num_attention_heads: int = Published(12)
    intermediate_size: int = Published(3072)
    vocab_size: int = 50265
    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    mask_prob: Number = 0.35
    mask_length: int = 4
    average_top_k_layers: int = Published(10)
    layer_norm_target_layer: bool = True
    loss_beta: Number = 4.0
    loss_scale: Number | None = 1.0
    ema_anneal_end_step: int = Published(300_000)
    teacher_scope: TeacherScope = "layers"
    mask_token_id: int | None = None
    teacher_input: Literal["whole", "masked"] = "whole"
    head_layers: int = 2

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest sequence."""
        return self.max_position_embeddings - self.pad_token_id - 1

    @property
    def teacher_keeps_embeddings(self) -> bool:
        """Whether the teacher has embeddings of its own: averaged ones, or copies that stand still with it.

        Those of a teacher that always moves are the student's, and need no copy.
        """
        return self.teacher_scope == "model" or max(self.ema_decay, self.ema_end_decay) >= 1

    @property
    def mask_token(self) -> int:
        """The id that stands at hidden positions."""
        return self.vocab_size - 1 if self.mask_token_id is None else self.mask_token_id

    def validate_sizes(self) -> None:
        super().validate_sizes()
        self.at_least(1, "head_layers", MAX_LAYERS)

    def validate_tokens(self) -> None:
        self.at_least(1, "vocab_size max_position_embeddings type_vocab_size", MAX_TABLE)
        if self.pad_token_id is None or not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id is {self.pad_token_id}, but must be from 0 to {self.vocab_size - 1}")
        if not 0 <= self.mask_token < self.vocab_size or self.mask_token == self.pad_token_id:
            raise ValueError(
                f"mask_token_id is {self.mask_token_id}, but must be another token than the padding "
                f"{self.pad_token_id}, from 0 to {self.vocab_size - 1}"
            )
        if self.max_tokens < 2:
            raise ValueError(
                f"max_position_embeddings is {self.max_position_embeddings}, which leaves {self.max_tokens} tokens "
                f"after pad_token_id {self.pad_token_id}: there must be at least 2"
            )
        if self.is_decoder:
            raise ValueError("is_decoder is True, but data2vec trains encoders: set it to False")
