"""Images: data2vec 1.0 around transformers' `Data2VecVisionModel`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Data2VecVisionModel, Data2VecVisionPreTrainedModel

from .configuration_data2vec import Data2VecVisionPreTrainingConfig
from .core import Data2VecPreTrainingOutput
from .embedding import Embedding
from .modeling_data2vec import Data2VecEncoderForPreTraining, OutputRecorder, in_eval_mode
from .modeling_data2vec2_vision import check_images


def reentrant(layer: Any) -> bool:
    """Whether a layer is checkpointed, and by the older way, which runs a backward pass inside of another."""
    if not (layer.gradient_checkpointing and layer.training):
        return False
    return getattr(layer._gradient_checkpointing_func, "keywords", {}).get("use_reentrant", True)


@contextmanager
def shared_bias_computed_once(encoder: Any) -> Iterator[None]:
    """Share one relative position bias among all layers; transformers' encoder computes it anew for each of them.

    A compiler finds that out by itself; and reentrant checkpointing goes backward through a bias once for each layer.
    """
    if not encoder.has_relative_position_bias or torch.compiler.is_compiling() or reentrant(encoder.layer[0]):
        yield
        return
    bias = encoder.relative_position_bias
    computed: list[Tensor] = []
    compute = bias.forward

    def once(*args: Any, **kwargs: Any) -> Tensor:
        if not computed:
            computed.append(compute(*args, **kwargs))
        return computed[0]

    bias.forward = once
    try:
        yield
    finally:
        del bias.forward


@dataclass(frozen=True)
class LayerScale:
    """A hook of a layer that scales the output of its feed-forward part, recorded last, as the layer has done.

    It is done while the layer runs, since a sharded layer has whole weights only then.
    """

    recorder: OutputRecorder

    def __call__(self, layer: Any, args: Any, output: Any) -> None:
        if self.recorder.outputs is not None:
            self.recorder.outputs[-1] = layer.lambda_2 * self.recorder.outputs[-1]


class Data2VecVisionForPreTraining(Data2VecEncoderForPreTraining, Data2VecVisionPreTrainedModel):
    """data2vec 1.0 pretraining on images, around transformers' `Data2VecVisionModel` (arXiv 2202.03555).

    The prediction is the normalised output of the encoder itself. Where `use_mean_pooling` leaves transformers' model
    without a final norm, that norm is the head.

    Example:
        >>> config = Data2VecVisionPreTrainingConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, image_size=32, patch_size=8)
        >>> mask = torch.zeros(2, 1, 16, dtype=torch.bool)
        >>> mask[:, :, 4:10] = True
        >>> Data2VecVisionForPreTraining(config)(torch.randn(2, 3, 32, 32), mask=mask).loss.shape
        torch.Size([])
    """

    config: Data2VecVisionPreTrainingConfig
    config_class = Data2VecVisionPreTrainingConfig

    def __init__(self, config: Data2VecVisionPreTrainingConfig):
        super().__init__(config)
        head = nn.LayerNorm(config.hidden_size, config.layer_norm_eps) if config.use_mean_pooling else nn.Identity()
        self._build(Data2VecVisionModel(config), head)

    def freeze_teacher(self) -> None:
        """Freeze the teacher; what a feed-forward part adds to the residual stream is scaled, where layers do so."""
        super().freeze_teacher()
        scale = LayerScale(self._feed_forward_outputs)
        for layer in self.teacher.encoder.layer if self.config.layer_scale_init_value else ():
            if scale not in layer._forward_hooks.values():
                layer.register_forward_hook(scale)

    def tokens(self, parts: Any, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        return parts.embeddings(inputs, bool_masked_pos=mask)[0]  # [B, 1 + T, D]

    def embed(self, inputs: Tensor, attention_mask: Tensor | None) -> Embedding:
        size = self.config.patch_size
        check_images(inputs, self.config.num_channels, size)
        with torch.no_grad(), in_eval_mode(self.base_model.embeddings):  # for the teacher: the student sees masks
            tokens = self.tokens(self.base_model, inputs)
        return Embedding(tokens[:, 1:], tokens, (inputs.shape[2] // size, inputs.shape[3] // size))

    def encode(self, parts: Any, tokens: Tensor, grid: tuple[int, ...], valid: Tensor | None) -> Tensor:
        resolution = tuple(size * self.config.patch_size for size in grid)
        with shared_bias_computed_once(parts.encoder):
            states = parts.encoder(tokens, resolution=resolution).last_hidden_state
        if hasattr(parts, "layernorm"):  # the teacher has none, unless it is a whole model: no target passes it
            states = parts.layernorm(states)
        return states[:, 1:]

    def target_modules(self, encoder: Any, end_of_block: bool) -> list[nn.Module]:
        return [layer if end_of_block else layer.output for layer in encoder.layer]

    def forward(
        self, pixel_values: Tensor | None = None, mask: Tensor | None = None, return_loss: bool = True
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch.

        Args:
            pixel_values: [B, channels, height, width], normalised.
            mask: bool [B, M, T], True at the patches to predict, which the student sees replaced by a token;
                None to draw them as the config says.
            return_loss: whether to compute the loss.
        """
        return self.pretrain(pixel_values, mask, None, return_loss)
