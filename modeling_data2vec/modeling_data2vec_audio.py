"""Speech: data2vec 1.0 around transformers' `Data2VecAudioModel`."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Data2VecAudioModel, Data2VecAudioPreTrainedModel

from .configuration_data2vec import Data2VecAudioPreTrainingConfig
from .convolutions import init_as_pytorch
from .core import Data2VecPreTrainingOutput
from .embedding import Embedding, real_positions
from .heads import RegressionHead
from .modeling_data2vec import Data2VecEncoderForPreTraining
from .modeling_data2vec2_audio import check_waveforms
from .native_audio import run_channels_last


class Data2VecAudioForPreTraining(Data2VecEncoderForPreTraining, Data2VecAudioPreTrainedModel):
    """data2vec 1.0 pretraining on speech, around transformers' `Data2VecAudioModel` (arXiv 2202.03555).

    Example:
        >>> config = Data2VecAudioPreTrainingConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, conv_dim=[32] * 7)
        >>> mask = torch.zeros(2, 1, 49, dtype=torch.bool)
        >>> mask[:, :, 10:30] = True
        >>> Data2VecAudioForPreTraining(config)(torch.randn(2, 16_000), mask=mask).loss.shape
        torch.Size([])
    """

    config: Data2VecAudioPreTrainingConfig
    config_class = Data2VecAudioPreTrainingConfig

    def __init__(self, config: Data2VecAudioPreTrainingConfig):
        super().__init__(config)
        if config.teacher_scope == "layers":
            self.copied_into_teacher = ("encoder.pos_conv_embed.",)
        encoder = Data2VecAudioModel(config)
        run_channels_last(encoder)
        self._build(encoder, RegressionHead(config.hidden_size, config.head_layers))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as transformers does; the head as PyTorch initializes linear layers."""
        super()._init_weights(module)
        if isinstance(module, RegressionHead):
            for layer in module:
                if isinstance(layer, nn.Linear):
                    init_as_pytorch(layer)

    def tokens(self, parts: Any, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        inputs = inputs.to(parts.feature_projection.layer_norm.weight.dtype)
        features = parts.feature_extractor(inputs).transpose(1, 2)  # [B, T, C]
        projection = parts.feature_projection
        return projection.projection(projection.layer_norm(features))  # [B, T, D]

    def embed(self, inputs: Tensor, attention_mask: Tensor | None) -> Embedding:
        check_waveforms(inputs, self.config.receptive_field)
        tokens = self.tokens(self.base_model, inputs)
        valid = None
        if attention_mask is not None:
            num_frames = self.config.num_frames(attention_mask.long().sum(1))  # [B]
            valid = real_positions(num_frames, tokens.shape[1])  # [B, T]
        return Embedding(tokens, tokens, (int(tokens.shape[1]),), valid)

    def student_tokens(self, inputs: Tensor, embedding: Embedding, mask: Tensor) -> Tensor:
        tokens = self.base_model.feature_projection.dropout(embedding.tokens)[:, None]  # [B, 1, T, D]
        instead = self.base_model.masked_spec_embed.to(tokens.dtype)
        return torch.where(mask[..., None], instead, tokens).flatten(0, 1)  # [B, M, T, D] to [R, T, D]

    def encode(self, parts: Any, tokens: Tensor, grid: tuple[int, ...], valid: Tensor | None) -> Tensor:
        exact: dict[str, bool] = {"padding_at_zero": True} if self.config.padding == "exact" else {}
        return parts.encoder(tokens, attention_mask=valid, **exact).last_hidden_state

    def target_modules(self, encoder: Any, end_of_block: bool) -> list[nn.Module]:
        return [layer if end_of_block else layer.feed_forward for layer in encoder.layers]

    def forward(
        self,
        input_values: Tensor | None = None,
        mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch.

        Args:
            input_values: [B, samples] at 16 kHz, normalised, padded on the right.
            mask: bool [B, M, T], True at the frames to predict, which the student sees replaced by an embedding;
                None to draw them as the config says.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.
            return_loss: whether to compute the loss.
        """
        return self.pretrain(input_values, mask, attention_mask, return_loss)
