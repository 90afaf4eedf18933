"""Spectrograms: recordings as log-mel spectrograms, batches with masks, baseline and pictures."""

import math
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from modeling_data2vec import Data2Vec2SpectrogramFeatureExtractor

from ..data.collators import Examples, MaskCollator, pad_inputs
from ..data.samples import UnreadableError
from ..data.sound_augment import SoundAugment
from ..media.audio_decoding import decode_audio
from ..media.mfcc import time_statistics
from .base import Inputs, RawFeatures
from .clips import SoundModality, clip_name, segment
from .drawing import heat_map
from .speech import AUDIO, SILENCE


class SpectrogramReader:
    """Makes `input_features` [frames, mel bins] of an example: the log-mel spectrogram of a crop of its clip.

    Args:
        feature_extractor: gives the sampling rate, and computes the spectrogram.
        audio_column: the column that holds the recordings.
        max_frames: of a longer clip a random part is taken, or its start without augmentation.
        min_frames: shorter clips are passed over.
        augment: random changes of the clip, where samples are augmented.

    Example:
        >>> reader = SpectrogramReader(Data2Vec2SpectrogramFeatureExtractor(), max_frames=64)
        >>> example = {"audio": {"array": np.sin(np.arange(80_000)), "sampling_rate": 16_000}}
        >>> reader(example, Random(0))["input_features"].shape
        torch.Size([64, 128])
    """

    noun = "clip"

    def __init__(
        self,
        feature_extractor: Data2Vec2SpectrogramFeatureExtractor,
        audio_column: str = "audio",
        *,
        max_frames: int | None = None,
        min_frames: int = 1,
        augment: SoundAugment | None = None,
    ) -> None:
        self.feature_extractor, self.audio_column = feature_extractor, audio_column
        self.max_frames, self.min_frames = max_frames, min_frames
        self.augment = augment or SoundAugment()

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Tensor]:
        extractor = self.feature_extractor
        start, end = segment(example)
        waveform = decode_audio(example[self.audio_column], extractor.sampling_rate, start=start, end=end)
        shortest = extractor.frame_length + (self.min_frames - 1) * extractor.hop_length
        if len(waveform) < shortest:
            raise UnreadableError(
                f"it lasts {len(waveform) / extractor.sampling_rate:.3f} seconds, less than the {self.min_frames} "
                "frames that the model needs"
            )
        if np.ptp(waveform) < SILENCE:
            raise UnreadableError("it is silent from start to end")
        num_frames = 1 + (len(waveform) - extractor.frame_length) // extractor.hop_length
        length = min(num_frames, self.max_frames or num_frames)
        if length < num_frames:  # a frame depends on its own samples alone: compute no others
            first = rng.randint(0, num_frames - length) if rng else 0
            start = first * extractor.hop_length
            waveform = waveform[start : start + (length - 1) * extractor.hop_length + extractor.frame_length]
        if rng is None:
            return {"input_features": torch.as_tensor(extractor.log_mel(waveform))}
        spectrogram = torch.as_tensor(extractor.log_mel(self.augment.waveform(waveform, rng)))
        return {"input_features": self.augment.spectrogram(spectrogram, rng)}

    def name(self, example: dict[str, Any]) -> str | None:
        return clip_name(example, self.audio_column)


class SpectrogramMaskCollator(MaskCollator):
    """Pads spectrograms to the longest and masks patches.

    With `padding="reference"` all frames count, as in EAT's code, which pads clips to one length before.

    Raises:
        ValueError: a spectrogram is too short to hide one patch and show another.

    Example:
        >>> from modeling_data2vec import Data2Vec2SpectrogramConfig
        >>> collator = SpectrogramMaskCollator(Data2Vec2SpectrogramConfig(num_masks=4))
        >>> batch = collator([{"input_features": torch.randn(n, 128), "key": n} for n in (128, 64)])
        >>> tuple(batch["mask"].shape), batch["mask"].sum(2).tolist()
        ((2, 4, 64), [[52, 52, 52, 52], [26, 26, 26, 26]])
    """

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        config, spectrograms = self.config, [example["input_features"] for example in examples]
        shortest = min(len(spectrogram) for spectrogram in spectrograms)
        patches = config.num_time_patches(shortest) * config.num_bands
        if patches < 2:
            raise ValueError(
                f"a spectrogram has {shortest} frames, which make {patches} patch(es), but masks need two: leave out "
                "shorter clips"
            )
        input_features, attention_mask = pad_inputs(spectrograms)
        grid = (config.num_time_patches(input_features.shape[1]), config.num_bands)
        if attention_mask is None:
            return {"input_features": input_features}, grid, None
        lengths = config.num_time_patches(attention_mask.sum(1)) * config.num_bands
        return {"input_features": input_features, "attention_mask": attention_mask}, grid, lengths


