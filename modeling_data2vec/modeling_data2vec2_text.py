"""Text: the feature encoder of data2vec 2.0, and the model."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec2_text import Data2Vec2TextConfig
from .dropout import Dropout
from .embedding import Embedding, check_tensor
from .feature_encoder import FeatureEncoder
from .length_groups import encode_by_length
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2PreTrainedModel


def check_tokens(input_ids: Tensor, vocab_size: int, max_tokens: float) -> None:
    """Raise a ValueError for another shape or dtype, too long a sequence, or (on a CPU) unknown ids."""
    check_tensor("input_ids", input_ids)
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        raise ValueError(
            f"input_ids has shape {tuple(input_ids.shape)} and dtype {input_ids.dtype}, but must hold token ids "
            "[batch, tokens]"
        )
    if input_ids.shape[1] > max_tokens:
        raise ValueError(
            f"input_ids holds {input_ids.shape[1]} tokens, but max_position_embeddings leaves room for {max_tokens}: "
            "truncate the sequences, or build the model with a longer table"
        )
    if torch.compiler.is_compiling():  # what ids there are is unknown then
        return
    if input_ids.device.type == "cpu" and not 0 <= int(input_ids.min()) <= int(input_ids.max()) < vocab_size:
        raise ValueError(
            f"input_ids holds ids from {int(input_ids.min())} to {int(input_ids.max())}, but the vocabulary has ids 0 "
            f"to {vocab_size - 1}: use the tokenizer that belongs to the model"
        )


class TextFeatureEncoder(FeatureEncoder):
    """Token and learned position embeddings, normalised."""

    def __init__(self, config: Data2Vec2TextConfig, local_encoder: bool = True):
        super().__init__(config)
        self.config: Data2Vec2TextConfig = config
        pad = config.pad_token_id
        # Drawn in any case: the initial weights that a seed gives must not depend on what the teacher reads.
        tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=pad)
        positions = None
        if config.position_embeddings:
            # As in RoBERTa, positions are counted from the padding's id + 1 on, whose own row stays 0.
            size = config.max_position_embeddings + pad + 1
            positions = nn.Embedding(size, config.hidden_size, padding_idx=pad)
        self.embed_tokens = tokens if local_encoder else None
        self.embed_positions = positions if local_encoder else None
        self.embed_norm = nn.LayerNorm(config.hidden_size) if local_encoder else None
        self.embed_dropout = Dropout(config.embedding_dropout)
        if not config.num_prenet_layers:
            self.norm = nn.Identity()  # the embeddings are normalised already

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Look tokens up.

        Args:
            inputs: int64 [B, T], token ids.
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.

        Raises:
            ValueError: for another shape, a longer sequence than the position table, or (on a CPU) unknown ids.
        """
        config = self.config
        check_tokens(inputs, config.vocab_size, config.max_tokens)
        length = inputs.shape[1]
        assert self.embed_tokens is not None and self.embed_norm is not None
        valid = None if attention_mask is None else attention_mask.bool()
        x = self.embed_tokens(inputs)  # [B, T, D]
        if self.embed_positions is not None:
            if valid is None:
                places = torch.arange(1, length + 1, device=inputs.device)[None]
            else:
                places = valid.cumsum(1) * valid  # [B, T]; padding has place 0
            x = x + self.embed_positions(places + config.pad_token_id)
        x = self.embed_dropout(self.embed_norm(x))
        return Embedding(x, x, (length,), valid)


class Data2Vec2TextPreTrainedModel(Data2Vec2PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 text models."""

    config: Data2Vec2TextConfig
    config_class = Data2Vec2TextConfig
    base_model_prefix = "data2vec2_text"
    modality = "text"
    main_input_name = "input_ids"
    input_modalities = ("text",)
    feature_encoder_class = TextFeatureEncoder
    num_axes = 1


class Data2Vec2TextModel(Data2Vec2TextPreTrainedModel, Data2Vec2Encoder):
    """The data2vec 2.0 text encoder without any head.

    Example:
        >>> config = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64)
        >>> Data2Vec2TextModel(config)(torch.tensor([[0, 17, 42, 2]])).last_hidden_state.shape
        torch.Size([1, 4, 64])
    """

    def get_input_embeddings(self) -> Any:
        """The token embeddings."""
        return self.feature_encoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another table in their place, as for a larger vocabulary."""
        self.feature_encoder.embed_tokens = value

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode token sequences.

        Args:
            input_ids: int64 [B, T] with T up to `config.max_position_embeddings`.
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.
            output_hidden_states, output_attentions: also return those of every layer, the prenet's first.

        Returns:
            `last_hidden_state` [B, E + T, D]; `pooler_output` [B, D], the mean of the real tokens.
        """
        return encode_by_length(self.feature_encoder, self.trunk, input_ids, attention_mask, **kwargs)
