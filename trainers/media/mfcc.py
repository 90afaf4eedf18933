"""Features of sound that cost nothing: log-mel bands, MFCC, and their statistics over a clip."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from scipy.fft import dct
from torch import Tensor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

TIME_BINS = 6  # of a clip, so that its MFCC features know beginning from end


def log_mel(waveform: Tensor, *, num_mels: int = 40, sampling_rate: int = 16_000) -> np.ndarray:
    """Log power in triangular mel bands of 25 ms Hamming windows, one every 10 ms.

    Args:
        waveform: [samples], of any scale: powers below -100 dB of the clip's largest are raised to that.
        num_mels: bands, equally wide on the mel scale from 0 Hz to half of `sampling_rate`.
        sampling_rate: samples of a second.

    Returns:
        [frames, num_mels], natural logarithm.

    Example:
        >>> import torch
        >>> log_mel(torch.randn(16_000)).shape
        (98, 40)
    """
    window, hop = sampling_rate // 40, sampling_rate // 100
    samples = waveform.detach().double().cpu().numpy()
    samples = np.pad(samples, (0, max(0, window - len(samples))))  # a clip makes at least one frame
    size = 1 << (window - 1).bit_length()  # of the Fourier transform: the next power of 2
    power = spectrogram(
        samples,
        window_function(window, "hamming"),
        frame_length=window,
        hop_length=hop,
        fft_length=size,
        power=2.0,
        center=False,
        mel_filters=mel_filter_bank(size // 2 + 1, num_mels, 0.0, sampling_rate / 2, sampling_rate),
        mel_floor=0.0,
        dtype=np.float64,
    ).T  # [frames, num_mels]
    return np.log(np.maximum(power, max(power.max(), 1e-30) * 1e-10))


def mfcc(waveform: Tensor, *, num_coefficients: int = 40, sampling_rate: int = 16_000) -> np.ndarray:
    """Mel-frequency cepstral coefficients [frames, num_coefficients]: the cosine transform of 40 `log_mel` bands."""
    return dct(log_mel(waveform, sampling_rate=sampling_rate), norm="ortho")[:, :num_coefficients]


def mfcc_statistics(clips: Iterable[Tensor], *, num_coefficients: int = 40, sampling_rate: int = 16_000) -> np.ndarray:
    """Mean and deviation of a clip's MFCC over time, and their means in each sixth of the clip.

    Args:
        clips: N waveforms [samples], without padding.
        num_coefficients, sampling_rate: as in `mfcc`.

    Returns:
        fp32 [N, 8 * num_coefficients].
    """
    features = []
    for clip in clips:
        features.append(time_statistics(mfcc(clip, num_coefficients=num_coefficients, sampling_rate=sampling_rate)))
    return np.asarray(features, dtype=np.float32)


def log_mel_statistics(clips: Iterable[Tensor], *, sampling_rate: int = 16_000) -> np.ndarray:
    """As `mfcc_statistics`, of the 40 log-mel bands themselves: fp32 [N, 8 * 40]."""
    return np.asarray([time_statistics(log_mel(clip, sampling_rate=sampling_rate)) for clip in clips], dtype=np.float32)


def time_statistics(frames: np.ndarray) -> np.ndarray:
    """Mean and deviation of a clip's frames [T, D], and their means in each sixth of the clip: [8 * D].

    Example:
        >>> time_statistics(np.ones((19, 40))).shape
        (320,)
    """
    edges = np.arange(TIME_BINS + 1) * len(frames) // TIME_BINS
    bins = [frames[start : max(end, start + 1)].mean(0) for start, end in pairwise(edges)]
    return np.concatenate([frames.mean(0), frames.std(0), *bins])
