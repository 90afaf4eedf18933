"""transformers' data2vec 1.0 encoders with the dropout of `dropout.py` and `attention.py`: the same weights."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioAttention
from transformers.models.data2vec.modeling_data2vec_text import Data2VecTextSelfAttention
from transformers.models.data2vec.modeling_data2vec_vision import Data2VecVisionSdpaSelfAttention

from .attention import dropped_attention
from .dropout import Dropout, runs_here


def _attend(layers: tuple[nn.Module, ...], x: Tensor, mask: Tensor | None, head_dim: int, rate: float) -> Tensor:
    """Project [R, S, D] to queries, keys and values, and attend: [R, S, D]."""
    query, key, value = (layer(x).unflatten(2, (-1, head_dim)).transpose(1, 2) for layer in layers)  # [R, H, S, D/H]
    return dropped_attention(query, key, value, mask, head_dim**-0.5, rate).flatten(2)


def _takes_over(module: Any, x: Tensor, rate: float, bias: Tensor | None = None) -> bool:
    if not module.training or module.config._attn_implementation != "sdpa":
        return False
    if runs_here(x.device, rate):
        return True
    # torch's fused attention has no gradient of a bias.
    trained = bias is not None and bias.requires_grad and torch.is_grad_enabled()
    return trained and rate == 0 and x.device.type == "cpu" and not torch.compiler.is_compiling()


class TextSelfAttention(Data2VecTextSelfAttention):
    """Attention of the text encoder."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, past_key_values: Any = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """[R, S, D] to [R, S, D]."""
        rate = self.dropout.p
        if past_key_values is not None or self.is_causal or not _takes_over(self, hidden_states, rate):
            return super().forward(hidden_states, attention_mask, past_key_values, **kwargs)
        layers = self.query, self.key, self.value
        return _attend(layers, hidden_states, attention_mask, self.attention_head_size, rate), None


class AudioAttention(Data2VecAudioAttention):
    """Attention of the speech encoder."""

    def forward(
        self,
        hidden_states: Tensor,
        key_value_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """[R, S, D] to [R, S, D]."""
        if key_value_states is not None or self.is_causal or not _takes_over(self, hidden_states, self.dropout):
            return super().forward(hidden_states, key_value_states, attention_mask, output_attentions, **kwargs)
        layers = self.q_proj, self.k_proj, self.v_proj
        return self.out_proj(_attend(layers, hidden_states, attention_mask, self.head_dim, self.dropout)), None


class VisionSelfAttention(Data2VecVisionSdpaSelfAttention):
    """Attention of the image encoder."""

    def forward(
        self,
        hidden_states: Tensor,
        output_attentions: bool = False,
        relative_position_bias: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        resolution: Any = None,
    ) -> tuple[Any, ...]:
        """[R, S, D] to [R, S, D]."""
        rate = self.config.attention_probs_dropout_prob
        bias = relative_position_bias
        if self.has_relative_position_bias or not _takes_over(self, hidden_states, rate, bias):
            return super().forward(hidden_states, output_attentions, bias, interpolate_pos_encoding, resolution)
        layers = self.query, self.key, self.value
        return _attend(layers, hidden_states, bias, self.attention_head_size, rate), None


OWN_DROPOUT: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: Dropout,
    Data2VecTextSelfAttention: TextSelfAttention,
    Data2VecAudioAttention: AudioAttention,
    Data2VecVisionSdpaSelfAttention: VisionSelfAttention,
}


def run_own_dropout(model: nn.Module) -> None:
    """Let data2vec 1.0 encoders in a model drop by this package's functions; weights and their names stay.

    Args:
        model: any.

    Example:
        >>> from transformers import Data2VecTextConfig, Data2VecTextModel
        >>> model = Data2VecTextModel(Data2VecTextConfig(hidden_size=48, num_hidden_layers=1, num_attention_heads=4))
        >>> run_own_dropout(model)
        >>> model.encoder.layer[0].attention.self.__class__.__name__
        'TextSelfAttention'
    """
    for module in model.modules():
        module.__class__ = OWN_DROPOUT.get(type(module), type(module))
