"""Log-mel spectrograms of speech and sound: the model of data2vec 2.0, and with a teacher for pretraining.

EAT (arXiv 2401.03497) is data2vec 2.0's image model on spectrograms: one channel, time along the rows, mel bands along
the columns. Here it also takes padded batches.
"""

from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec2_spectrogram import Data2Vec2SpectrogramConfig
from .core import Data2VecPreTrainingOutput
from .embedding import Embedding, check_spectrograms
from .length_groups import encode_by_length
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2EncoderForPreTraining, Data2Vec2PreTrainedModel
from .modeling_data2vec2_vision import PatchFeatureEncoder


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


class Data2Vec2SpectrogramForPreTraining(Data2Vec2SpectrogramPreTrainedModel, Data2Vec2EncoderForPreTraining):
    """data2vec 2.0 pretraining on spectrograms: student, teacher and convolutional decoder (EAT, arXiv 2401.03497).

    EAT's two objectives are data2vec 2.0's: the loss at hidden patches, and that of the CLS token, which predicts the
    mean target of all patches (its "utterance-frame objective").

    Example:
        >>> import torch
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
