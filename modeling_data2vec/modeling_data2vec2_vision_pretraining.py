"""Pretraining of data2vec 2.0 on images: the model with a teacher and a decoder."""

from typing import Any

from torch import Tensor

from .core import Data2VecPreTrainingOutput
from .modeling_data2vec2_pretraining import Data2Vec2EncoderForPreTraining
from .modeling_data2vec2_vision import Data2Vec2VisionModel, Data2Vec2VisionPreTrainedModel


class Data2Vec2VisionForPreTraining(Data2Vec2VisionPreTrainedModel, Data2Vec2EncoderForPreTraining):
    """data2vec 2.0 pretraining on images: student, teacher and convolutional decoder (arXiv 2212.07525).

    The teacher moves when `update_teacher(step)` is called after an optimizer step; `Data2VecTrainer` does that.

    Example:
        >>> import torch
        >>> from modeling_data2vec import Data2Vec2VisionConfig
        >>> from modeling_data2vec.masking import block_mask_2d
        >>> config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=2, num_prenet_layers=1,
        ...     num_attention_heads=4, intermediate_size=128, average_top_k_layers=2, decoder_dim=64, image_size=64)
        >>> masks = block_mask_2d(2 * 4, config.grid, 0.8, 3, inverse=True, generator=torch.Generator().manual_seed(0))
        >>> model = Data2Vec2VisionForPreTraining(config)
        >>> model(torch.randn(2, 3, 64, 64), mask=masks.view(2, 4, -1)).loss.shape
        torch.Size([])
    """

    encoder_class = Data2Vec2VisionModel

    def forward(
        self,
        pixel_values: Tensor | None = None,
        mask: Tensor | None = None,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch; see `Data2VecCore.pretrain` for the arguments.

        Args:
            pixel_values: [B, channels, height, width], normalised.
            mask: bool [B, M, T], True at the patches to predict; the same number in each row;
                None to draw them as the config says.
        """
        view: dict[str, Any] = {"ids_keep": ids_keep, "noise_keys": noise_keys, "mask_noise": mask_noise}
        return self.pretrain(pixel_values, mask, None, return_loss, **view)
