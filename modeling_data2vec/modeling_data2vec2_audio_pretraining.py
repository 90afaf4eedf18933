"""Pretraining of data2vec 2.0 on speech: the model with a teacher and a decoder."""

from typing import Any

from torch import Tensor

from .core import Data2VecPreTrainingOutput
from .modeling_data2vec2_audio import Data2Vec2AudioModel, Data2Vec2AudioPreTrainedModel
from .modeling_data2vec2_pretraining import Data2Vec2EncoderForPreTraining


class Data2Vec2AudioForPreTraining(Data2Vec2AudioPreTrainedModel, Data2Vec2EncoderForPreTraining):
    """data2vec 2.0 pretraining on speech: student, teacher and convolutional decoder (arXiv 2212.07525).

    Example:
        >>> import torch
        >>> from modeling_data2vec import Data2Vec2AudioConfig
        >>> from modeling_data2vec.masking import block_mask_1d
        >>> config = Data2Vec2AudioConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, conv_dim=[32] * 7)
        >>> masks = block_mask_1d(2 * 4, 49, 0.5, 5, generator=torch.Generator().manual_seed(0))
        >>> Data2Vec2AudioForPreTraining(config)(torch.randn(2, 16_000), mask=masks.view(2, 4, -1)).loss.shape
        torch.Size([])
    """

    encoder_class = Data2Vec2AudioModel

    def forward(
        self,
        input_values: Tensor | None = None,
        mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch; see `student` and `pretrain` for the other arguments.

        Args:
            input_values: [B, samples] at 16 kHz, normalised, padded on the right.
            mask: bool [B, M, T], True at the frames to predict (None: drawn as the config says).
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.
        """
        view: dict[str, Any] = {"ids_keep": ids_keep, "noise_keys": noise_keys, "mask_noise": mask_noise}
        return self.pretrain(input_values, mask, attention_mask, return_loss, **view)
