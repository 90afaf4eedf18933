"""Speech: the model of data2vec 2.0, and the one with a teacher for pretraining."""

from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec2 import Data2Vec2AudioConfig
from .core import Data2VecPreTrainingOutput
from .feature_encoder import AudioFeatureEncoder
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2EncoderForPreTraining, Data2Vec2PreTrainedModel


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
            input_values: [B, samples] at 16 kHz, each clip normalised to mean 0 and variance 1, padded on the right.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.
            output_hidden_states, output_attentions: also return those of every layer, the prenet's first.

        Returns:
            `last_hidden_state` [B, E + T, D] with T = `config.num_frames(samples)`; `pooler_output` [B, D], the mean of
            the real frames.
        """
        return self.encode(input_values, attention_mask, **kwargs)


class Data2Vec2AudioForPreTraining(Data2Vec2AudioPreTrainedModel, Data2Vec2EncoderForPreTraining):
    """data2vec 2.0 pretraining on speech: student, teacher and convolutional decoder (arXiv 2212.07525).

    Example:
        >>> from modeling_data2vec.masking import block_mask_1d
        >>> config = Data2Vec2AudioConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, conv_dim=[32] * 7)
        >>> masks = block_mask_1d(2 * 4, 49, 0.5, 5, generator=torch.Generator().manual_seed(0))
        >>> Data2Vec2AudioForPreTraining(config)(torch.randn(2, 16_000), mask=masks.view(2, 4, -1)).loss.shape
        torch.Size([])
    """

    encoder_class = Data2Vec2AudioModel

    def forward(
        self,
        input_values: Tensor | None = None,
        mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch; see `student` and `pretrain` for the other arguments.

        Args:
            input_values: [B, samples] at 16 kHz, normalised, padded on the right.
            mask: bool [B, M, T], True at the frames to predict.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.
        """
        view: dict[str, Any] = {"ids_keep": ids_keep, "noise_keys": noise_keys, "mask_noise": mask_noise}
        return self.pretrain(input_values, mask, attention_mask, return_loss, **view)
