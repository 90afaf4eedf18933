"""data2vec 2.0 for images: the model, and the model with its teacher for pretraining."""

import math

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec import Data2Vec2VisionConfig
from .core import Data2VecCore, Data2VecPreTrainingOutput
from .feature_encoders import ImageFeatureEncoder
from .heads import ConvDecoder2d
from .trunk import Data2Vec2Attention, Data2Vec2Layer, Data2Vec2Trunk


class Data2Vec2VisionPreTrainedModel(PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 image models."""

    config: Data2Vec2VisionConfig
    config_class = Data2Vec2VisionConfig
    base_model_prefix = "data2vec2_vision"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
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
        | linear layers | N(0, initializer_range), bias 0 |
        | patch embedding | Xavier uniform of the flattened kernel, bias 0 |
        | extra tokens | N(0, 1) |
        | decoder (convolutions and projection) | PyTorch's default: uniform within 1/sqrt(fan in) |
        | norms | weight 1, bias 0 |
        """
        if isinstance(module, ImageFeatureEncoder):
            if module.extra_tokens is not None:
                init.normal_(module.extra_tokens)
            if module.patch_embed is not None:
                weight = module.patch_embed.weight
                bound = math.sqrt(6 / (weight.shape[0] + weight[0].numel()))
                init.uniform_(weight, -bound, bound)
                init.zeros_(module.patch_embed.bias)
        elif isinstance(module, ConvDecoder2d):
            for layer in (*module.convs, module.proj):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                init.uniform_(layer.weight, -bound, bound)
                init.uniform_(layer.bias, -bound, bound)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=self.config.initializer_range)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


class Data2Vec2VisionModel(Data2Vec2VisionPreTrainedModel):
    """The data2vec 2.0 image encoder without any head.

    Example:
        >>> config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=2, num_prenet_layers=1,
        ...     num_attention_heads=4, intermediate_size=128, average_top_k_layers=2, decoder_dim=64, image_size=32)
        >>> outputs = Data2Vec2VisionModel(config)(torch.randn(1, 3, 48, 32))
        >>> outputs.last_hidden_state.shape, outputs.pooler_output.shape
        (torch.Size([1, 7, 64]), torch.Size([1, 64]))
    """

    # A pretraining checkpoint also holds these; the bare encoder does without.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^head\."]  # noqa: RUF012

    def __init__(self, config: Data2Vec2VisionConfig):
        super().__init__(config)
        self.feature_encoder = ImageFeatureEncoder(config)
        self.trunk = Data2Vec2Trunk(config)
        self.post_init()

    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: Tensor, **kwargs: object) -> BaseModelOutputWithPooling:
        """Encode images.

        Args:
            pixel_values: [B, channels, height, width], normalised; any size that the patch size divides.
            output_hidden_states, output_attentions: also return those of every layer, the prenet's first.

        Returns:
            `last_hidden_state` [B, E + T, D], extra tokens first, then patches row by row; `pooler_output` [B, D], the
            mean of the patch tokens, as the authors' fine-tuning uses it.
        """
        tokens = self.feature_encoder.embed(pixel_values).tokens
        hidden_states = self.trunk(self.feature_encoder.contextualize(tokens, **kwargs), **kwargs)
        pooled = hidden_states[:, self.config.num_extra_tokens :].mean(1)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


class Data2Vec2VisionForPreTraining(Data2VecCore, Data2Vec2VisionPreTrainedModel):
    """data2vec 2.0 pretraining on images: student, teacher and convolutional decoder (arXiv 2212.07525).

    The teacher moves when `update_teacher(step)` is called after an optimizer step; `Data2VecTrainer` does that.

    Example:
        >>> from modeling_data2vec.masking import block_mask_2d
        >>> config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=2, num_prenet_layers=1,
        ...     num_attention_heads=4, intermediate_size=128, average_top_k_layers=2, decoder_dim=64, image_size=64)
        >>> masks = block_mask_2d(2 * 4, config.grid, 0.8, 3, inverse=True, generator=torch.Generator().manual_seed(0))
        >>> model = Data2Vec2VisionForPreTraining(config)
        >>> model(torch.randn(2, 3, 64, 64), mask=masks.view(2, 4, -1)).loss.shape
        torch.Size([])
    """

    def __init__(self, config: Data2Vec2VisionConfig):
        super().__init__(config)
        self.data2vec2_vision = Data2Vec2VisionModel(config)
        self.head = ConvDecoder2d(config)
        self.build_teacher()
        self.post_init()
        self.sync_teacher()

    def forward(
        self,
        pixel_values: Tensor,
        mask: Tensor,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch; see `Data2VecCore.pretrain` for the arguments.

        Args:
            pixel_values: [B, channels, height, width], normalised.
            mask: bool [B, M, T], True at the patches to predict; the same number in each row.
        """
        return self.pretrain(pixel_values, mask, ids_keep, noise_keys, mask_noise, return_loss)
