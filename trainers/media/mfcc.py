"""Features of sound that cost nothing: log-mel bands, MFCC, and their statistics over a clip."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from scipy.fft import dct
from scipy.signal import get_window
from torch import Tensor

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
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop] * get_window("hamming", window)
    size = 1 << (window - 1).bit_length()  # of the Fourier transform: the next power of 2
    power = np.abs(np.fft.rfft(frames, size)) ** 2 @ _mel_filters(num_mels, size, sampling_rate)
    return np.log(np.maximum(power, max(power.max(), 1e-30) * 1e-10))


def _mel_filters(num_mels: int, size: int, sampling_rate: int) -> np.ndarray:
    """[size // 2 + 1, num_mels]: triangles of height 1 over the frequencies of a Fourier transform of `size`."""
    highest = 2595 * np.log10(1 + sampling_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, num_mels + 2) / 2595) - 1)  # Hz
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    frequencies = np.arange(size // 2 + 1)[:, None] * sampling_rate / size
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return np.maximum(0, np.minimum(rising, falling))


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


def time_statistics(frames: np.ndarray) -> np.ndarray:
    """Mean and deviation of a clip's frames [T, D], and their means in each sixth of the clip: [8 * D].

    Example:
        >>> time_statistics(np.ones((19, 40))).shape
        (320,)
    """
    edges = np.arange(TIME_BINS + 1) * len(frames) // TIME_BINS
    bins = [frames[start : max(end, start + 1)].mean(0) for start, end in pairwise(edges)]
    return np.concatenate([frames.mean(0), frames.std(0), *bins])
