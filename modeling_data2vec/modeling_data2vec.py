"""What the data2vec 2.0 models of all modalities share: initial weights, the encoder, and its pretraining class.

`modeling_data2vec_{audio,text,vision}.py` add the raw input's name and what reads it.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_data2vec import Data2Vec2PreTrainingConfig
from .core import Data2VecCore
from .feature_encoders import FeatureEncoder
from .heads import ConvDecoder
from .losses import mean_over_positions
from .trunk import Data2Vec2Attention, Data2Vec2Layer, Data2Vec2Trunk


def init_as_pytorch(layer: nn.Module) -> None:
    """PyTorch's own initial weights of a linear layer or convolution: uniform within 1/sqrt(fan in)."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    bound = 1 / math.sqrt(layer.weight[0].numel())
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            init.uniform_(parameter, -bound, bound)


class Data2Vec2PreTrainedModel(PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 models."""

    config: Data2Vec2PreTrainingConfig
    feature_encoder_class: type[FeatureEncoder]
    num_axes: int  # of the grid of positions
    supports_gradient_checkpointing = True
    _no_split_modules = ["Data2Vec2Layer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": Data2Vec2Layer, "attentions": Data2Vec2Attention}  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initial weights as in the authors' code.

        | weights | distribution |
        |---|---|
        | linear layers and embeddings | N(0, initializer_range), bias and padding 0 |
        | extra tokens | N(0, 1) |
        | decoder (convolutions and projection) | PyTorch's default: uniform within 1/sqrt(fan in) |
        | norms, ALiBi scale | weight 1, bias 0 |

        Modalities add their own; see the classes that override this.
        """
        if isinstance(module, FeatureEncoder):
            if module.extra_tokens is not None:
                init.normal_(module.extra_tokens)
            if self.config.use_alibi:
                init.ones_(module.alibi_scale)
        elif isinstance(module, ConvDecoder):
            for layer in module.modules():
                if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
                    init_as_pytorch(layer)
        elif isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, nn.Linear):
                init.zeros_(module.bias)
            elif module.padding_idx is not None:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


class Data2Vec2Encoder(Data2Vec2PreTrainedModel):
    """Feature encoder and trunk, without any head: the base of every `Data2Vec2...Model`."""

    # A pretraining checkpoint also holds these; the bare encoder does without.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^head\."]  # noqa: RUF012

    def __init__(self, config: Any):
        super().__init__(config)
        self.feature_encoder = self.feature_encoder_class(config)
        self.trunk = Data2Vec2Trunk(config)
        self.post_init()

    def encode(self, inputs: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode raw input [B, ...]; `attention_mask` is 1 at real, 0 at padded input."""
        embedding = self.feature_encoder.embed(inputs, attention_mask)
        tokens, attention_masks = self.feature_encoder.contextualize(embedding, **kwargs)
        hidden_states = self.trunk(tokens, attention_masks, **kwargs)
        pooled = mean_over_positions(hidden_states[:, self.config.num_extra_tokens :], embedding.valid)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


class Data2Vec2EncoderForPreTraining(Data2VecCore, Data2Vec2PreTrainedModel):
    """Student, teacher and convolutional decoder: the base of every `Data2Vec2...ForPreTraining`."""

    encoder_class: type[Data2Vec2Encoder]

    def __init__(self, config: Any):
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.head = ConvDecoder(config, self.num_axes)
        self.build_teacher()
        self.post_init()
        self.sync_teacher()
