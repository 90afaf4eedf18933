"""transformers' data2vec 1.0 speech encoder with channels last: the same weights, less time on a CPU."""

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.data2vec.modeling_data2vec_audio import (
    Data2VecAudioConvLayer,
    Data2VecAudioEncoder,
    Data2VecAudioFeatureEncoder,
    Data2VecAudioPositionalConvLayer,
)

from .convolutions import channels_last_conv, strided_conv
from .trunk import drawn_layerdrop, padding_mask, trainable_input, unless_dropped


class ChannelsLastConvLayer(Data2VecAudioConvLayer):
    """A convolution of the waveform extractor; a [B, C, T] goes in and out whose memory is [B, T, C]."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[B, C, T] to [B, C', T']."""
        # Positions of a kernel that fall on the same phase of the stride come together, as in PyTorch's convolutions:
        # in another order the sums are as exact, but weights after a few updates differ by more than 1e-6.
        (kernel,), (stride,) = self.conv.kernel_size, self.conv.stride
        phases = sorted(range(kernel), key=lambda i: i % stride)
        x = strided_conv(self.conv, hidden_states.transpose(1, 2), phases)  # [B, T', C']
        return self.activation(self.layer_norm(x)).transpose(1, 2)


class ChannelsLastFeatureEncoder(Data2VecAudioFeatureEncoder):
    """The waveform extractor, without the gradient of the waveform, which nobody uses."""

    def forward(self, input_values: Tensor) -> Tensor:
        """[B, samples] to [B, C, T]."""
        hidden_states = input_values[:, None]  # [B, 1, samples]
        for layer in self.conv_layers:
            hidden_states = layer(trainable_input(layer, hidden_states))
        return hidden_states


class ChannelsLastPositionalConvLayer(Data2VecAudioPositionalConvLayer):
    """A convolution of the positions; memory as in `ChannelsLastConvLayer`."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[B, D, T] to [B, D, T]."""
        length = hidden_states.shape[2]
        x = channels_last_conv(self.conv, hidden_states.transpose(1, 2))[:, :length]  # an even kernel gives one more
        return self.activation(self.layer_norm(x)).transpose(1, 2)


class ChannelsLastEncoder(Data2VecAudioEncoder):
    """Positions and layers, without a question to the device: a GPU runs on, and a compiler finds one graph."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        padding_at_zero: bool = False,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode frames.

        Args:
            hidden_states: [R, T, D].
            attention_mask: bool [R, T], True at real frames; None for all.
            padding_at_zero: set padding to 0 before every convolution of positions, as beyond the end of a clip; else,
                as in transformers, before the first.
            kwargs: of the layers.
        """
        keep = None
        if attention_mask is not None:
            hidden_states = hidden_states.masked_fill(~attention_mask[..., None], 0.0)
            keep = attention_mask[:, None].to(hidden_states.dtype) if padding_at_zero else None  # [R, 1, T]
        positions = hidden_states.transpose(1, 2)  # [R, D, T]
        for convolution in self.pos_conv_embed.layers:
            positions = convolution(positions if keep is None else positions * keep)
        states = self.dropout(self.layer_norm(hidden_states + positions.transpose(1, 2)))
        mask = padding_mask(self.config, states, attention_mask)
        for layer in self.layers:
            dropped = drawn_layerdrop(self.config.layerdrop if self.training else 0.0, states, layer)
            if dropped is not True:
                states = unless_dropped(dropped, layer(states, attention_mask=mask, **kwargs), states)
        return BaseModelOutput(last_hidden_state=states)


CHANNELS_LAST: dict[type[nn.Module], type[nn.Module]] = {
    Data2VecAudioConvLayer: ChannelsLastConvLayer,
    Data2VecAudioFeatureEncoder: ChannelsLastFeatureEncoder,
    Data2VecAudioPositionalConvLayer: ChannelsLastPositionalConvLayer,
    Data2VecAudioEncoder: ChannelsLastEncoder,
}


def run_channels_last(model: nn.Module) -> None:
    """Let the speech encoders of data2vec 1.0 in a model compute with channels last; weights and their names stay.

    Args:
        model: any; one without such an encoder is left as it is.

    Example:
        >>> import torch
        >>> from transformers import Data2VecAudioConfig, Data2VecAudioModel
        >>> model = Data2VecAudioModel(Data2VecAudioConfig(hidden_size=48, num_hidden_layers=1, intermediate_size=64))
        >>> run_channels_last(model)
        >>> model(torch.randn(1, 16_000)).last_hidden_state.shape
        torch.Size([1, 49, 48])
    """
    for module in model.modules():
        # Another class of the same weights, instead of other modules: whatever refers to them still does.
        module.__class__ = CHANNELS_LAST.get(type(module), type(module))
