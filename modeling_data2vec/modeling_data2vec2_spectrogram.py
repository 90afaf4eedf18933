"""Log-mel spectrograms of speech and sound: the feature encoder of data2vec 2.0, and the model.

EAT (arXiv 2401.03497) is data2vec 2.0's image model on spectrograms: one channel, time along the rows, mel bands along
the columns. Here it also takes padded batches.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec2_spectrogram import Data2Vec2SpectrogramConfig
from .embedding import Embedding, check_tensor
from .length_groups import encode_by_length
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2PreTrainedModel
from .modeling_data2vec2_vision import PatchFeatureEncoder
from .spec_augment import augment_as_configured


def check_spectrograms(input_features: Tensor, num_mel_bins: int, patch_frames: int) -> None:
    """Raise a ValueError for another shape than [batch, frames, mel bins], or fewer frames than one patch has."""
    check_tensor("input_features", input_features)
    shape = tuple(input_features.shape)
    if input_features.ndim != 3 or shape[2] != num_mel_bins:
        raise ValueError(
            f"input_features has shape {shape}, but this model takes log-mel spectrograms [batch, frames, "
            f"{num_mel_bins} mel bins]: compute them with the model's own feature extractor, or build the model with "
            "another num_mel_bins"
        )
    if shape[1] < patch_frames:
        raise ValueError(
            f"spectrograms of {shape[1]} frames are shorter than one patch of {patch_frames} frames: leave out shorter "
            "clips, or build the model with a smaller patch_size"
        )


class SpectrogramFeatureEncoder(PatchFeatureEncoder):
    """Patches of a log-mel spectrogram of any length: rows of patches are time, columns are mel bands."""

    def __init__(self, config: Data2Vec2SpectrogramConfig, local_encoder: bool = True):
        super().__init__(config, local_encoder)
        self.config: Data2Vec2SpectrogramConfig = config

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Cut spectrograms into patches.

        Args:
            inputs: [B, frames, mel bins], normalised; padded on the right.
            attention_mask: [B, frames], 1 at real frames; None where nothing is padded. A patch is real if all of its
                frames are. With `padding="reference"` it is not looked at, as EAT's code takes padding for silence.

        Raises:
            ValueError: for another shape, or fewer frames than one patch has.
        """
        config = self.config
        check_spectrograms(inputs, config.num_mel_bins, config.patch_shape[0])
        num_rows = None
        if attention_mask is not None and config.padding == "exact":
            num_rows = config.num_time_patches(attention_mask.long().sum(1))  # [B]
        return self.embed_patches(inputs.unsqueeze(1), num_rows)

    def num_positions(self, length: int) -> int:
        return self.config.num_time_patches(length) * self.config.num_bands

    def augmented(self, embedding: Embedding) -> Embedding:
        """Hide frames and channels as the config says; positions stay.

        A frame is all bands of a patch in time, and its channels are those of the bands side by side.
        """
        features, bands, valid = embedding.local_features, self.config.num_bands, embedding.valid
        frames = features.unflatten(1, (-1, bands)).flatten(2)  # [B, T / bands, bands * D]
        hidden = augment_as_configured(frames, None if valid is None else valid[:, ::bands], self.config)
        if hidden is frames:
            return embedding
        features = hidden.unflatten(2, (bands, -1)).flatten(1, 2)  # [B, T, D]
        return replace(embedding, tokens=features + self.positions(embedding.grid, features))


class Data2Vec2SpectrogramPreTrainedModel(Data2Vec2PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 spectrogram models."""

    config: Data2Vec2SpectrogramConfig
    config_class = Data2Vec2SpectrogramConfig
    base_model_prefix = "data2vec2_spectrogram"
    modality = "spectrogram"
    main_input_name = "input_features"
    input_modalities = ("audio",)
    feature_encoder_class = SpectrogramFeatureEncoder
    num_axes = 2


class Data2Vec2SpectrogramModel(Data2Vec2SpectrogramPreTrainedModel, Data2Vec2Encoder):
    """The data2vec 2.0 spectrogram encoder without any head.

    Example:
        >>> import torch
        >>> config = Data2Vec2SpectrogramConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, num_mel_bins=64)
        >>> outputs = Data2Vec2SpectrogramModel(config)(torch.randn(1, 100, 64))
        >>> outputs.last_hidden_state.shape, outputs.pooler_output.shape
        (torch.Size([1, 25, 64]), torch.Size([1, 64]))
    """

    def get_input_embeddings(self) -> Any:
        """The patch embedding."""
        return self.feature_encoder.patch_embed

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, input_features: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode spectrograms.

        Args:
            input_features: [B, frames, mel bins], log-mel, normalised as `Data2Vec2SpectrogramFeatureExtractor` does;
                any number of frames from one patch on, padded on the right.
            attention_mask: [B, frames], 1 at real frames; None where nothing is padded.
            output_hidden_states, output_attentions: also return those of every layer, the prenet's first.

        Returns:
            `last_hidden_state` [B, E + T, D], extra tokens first, then patches: all bands of the first patch in time,
            then those of the next; `pooler_output` [B, D], the mean of the real patches.
        """
        return encode_by_length(self.feature_encoder, self.trunk, input_features, attention_mask, **kwargs)