class SpectrogramModality(SoundModality):
    """Log-mel spectrograms of recordings: crops of at most `spectrogram_length` frames to train on."""

    name, input_name, title = "spectrogram", "input_features", "spectrograms of sound"
    sample, position = "clip", "patch"
    has_bands = True
    medium = AUDIO
    color = "#56B4E9"
    picture_title = "log-mel spectrogram"
    first_axis_is_time = True

    @classmethod
    def default_processor(cls, config: Any) -> Any:
        """As EAT computes spectrograms, with the model's mel bins."""
        return Data2Vec2SpectrogramFeatureExtractor(feature_size=config.num_mel_bins)

    def align(self, *, new_model: bool) -> None:
        if self.processor.feature_size != self.config.num_mel_bins:
            raise ValueError(
                f"the feature extractor makes {self.processor.feature_size} mel bins, but the model takes "
                f"{self.config.num_mel_bins}: set num_mel_bins to {self.processor.feature_size}, or use the model's "
                "own feature extractor"
            )

    def reader(self, column: str) -> SpectrogramReader:
        rows = 1 if self.config.num_bands > 1 else 2  # of patches: one is hidden, one visible
        limits = {"max_frames": self.config.spectrogram_length, "min_frames": rows * self.config.patch_shape[0]}
        return SpectrogramReader(self.processor, column, **limits)

    @classmethod
    def hears(cls, processor: Any) -> bool:
        return isinstance(processor, Data2Vec2SpectrogramFeatureExtractor)

    def clip_reader(  # by default any clip of one patch
        self, column: str, *, min_seconds: float = 0.0, max_seconds: float | None = None
    ) -> SpectrogramReader:
        rate = self.processor.sampling_rate
        shortest = max(self.config.patch_shape[0], self.input_length(math.ceil(min_seconds * rate)))
        longest = None if max_seconds is None else max(shortest, self.input_length(round(max_seconds * rate)))
        return SpectrogramReader(self.processor, column, min_frames=shortest, max_frames=longest)

    def input_length(self, num_samples: Any) -> Any:
        """Frames of the spectrogram."""
        frames = (num_samples - self.processor.frame_length) // self.processor.hop_length + 1
        return frames * (frames > 0)

    def num_frames(self, length: Any) -> Any:
        return self.config.num_time_patches(length)

    def frame_window(self) -> tuple[int, int]:
        rows, hop = self.config.patch_shape[0], self.processor.hop_length
        return rows * hop, (rows - 1) * hop + self.processor.frame_length

    def inputs(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        spectrograms = [torch.as_tensor(self.processor.log_mel(clip)) for clip in clips]
        values, real = pad_inputs(spectrograms, self.processor.padding_value)
        return {"input_features": values} | ({} if real is None else {"attention_mask": real.long()})

    def grid(self, sample: Tensor) -> tuple[int, ...]:
        return self.config.num_time_patches(len(sample)), self.config.num_bands

    def example(self, length: float | None = None) -> Tensor:
        return torch.empty(self.config.input_shape, device="meta")

    def collator(self) -> MaskCollator:
        return SpectrogramMaskCollator(self.config)

    def raw_features(self) -> list[RawFeatures]:
        return [
            RawFeatures("log-mel", lambda train, test: (statistics(train), statistics(test))),
            RawFeatures("MFCC", lambda train, test: (cepstral_statistics(train), cepstral_statistics(test))),
        ]

    def pictures(self, inputs: Inputs) -> list[np.ndarray]:
        """Time from left to right, low bands at the bottom."""
        return [heat_map(sample.detach().float().cpu().numpy().T[::-1]) for sample in inputs]

    def cells(self, values: np.ndarray, sample: Tensor) -> np.ndarray:
        """Only what fills whole patches is covered, as if it were all."""
        return values.reshape(*self.grid(sample), *values.shape[1:]).swapaxes(0, 1)[::-1]

    def captions(self, inputs: Inputs) -> Sequence[str]:
        return [f"{len(sample)} frames" for sample in inputs]


def statistics(spectrograms: Inputs) -> np.ndarray:
    """Mean and deviation of each mel bin over time, and its means in each sixth of the clip: fp32 [N, 8 * mel bins]."""
    rows = [time_statistics(sample.detach().float().cpu().numpy()) for sample in spectrograms]
    return np.asarray(rows, dtype=np.float32)


def cepstral_statistics(spectrograms: Inputs) -> np.ndarray:
    """The same of the first 40 cosine coefficients over the mel bins, which is what MFCC are: fp32 [N, 8 * 40]."""
    cepstra = [dct(sample.detach().double().cpu().numpy(), norm="ortho")[:, :40] for sample in spectrograms]
    return np.asarray([time_statistics(frames) for frames in cepstra], dtype=np.float32)
