"""Config of data2vec 2.0 for spectrograms."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig, FrameMasks, check_sincos_width
from .configuration_pretraining import MAX_TABLE, Number, PatchShape, Published, PublishedDecay


@strict
class Data2Vec2SpectrogramConfig(PatchShape, FrameMasks, Data2Vec2PreTrainingConfig):
    """Config of data2vec 2.0 for log-mel spectrograms; the defaults are EAT's base recipe (arXiv 2401.03497).

    Args:
        num_mel_bins: mel bins of a frame; a multiple of the patches' edge.
        spectrogram_length: frames of a spectrogram that the recipe trains on [target_length]; the model takes any
            number.
        patch_size: edge of a square patch in frames and bins, or (frames, bins). Frames that don't fill a last patch
            are not seen.
        patch_embed_dim: width of patches before a linear layer to `hidden_size` [embed_dim of the modality]; None for
            patches of that width, without the layer.
        flexible_mask: as `Data2Vec2VisionConfig` has it: blocks of 6 x 4, 5 x 5 or 8 x 3 patches (time x bands).
        alibi_dims: as `Data2Vec2VisionConfig` has it.
        classifier_pooling: what `Data2Vec2SpectrogramForAudioClassification` reads: "cls", the first extra token, or
            "mean", the mean of the real patches [prediction_mode].
        vocab_size, pad_token_id: of `Data2Vec2SpectrogramForCTC`: its letters, and the one that is CTC's blank.
        final_dropout: dropout before its last layer.
        ctc_loss_reduction, ctc_zero_infinity: as `torch.nn.functional.ctc_loss` has them.
        mask_time_prob, mask_time_length: share of frames, which are all bands of a patch in time, that are set to 0 in
            the training of a model for a task, in spans of so many frames, as `Data2Vec2AudioConfig` has it.
        mask_feature_prob, mask_feature_length: the same of channels; a frame has `hidden_size` of each band.

    The other arguments are those of `Data2Vec2PreTrainingConfig`.

    Example:
        >>> Data2Vec2SpectrogramConfig().grid
        (64, 8)
        >>> Data2Vec2SpectrogramConfig(patch_size=(4, 128)).num_time_patches(103)
        25
    """

    model_type = "data2vec2-spectrogram"
    masks_reach_padding_in_reference = True

    layer_norm_eps: float = 1e-6
    num_extra_tokens: int = 1
    num_masks: int = 16
    mask_prob: Number = 0.8
    mask_length: int = 5
    mask_prob_adjust: Number = 0.07
    inverse_mask: bool = True
    flexible_mask: bool = False
    layer_norm_targets: bool = True
    cls_loss_weight: Number = 192.0
    ema_decay: Number = PublishedDecay(0.9998)
    ema_anneal_end_step: int = Published(100_000)
    teacher_scope: Literal["trunk", "encoder", "model"] = "model"
    decoder_dim: int = Published(768)
    decoder_kernel: int = 3
    decoder_layers: int = 6
    num_mel_bins: int = 128
    spectrogram_length: int = 1024
    patch_size: int | list[int] | tuple[int, int] = 16
    patch_embed_dim: int | None = None
    alibi_dims: Literal[1, 2] = 2
    classifier_pooling: Literal["cls", "mean"] = "cls"
    vocab_size: int = 32
    pad_token_id: int | None = 0
    final_dropout: Number = 0.0
    ctc_loss_reduction: Literal["sum", "mean"] = "mean"
    ctc_zero_infinity: bool = False
    mask_time_prob: Number = 0.0
    mask_time_length: int = 10
    mask_feature_prob: Number = 0.0
    mask_feature_length: int = 64

    @property
    def input_shape(self) -> tuple[int, int]:
        """(frames, mel bins)."""
        return self.spectrogram_length, self.num_mel_bins

    @property
    def num_bands(self) -> int:
        """Patches along the mel axis."""
        return self.num_mel_bins // self.patch_shape[1]

    def num_time_patches(self, num_frames: Any) -> Any:
        """Patches along time of so many frames (an int or an integer tensor)."""
        return num_frames // self.patch_shape[0]

    def validate_spectrogram(self) -> None:
        self.at_least(1, "num_mel_bins spectrogram_length")
        self.at_least(1, "vocab_size", MAX_TABLE)
        if not isinstance(self.patch_size, int) and len(self.patch_size) != 2:
            raise ValueError(f"patch_size is {self.patch_size}, but must be one number, or (frames, mel bins)")
        frames, bins = self.patch_shape
        if min(frames, bins) < 1 or self.num_mel_bins % bins:
            raise ValueError(
                f"patch_size is {self.patch_size}, which does not divide num_mel_bins {self.num_mel_bins}: choose a "
                "divisor for the edge along the mel axis"
            )
        if self.spectrogram_length < frames:
            raise ValueError(
                f"spectrogram_length is {self.spectrogram_length}, which is less than one patch of {frames} frames"
            )
        if self.patch_embed_dim is not None:
            self.at_least(1, "patch_embed_dim")
        check_sincos_width(self.hidden_size)
