"""Pretraining of data2vec 2.0 on spectrograms: the model with a teacher and a decoder."""

from typing import Any

from torch import Tensor

from .core import Data2VecPreTrainingOutput
from .modeling_data2vec2_pretraining import Data2Vec2EncoderForPreTraining
from .modeling_data2vec2_spectrogram import Data2Vec2SpectrogramModel, Data2Vec2SpectrogramPreTrainedModel


class Data2Vec2SpectrogramForPreTraining(Data2Vec2SpectrogramPreTrainedModel, Data2Vec2EncoderForPreTraining):
    """data2vec 2.0 pretraining on spectrograms: student, teacher and convolutional decoder (EAT, arXiv 2401.03497).

    EAT's two objectives are data2vec 2.0's: the loss at hidden patches, and that of the CLS token, which predicts the
    mean target of all patches (its "utterance-frame objective").

    Example:
        >>> import torch
        >>> from modeling_data2vec import Data2Vec2SpectrogramConfig
        >>> from modeling_data2vec.masking import block_mask_2d
        >>> config = Data2Vec2SpectrogramConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, spectrogram_length=128)
        >>> masks = block_mask_2d(2 * 4, config.grid, 0.8, 5, inverse=True, generator=torch.Generator().manual_seed(0))
        >>> model = Data2Vec2SpectrogramForPreTraining(config)
        >>> model(torch.randn(2, 128, 128), mask=masks.view(2, 4, -1)).loss.shape
        torch.Size([])
    """

    encoder_class = Data2Vec2SpectrogramModel

    def forward(
        self,
        input_features: Tensor | None = None,
        mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch; see `student` and `pretrain` for the other arguments.

        Args:
            input_features: [B, frames, mel bins], log-mel, normalised, padded on the right.
            mask: bool [B, M, T], True at the patches to predict; T is time patches x bands, time first;
                None to draw them as the config says.
            attention_mask: [B, frames], 1 at real frames; None where nothing is padded.
        """
        view: dict[str, Any] = {"ids_keep": ids_keep, "noise_keys": noise_keys, "mask_noise": mask_noise}
        return self.pretrain(input_features, mask, attention_mask, return_loss, **view)
