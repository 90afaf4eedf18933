"""Config of data2vec 2.0 for speech."""

import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig, FrameMasks
from .configuration_pretraining import MAX_LAYERS, MAX_SIZE, MAX_TABLE, Number, Published
from .log_mel import fft_length, frame_length, hop_length

SAMPLING_RATES = 1_000, 96_000  # in Hz; the matrix of a Fourier transform grows with their square


class WaveformShape:
    """Frames of a clip, for configs with convolutions over the waveform and over frames: 1.0's and 2.0's."""

    conv_dim: list[int] | tuple[int, ...]
    conv_kernel: list[int] | tuple[int, ...]
    conv_stride: list[int] | tuple[int, ...]
    num_conv_pos_embeddings: int
    conv_pos_kernel_size: int
    num_conv_pos_embedding_groups: int

    def validate_convolutions(self) -> None:
        config: Any = self
        lengths = {len(self.conv_dim), len(self.conv_kernel), len(self.conv_stride)}
        if len(lengths) != 1 or not 1 <= len(self.conv_dim) <= MAX_LAYERS:
            raise ValueError(
                f"conv_dim has {len(self.conv_dim)} values, conv_kernel {len(self.conv_kernel)} and conv_stride "
                f"{len(self.conv_stride)}, but each needs one for each convolution"
            )
        config.at_least(1, "conv_dim conv_kernel conv_stride conv_pos_kernel_size")
        config.at_least(0, "num_conv_pos_embeddings", MAX_LAYERS)
        groups = self.num_conv_pos_embedding_groups
        if groups < 1 or config.hidden_size % groups:
            raise ValueError(
                f"num_conv_pos_embedding_groups is {groups}, which does not divide hidden_size {config.hidden_size}: "
                "choose a divisor"
            )

    def num_frames(self, num_samples: Any) -> Any:
        """Frames that the convolutions make of so many samples (an int or an integer tensor); 0 of too few."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples * (num_samples > 0)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees: the shortest clip that gives a frame."""
        samples = 1
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame to the next; transformers' speech pipeline cuts long recordings by this name."""
        return math.prod(self.conv_stride)


