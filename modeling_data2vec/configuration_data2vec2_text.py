"""Config of data2vec 2.0 for text."""

import math
from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .configuration_pretraining import MAX_TABLE, Number, Published, PublishedDecay


@strict
class Data2Vec2TextConfig(Data2Vec2PreTrainingConfig):
    """Config of data2vec 2.0 for text; the defaults are the published base recipe.

    Args:
        vocab_size: tokens of the tokenizer.
        max_position_embeddings: tokens of the longest sequence [max_source_positions].
        position_embeddings: learned positions; False to leave order to `use_alibi` [no_token_positional_embeddings].
        embedding_dropout: dropout of the normalised embeddings [dropout].
        pad_token_id, bos_token_id, eos_token_id: the tokenizer's special tokens.
        classifier_dropout: dropout in the heads of `Data2Vec2TextForSequenceClassification` and
            `Data2Vec2TextForTokenClassification`.
        tie_word_embeddings: the head of `Data2Vec2TextForMaskedLM` shares the token embeddings.

    The other arguments are those of `Data2Vec2PreTrainingConfig`.

    Example:
        >>> Data2Vec2TextConfig(vocab_size=4000, max_position_embeddings=128).teacher_scope
        'trunk'
    """

    model_type = "data2vec2-text"
    masks_reach_padding_in_reference = True

    hidden_dropout: Number = 0.1
    attention_dropout: Number = 0.1
    post_mlp_dropout: Number = 0.1
    mask_prob: Number = 0.48
    loss_scale: Number | None = 1.0
    ema_decay: Number = PublishedDecay(0.9999)
    ema_anneal_end_step: int = Published(100_000)
    teacher_scope: Literal["trunk", "encoder", "model"] = "trunk"
    decoder_dim: int = Published(768)
    decoder_groups: int = Published(1)
    decoder_kernel: int = 9
    decoder_layers: int = 5
    decoder_residual: bool = False
    decoder_dropout: Number = 0.1
    decoder_projection_layers: int = 2
    vocab_size: int = 50265
    max_position_embeddings: int = 512
    position_embeddings: bool = True
    embedding_dropout: Number = 0.1
    pad_token_id: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    classifier_dropout: Number = 0.0
    tie_word_embeddings: bool = True

    @property
    def max_tokens(self) -> float:
        """Tokens of the longest sequence; infinity without learned positions."""
        return self.max_position_embeddings if self.position_embeddings else math.inf

    def validate_vocabulary(self) -> None:
        self.at_least(2, "vocab_size max_position_embeddings", MAX_TABLE)
        if not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id is {self.pad_token_id}, but must be from 0 to {self.vocab_size - 1}")
