"""Pretraining of data2vec 2.0 on text: the model with a teacher and a decoder."""

from typing import Any

from torch import Tensor, nn
from transformers import initialization as init

from .core import Data2VecPreTrainingOutput
from .heads import ConvDecoder
from .modeling_data2vec2_pretraining import Data2Vec2EncoderForPreTraining
from .modeling_data2vec2_text import Data2Vec2TextModel, Data2Vec2TextPreTrainedModel


class TextDecoder(ConvDecoder):
    """The decoder of text, whose projection is initialised as the trunk's linear layers."""

    def init_weights(self) -> None:
        super().init_weights()
        for layer in self.proj.modules():
            if isinstance(layer, nn.Linear):
                init.normal_(layer.weight, std=self.config.initializer_range)
                init.zeros_(layer.bias)


class Data2Vec2TextForPreTraining(Data2Vec2TextPreTrainedModel, Data2Vec2EncoderForPreTraining):
    """data2vec 2.0 pretraining on text: student, teacher and convolutional decoder (arXiv 2212.07525).

    There is no mask token: the student never sees a place where a token is hidden.

    Example:
        >>> import torch
        >>> from modeling_data2vec import Data2Vec2TextConfig
        >>> from modeling_data2vec.masking import random_mask
        >>> config = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64)
        >>> masks = random_mask(2 * 4, 32, 0.48, generator=torch.Generator().manual_seed(0))
        >>> tokens = torch.randint(4, 100, (2, 32))
        >>> Data2Vec2TextForPreTraining(config)(tokens, mask=masks.view(2, 4, -1)).loss.shape
        torch.Size([])
    """

    encoder_class = Data2Vec2TextModel
    decoder_class = TextDecoder

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
            mask: bool [B, M, T], True at the tokens to predict (None: drawn as the config says).
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.
        """
        view: dict[str, Any] = {"ids_keep": ids_keep, "noise_keys": noise_keys, "mask_noise": mask_noise}
        return self.pretrain(input_ids, mask, attention_mask, return_loss, **view)
