"""From waveforms to the log-mel spectrograms that spectrogram models read: Kaldi's filter bank, as EAT computes it."""

from typing import Any

import torch
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.audio_utils import spectrogram
from transformers.utils import logging

from .log_mel import LOG_FLOOR, PREEMPHASIS, fft_length, frame_length, frame_window, hop_length, mel_filters

logger = logging.get_logger(__name__)


class Data2Vec2SpectrogramFeatureExtractor(SequenceFeatureExtractor):
    """Computes normalised log-mel spectrograms of clips, `input_features`, and pads them.

    It is Kaldi's filter bank with the settings of AST and EAT, by transformers' own `audio_utils`: the clip minus its
    mean, frames of 25 ms every 10 ms, Hann window, pre-emphasis .97, power spectrum, `feature_size` triangular filters
    on Kaldi's mel scale from 20 Hz to half the sampling rate, natural logarithm, no dither; then
    `(x - mean) / (2 * std)`. A clip has `1 + (samples - frame) // shift` frames: none reaches over its end. EAT's own
    input, which torchaudio computes, is equal within 5e-5 (docs/differences.md).

    Args:
        feature_size: mel bins of a frame [num_mel_bins].
        sampling_rate: of the clips, in Hz; EAT's models take 16,000.
        mean, std: of the log-mel values of the training data; the defaults are EAT's of AudioSet. Its others: ESC-50
            -6.627 and 5.359, Speech Commands v2 -6.846 and 5.565.
        do_normalize: whether to apply them.
        padding_value: what padded frames hold; by default what EAT's code pads with, log energies of 0, which is
            `-mean / (2 * std)` after normalisation.
        return_attention_mask: whether to say which frames are real.

    Example:
        >>> extractor = Data2Vec2SpectrogramFeatureExtractor()
        >>> batch = extractor([torch.randn(16_000), torch.randn(8_000)], sampling_rate=16_000, return_tensors="pt")
        >>> batch["input_features"].shape, batch["attention_mask"].sum(1)
        (torch.Size([2, 98, 128]), tensor([98, 48]))

        EAT's input for AudioSet, 1,024 frames of a clip whatever its length:

        >>> clip = torch.randn(160_000)
        >>> fixed = {"padding": "max_length", "max_length": 1024, "truncation": True, "return_tensors": "pt"}
        >>> extractor(clip, sampling_rate=16_000, **fixed)["input_features"].shape
        torch.Size([1, 1024, 128])
    """

    model_input_names = ["input_features", "attention_mask"]  # noqa: RUF012

    def __init__(
        self,
        feature_size: int = 128,
        sampling_rate: int = 16_000,
        mean: float = -4.268,
        std: float = 4.569,
        do_normalize: bool = True,
        padding_value: float | None = None,
        return_attention_mask: bool = True,
        **kwargs: Any,
    ):
        if padding_value is None:
            padding_value = -mean / (2 * std) if do_normalize else 0.0
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.mean = mean
        self.std = std
        self.do_normalize = do_normalize
        self.return_attention_mask = return_attention_mask
        # By these names they are left out of preprocessor_config.json.
        self.window = frame_window(sampling_rate)
        self.mel_filters = mel_filters(feature_size, sampling_rate)

    @property
    def frame_length(self) -> int:
        """Samples of a frame."""
        return frame_length(self.sampling_rate)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return hop_length(self.sampling_rate)

    @property
    def fft_length(self) -> int:
        """Samples of the Fourier transform: the next power of two."""
        return fft_length(self.sampling_rate)

    def log_mel(self, clip: Any) -> Any:
        """Normalised log-mel spectrogram of a clip [samples]: an array [frames, mel bins] in fp32.

        Raises:
            ValueError: the clip is shorter than one frame, or has several channels.
        """
        wave = torch.as_tensor(clip, dtype=torch.float32)
        if wave.ndim != 1 or len(wave) < self.frame_length:
            raise ValueError(
                f"a clip has the shape {list(wave.shape)}, but must be [samples] of mono sound with at least one frame "
                f"of {self.frame_length} samples: leave out shorter clips, and mix channels to one"
            )
        features = spectrogram(
            (wave - wave.mean()).numpy(),
            self.window,
            frame_length=self.frame_length,
            hop_length=self.hop_length,
            fft_length=self.fft_length,
            power=2.0,
            center=False,
            preemphasis=PREEMPHASIS,
            mel_filters=self.mel_filters,
            log_mel="log",
            mel_floor=LOG_FLOOR,
            remove_dc_offset=True,
        ).T
        return (features - self.mean) / (2 * self.std) if self.do_normalize else features

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Spectrograms of one clip or of several.

        Args:
            raw_speech: a clip [samples] with values from -1 to 1, as array, tensor or list; or a list of clips.
            sampling_rate: of the clips; asked for, so that a wrong one is noticed.
            padding: True pads to the longest, "max_length" to `max_length` frames, False not at all.
            return_tensors: "pt" or "np"; None for a list of arrays.
            kwargs: further arguments of `SequenceFeatureExtractor.pad`, such as `max_length` in frames and
                `truncation`, which cuts the end off.

        Returns:
            `input_features` [B, frames, mel bins] and, unless switched off, `attention_mask` [B, frames].

        Raises:
            ValueError: for another sampling rate than the extractor's, or a clip that is too short.
        """
        if sampling_rate is None:
            logger.warning_once(
                f"{type(self).__name__} takes clips of {self.sampling_rate} Hz: give sampling_rate, so that a wrong "
                "one is noticed."
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"the clips have a sampling rate of {sampling_rate} Hz, but this extractor takes {self.sampling_rate} "
                "Hz: resample them"
            )
        first = raw_speech[0]
        several = isinstance(first, list | tuple) or getattr(first, "ndim", 0) > 0
        features = [self.log_mel(clip) for clip in (raw_speech if several else [raw_speech])]
        batch = BatchFeature({"input_features": features})
        return self.pad(batch, padding=padding, return_tensors=return_tensors, **kwargs)
