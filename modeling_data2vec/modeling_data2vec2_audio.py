"""Speech: the feature encoder of data2vec 2.0, and the model."""

from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import is_torchdynamo_exporting
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec2_audio import Data2Vec2AudioConfig
from .convolutions import channels_last_conv, init_as_pytorch, strided_conv
from .embedding import Embedding, check_tensor, real_positions
from .feature_encoder import FeatureEncoder
from .length_groups import encode_by_length
from .log_mel import LogMel
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2PreTrainedModel
from .spec_augment import augment_as_configured


def check_waveforms(input_values: Tensor, receptive_field: int) -> None:
    """Raise a ValueError for another shape than [batch, samples], or fewer samples than one frame needs."""
    check_tensor("input_values", input_values)
    if input_values.ndim != 2 or input_values.shape[1] < receptive_field:
        raise ValueError(
            f"input_values has shape {tuple(input_values.shape)}, but this model takes [batch, samples] of mono sound "
            f"with at least {receptive_field} samples: leave out shorter clips, and mix channels to one"
        )


class WaveformConv(nn.Module):
    """One convolution of the speech extractor: convolution, norm over channels, GELU; channels last."""

    def __init__(self, wide: int, narrow: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.Conv1d(wide, narrow, kernel_size=kernel, stride=stride, bias=False)
        self.norm = nn.LayerNorm(narrow)

    def init_weights(self) -> None:
        """Kaiming normal."""
        init.kaiming_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T', C']."""
        if is_torchdynamo_exporting():  # slices of strided_conv ask more of lengths than an exporter can prove
            x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        else:
            x = strided_conv(self.conv, x)
        x = self.norm(x)  # by the same name: the largest tensors of all are gone as soon as they may
        return F.gelu(x)


class AudioFeatureEncoder(FeatureEncoder):
    """Frames of the waveform, by convolutions or as log-mel energies, with convolutional positions and ALiBi."""

    def __init__(self, config: Data2Vec2AudioConfig, local_encoder: bool = True):
        super().__init__(config)
        self.config: Data2Vec2AudioConfig = config
        self.log_mel: LogMel | None = None
        self.convs: nn.ModuleList | None = None
        self.feature_norm: nn.LayerNorm | None = None
        width = config.conv_dim[-1]
        if config.front_end == "log_mel":
            if local_encoder:
                self.log_mel = LogMel(config.num_mel_bins, config.sampling_rate, config.mel_mean, config.mel_std)
        else:
            widths = [1, *config.conv_dim]
            # Drawn in any case: the initial weights that a seed gives must not depend on what the teacher reads.
            convs = nn.ModuleList(
                WaveformConv(*sizes)
                for sizes in zip(widths[:-1], widths[1:], config.conv_kernel, config.conv_stride, strict=True)
            )
            if local_encoder:
                self.convs, self.feature_norm = convs, nn.LayerNorm(width)
        projection = nn.Linear(width, config.hidden_size)
        self.feature_projection = projection if local_encoder else None
        self.position_convs = nn.ModuleList(
            nn.Conv1d(
                config.hidden_size,
                config.hidden_size,
                kernel_size=config.conv_pos_kernel_size,
                padding=config.conv_pos_kernel_size // 2,
                groups=config.num_conv_pos_embedding_groups,
            )
            for _ in range(config.num_conv_pos_embeddings)
        )

    def init_weights(self) -> None:
        """Projection and positions as PyTorch has them."""
        super().init_weights()
        for layer in (self.feature_projection, *self.position_convs):
            if layer is not None:
                init_as_pytorch(layer)

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Turn waveforms into frames.

        Args:
            inputs: [B, samples], normalised; padded on the right.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.

        Raises:
            ValueError: for another shape, or fewer samples than one frame needs.
        """
        config = self.config
        check_waveforms(inputs, config.receptive_field)
        assert self.feature_projection is not None, "a teacher without its own local encoder can't embed raw input"
        if self.log_mel is not None:
            # In the model's precision again; of a parameter of its own, since the linear layer may be quantised.
            x = self.log_mel(inputs).to(next(self.parameters()).dtype)  # [B, T, 2 * mel bins]
        else:
            assert self.convs is not None and self.feature_norm is not None
            x = inputs.to(self.feature_norm.weight.dtype).unsqueeze(-1)  # [B, samples, 1]
            for conv in self.convs:
                x = conv(x)
            x = self.feature_norm(x)
        features = self.feature_projection(x)  # [B, T, D]
        length = features.shape[1]
        valid = None
        if attention_mask is not None:
            num_frames = config.num_frames(attention_mask.long().sum(1))  # [B]
            valid = real_positions(num_frames, length)  # [B, T]
        return Embedding(features, features, (length,), valid)

    def num_positions(self, length: int) -> int:
        return self.config.num_frames(length)

    def augmented(self, embedding: Embedding) -> Embedding:
        """Hide frames and channels as the config says."""
        return replace(embedding, tokens=augment_as_configured(embedding.tokens, embedding.valid, self.config))

    def relative_positions(self, embedding: Embedding, mask: Tensor | None) -> Tensor | None:
        """Grouped convolutions over frames of which hidden ones are 0, each with a norm over channels and GELU.

        Padded frames are 0 before each of them, as if the clip ended there; with padding="reference" they are not.
        """
        x, valid, num_masks = embedding.tokens, embedding.valid, 1
        length = x.shape[1]
        if mask is not None:
            # Each mask hides other frames, so each has positions of its own, computed from what it leaves.
            num_masks = mask.shape[1]
            x = (x[:, None] * (~mask)[..., None].to(x.dtype)).flatten(0, 1)  # [B, M, T, D] to [R, T, D]
        keep = None
        if valid is not None and self.config.padding == "exact":
            keep = valid.repeat_interleave(num_masks, dim=0)[..., None].to(x.dtype)  # [R, T, 1]
        for conv in self.position_convs:
            if keep is not None:
                x = x * keep
            x = channels_last_conv(conv, x)[:, :length]  # an even kernel gives one frame too many
            x = F.gelu(F.layer_norm(x, x.shape[-1:]))
        return x


class Data2Vec2AudioPreTrainedModel(Data2Vec2PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 speech models."""

    config: Data2Vec2AudioConfig
    config_class = Data2Vec2AudioConfig
    base_model_prefix = "data2vec2_audio"
    modality = "audio"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    feature_encoder_class = AudioFeatureEncoder
    num_axes = 1
    _supports_flex_attn = False  # ALiBi is a dense bias here
    _supports_flash_attn = False


class Data2Vec2AudioModel(Data2Vec2AudioPreTrainedModel, Data2Vec2Encoder):
    """The data2vec 2.0 speech encoder without any head.

    Example:
        >>> import torch
        >>> config = Data2Vec2AudioConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, conv_dim=[32] * 7)
        >>> Data2Vec2AudioModel(config)(torch.randn(1, 16_000)).last_hidden_state.shape
        torch.Size([1, 49, 64])
    """

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            input_values: [B, samples] at 16 kHz (or what `config.sampling_rate` says), each clip normalised to mean 0
                and variance 1, padded on the right.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.
            output_hidden_states, output_attentions: also return those of every layer, the prenet's first.

        Returns:
            `last_hidden_state` [B, E + T, D] with T = `config.num_frames(samples)`; `pooler_output` [B, D], the mean of
            the real frames.
        """
        return encode_by_length(self.feature_encoder, self.trunk, input_values, attention_mask, **kwargs)