@strict
class Data2Vec2AudioConfig(WaveformShape, FrameMasks, Data2Vec2PreTrainingConfig):
    """Config of data2vec 2.0 for speech; the defaults are the published base recipe.

    Args:
        front_end: what makes frames of the waveform: the published "convolutions", or "log_mel", fixed log-mel energies
            of two frames of 25 ms, every 20 ms, and a linear layer (`LogMel`).
        sampling_rate, num_mel_bins: of "log_mel": of its waveforms, in Hz, and mel bins of each of the two frames.
        mel_mean, mel_std: of "log_mel": mean and deviation of its values, for all bins alike. The defaults fit clips
            of variance 1, as feature extractors give them (docs/decisions.md).
        conv_dim, conv_kernel, conv_stride: channels, kernel and stride of each convolution over the waveform
            [feature_encoder_spec]. With "log_mel" they are set to what it amounts to: one convolution of fixed kernels.
        num_conv_pos_embeddings: convolutions that give position information [conv_pos_depth].
        conv_pos_kernel_size: their kernel; the published 19 is 95 // 5 [conv_pos_width // conv_pos_depth].
        num_conv_pos_embedding_groups: their groups; must divide `hidden_size` [conv_pos_groups].
        vocab_size, pad_token_id: of `Data2Vec2AudioForCTC`: its letters, and the one that is CTC's blank.
        final_dropout: dropout before its last layer.
        ctc_loss_reduction, ctc_zero_infinity: as `torch.nn.functional.ctc_loss` has them.
        mask_time_prob, mask_time_length: share of frames that are set to 0 in the training of a model for a task, in
            spans of so many frames [mask_prob, mask_length of fine-tuning]; pretraining has its own masks.
        mask_feature_prob, mask_feature_length: the same of channels [mask_channel_prob, mask_channel_length].
        use_weighted_layer_sum: heads for classes and speakers read all layers, weighted, instead of the last one.
        classifier_proj_size: width before the mean in `Data2Vec2AudioForSequenceClassification`.
        tdnn_dim, tdnn_kernel, tdnn_dilation: channels, kernel and dilation of each convolution over frames in
            `Data2Vec2AudioForXVector`.
        xvector_output_dim: width of its vectors.

    The other arguments are those of `Data2Vec2PreTrainingConfig`.

    Example:
        >>> Data2Vec2AudioConfig().num_frames(16_000)
        49
        >>> config = Data2Vec2AudioConfig(front_end="log_mel", sampling_rate=8_000)
        >>> config.num_frames(8_000), config.conv_dim, config.conv_kernel, config.conv_stride
        (49, (80,), (280,), (160,))
    """

    model_type = "data2vec2-audio"

    hidden_dropout: Number = 0.1
    attention_dropout: Number = 0.1
    post_mlp_dropout: Number = 0.1
    layerdrop: Number = 0.05
    prenet_dropout: Number = 0.1
    prenet_layerdrop: Number = 0.05
    use_alibi: bool = True
    learned_alibi_scale: bool = True
    alibi_scale_per_head: bool = True
    mask_length: int = 5
    mask_prob_adjust: Number = 0.05
    average_top_k_layers: int = Published(8)
    decoder_dropout: Number = 0.1
    front_end: Literal["convolutions", "log_mel"] = "convolutions"
    sampling_rate: int = 16_000
    num_mel_bins: int = 40
    mel_mean: Number = 0.0
    mel_std: Number = 4.0
    conv_dim: list[int] | tuple[int, ...] = (512,) * 7
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    num_conv_pos_embeddings: int = 5
    conv_pos_kernel_size: int = 19
    num_conv_pos_embedding_groups: int = Published(16)
    vocab_size: int = 32
    pad_token_id: int | None = 0
    final_dropout: Number = 0.0
    ctc_loss_reduction: Literal["sum", "mean"] = "mean"
    ctc_zero_infinity: bool = False
    mask_time_prob: Number = 0.0
    mask_time_length: int = 10
    mask_feature_prob: Number = 0.0
    mask_feature_length: int = 64
    use_weighted_layer_sum: bool = False
    classifier_proj_size: int = 256
    tdnn_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 1500)
    tdnn_kernel: list[int] | tuple[int, ...] = (5, 3, 3, 1, 1)
    tdnn_dilation: list[int] | tuple[int, ...] = (1, 2, 3, 1, 1)
    xvector_output_dim: int = 512

    def follow_size(self) -> None:
        """Let fields that were not given fit width and depth, and with "log_mel" the convolutions its frames."""
        super().follow_size()
        low, high = SAMPLING_RATES
        if self.front_end == "log_mel" and low <= self.sampling_rate <= high:  # else values are checked later
            shift = hop_length(self.sampling_rate)
            self.conv_dim = (2 * self.num_mel_bins,)
            self.conv_kernel, self.conv_stride = (frame_length(self.sampling_rate) + shift,), (2 * shift,)

    def validate_log_mel(self) -> None:
        low, high = SAMPLING_RATES
        if not low <= self.sampling_rate <= high:
            raise ValueError(f"sampling_rate is {self.sampling_rate}, but must be from {low:,} to {high:,} Hz")
        self.at_least(1, "num_mel_bins", fft_length(self.sampling_rate) // 2)
        if not (math.isfinite(self.mel_mean) and 0.0 < self.mel_std < math.inf):
            raise ValueError(
                f"mel_mean is {self.mel_mean} and mel_std {self.mel_std}, but both must be finite, and mel_std above 0"
            )

    def validate_heads(self) -> None:
        self.at_least(1, "classifier_proj_size xvector_output_dim")
        self.at_least(1, "vocab_size", MAX_TABLE)
        sizes = (self.tdnn_dim, self.tdnn_kernel, self.tdnn_dilation)
        numbers = [number for values in sizes for number in values]
        if (
            len({len(values) for values in sizes}) != 1
            or not numbers
            or not 1 <= min(numbers) <= max(numbers) <= MAX_SIZE
        ):
            raise ValueError(
                f"tdnn_dim is {self.tdnn_dim}, tdnn_kernel {self.tdnn_kernel} and tdnn_dilation {self.tdnn_dilation}, "
                f"but each needs a number from 1 to {MAX_SIZE:,} for each convolution"
            )
