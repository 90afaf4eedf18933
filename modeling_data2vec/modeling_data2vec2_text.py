"""Text: the model of data2vec 2.0, and the models with a teacher for pretraining, 1.0 and 2.0."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Data2VecTextModel, Data2VecTextPreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.data2vec.modeling_data2vec_text import Data2VecTextEmbeddings
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec import Data2VecTextPreTrainingConfig
from .configuration_data2vec2 import Data2Vec2TextConfig
from .core import Data2VecPreTrainingOutput
from .embedding import Embedding
from .feature_encoders import TextFeatureEncoder
from .heads import RegressionHead, TextDecoder
from .modeling_data2vec import Data2VecEncoderForPreTraining, in_eval_mode
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2EncoderForPreTraining, Data2Vec2PreTrainedModel
from .raw_inputs import check_tokens


class Data2Vec2TextPreTrainedModel(Data2Vec2PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 text models."""

    config: Data2Vec2TextConfig
    config_class = Data2Vec2TextConfig
    base_model_prefix = "data2vec2_text"
    modality = "text"
    main_input_name = "input_ids"
    input_modalities = ("text",)
    feature_encoder_class = TextFeatureEncoder
    decoder_class = TextDecoder
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
        return self.encode(input_ids, attention_mask, **kwargs)


class Data2Vec2TextForPreTraining(Data2Vec2TextPreTrainedModel, Data2Vec2EncoderForPreTraining):
    """data2vec 2.0 pretraining on text: student, teacher and convolutional decoder (arXiv 2212.07525).

    There is no mask token: the student never sees a place where a token is hidden.

    Example:
        >>> from modeling_data2vec.masking import random_mask
        >>> config = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64)
        >>> masks = random_mask(2 * 4, 32, 0.48, generator=torch.Generator().manual_seed(0))
        >>> tokens = torch.randint(4, 100, (2, 32))
        >>> Data2Vec2TextForPreTraining(config)(tokens, mask=masks.view(2, 4, -1)).loss.shape
        torch.Size([])
    """

    encoder_class = Data2Vec2TextModel

    def forward(
        self,
        input_ids: Tensor | None = None,
        mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch; see `student` and `pretrain` for the other arguments.

        Args:
            input_ids: int64 [B, T].
            mask: bool [B, M, T], True at the tokens to predict.
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.
        """
        view: dict[str, Any] = {"ids_keep": ids_keep, "noise_keys": noise_keys, "mask_noise": mask_noise}
        return self.pretrain(input_ids, mask, attention_mask, return_loss, **view)


# ---- data2vec 1.0 ----


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
        """As transformers', without token types."""
        super()._init_weights(module)
        if isinstance(module, Data2VecTextEmbeddings):
            init.zeros_(module.token_type_embeddings.weight)

    def freeze_teacher(self) -> None:
        """As elsewhere, and the same for token types, which the method doesn't have."""
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
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=tokens, attention_mask=valid)
        return parts.encoder(tokens, mask).last_hidden_state

    def target_modules(self, encoder: Any) -> list[nn.Module]:
        # `output.dense` is before dropout and residual.
        return [layer if self.config.end_of_block_targets else layer.output.dense for layer in encoder.layer]

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
            mask: bool [B, M, T], True at the tokens to predict, which the student sees as `config.mask_token`.
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.
            return_loss: whether to compute the loss.
        """
        return self.pretrain(input_ids, mask, attention_mask, return_loss)
