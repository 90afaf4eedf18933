"""Text: data2vec 1.0 around transformers' `Data2VecTextModel`."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Data2VecTextModel, Data2VecTextPreTrainedModel
from transformers import initialization as init
from transformers.models.data2vec.modeling_data2vec_text import Data2VecTextEmbeddings

from .configuration_data2vec import Data2VecTextPreTrainingConfig
from .core import Data2VecPreTrainingOutput
from .embedding import Embedding
from .heads import RegressionHead
from .modeling_data2vec import Data2VecEncoderForPreTraining, in_eval_mode
from .modeling_data2vec2_text import check_tokens
from .trunk import padding_mask


class Data2VecTextForPreTraining(Data2VecEncoderForPreTraining, Data2VecTextPreTrainedModel):
    """data2vec 1.0 pretraining on text, around transformers' `Data2VecTextModel` (arXiv 2202.03555).

    The method has no token types: their embedding is 0 in a new model, and never trained.

    Example:
        >>> config = Data2VecTextPreTrainingConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, vocab_size=100)
        >>> mask = torch.zeros(2, 1, 20, dtype=torch.bool)
        >>> mask[:, :, 8:12] = True
        >>> Data2VecTextForPreTraining(config)(torch.randint(5, 90, (2, 20)), mask=mask).loss.shape
        torch.Size([])
    """

    config: Data2VecTextPreTrainingConfig
    config_class = Data2VecTextPreTrainingConfig
    _keys_to_ignore_on_load_unexpected = [r"pooler\."]  # noqa: RUF012

    def __init__(self, config: Data2VecTextPreTrainingConfig):
        super().__init__(config)
        encoder = Data2VecTextModel(config, add_pooling_layer=False)
        with torch.no_grad():
            encoder.embeddings.token_type_embeddings.weight.zero_()
        if config.teacher_keeps_embeddings and config.teacher_scope != "model":
            self.teacher_modules = ("embeddings", "encoder")
            self.copied_into_teacher = ("embeddings.",)
        self._build(encoder, RegressionHead(config.hidden_size, config.head_layers))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as transformers does, with token types of 0."""
        super()._init_weights(module)
        if isinstance(module, Data2VecTextEmbeddings):
            init.zeros_(module.token_type_embeddings.weight)

    def freeze_teacher(self) -> None:
        """Freeze the teacher, and the student's token types, which the method doesn't have."""
        super().freeze_teacher()
        self.base_model.embeddings.token_type_embeddings.requires_grad_(False)

    def tokens(self, parts: Any, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            inputs = inputs.masked_fill(mask, self.config.mask_token)
        embeddings = parts.embeddings(input_ids=inputs)  # [B, T, D]
        return embeddings.masked_fill((inputs == self.config.pad_token_id)[..., None], 0.0)

    def embed(self, inputs: Tensor, attention_mask: Tensor | None) -> Embedding:
        check_tokens(inputs, self.config.vocab_size, self.config.max_tokens)
        with torch.no_grad(), in_eval_mode(self.base_model.embeddings):  # for the teacher: the student sees masks
            tokens = self.tokens(self.base_model, inputs)
        valid = None if attention_mask is None else attention_mask.bool()
        return Embedding(tokens, tokens, (int(inputs.shape[1]),), valid)

    def teacher_tokens(
        self, inputs: Tensor, embedding: Embedding, attention_mask: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        parts = self.teacher if hasattr(self.teacher, "embeddings") else self.base_model
        shown = embedding.valid
        if self.config.teacher_input == "masked" and mask is not None:
            shown = mask.any(1)  # [B, T]
            inputs = inputs.masked_fill(~shown, self.config.pad_token_id)
        elif parts is self.base_model:
            return embedding.tokens, shown
        with in_eval_mode(parts.embeddings):
            return self.tokens(parts, inputs), shown

    def encode(self, parts: Any, tokens: Tensor, grid: tuple[int, ...], valid: Tensor | None) -> Tensor:
        return parts.encoder(tokens, padding_mask(self.config, tokens, valid)).last_hidden_state

    def target_modules(self, encoder: Any, end_of_block: bool) -> list[nn.Module]:
        # `output.dense` is before dropout and residual.
        return [layer if end_of_block else layer.output.dense for layer in encoder.layer]

    def forward(
        self,
        input_ids: Tensor | None = None,
        mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch.

        Args:
            input_ids: int64 [B, T], the whole sequences.
            mask: bool [B, M, T], True at the tokens to predict, which the student sees as `config.mask_token`;
                None to draw them as the config says.
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.
            return_loss: whether to compute the loss.
        """
        return self.pretrain(input_ids, mask, attention_mask, return_loss)
