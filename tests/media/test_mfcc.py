"""Log-mel bands by transformers' functions are those of the textbook, which committed figures were made with."""

import numpy as np
import pytest
import torch
from recordings import voice
from scipy.signal import get_window

from modeling_data2vec.trainers.media.mfcc import log_mel


def textbook(samples: np.ndarray, num_mels: int, rate: int) -> np.ndarray:
    """Power of Hamming windows in triangles of height 1, in double precision."""
    window, size = rate // 40, 1 << (rate // 40 - 1).bit_length()
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[:: rate // 100] * get_window("hamming", window)
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), num_mels + 2) / 2595) - 1)
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    frequencies = np.arange(size // 2 + 1)[:, None] * rate / size
    triangles = np.minimum((frequencies - left) / (middle - left), (right - frequencies) / (right - middle))
    power = np.abs(np.fft.rfft(frames, size)) ** 2 @ np.maximum(0, triangles)
    return np.log(np.maximum(power, power.max() * 1e-10))


@pytest.mark.parametrize(("rate", "num_mels"), [(16_000, 40), (16_000, 64), (8_000, 40)])
def test_bands_are_those_of_the_textbook(rate, num_mels):
    clip = voice(1.0)
    bands = log_mel(torch.from_numpy(clip), num_mels=num_mels, sampling_rate=rate)
    expected = textbook(clip.astype(np.float64), num_mels, rate)
    np.testing.assert_allclose(bands, expected, rtol=0, atol=1e-6)  # of logarithms: relative 1e-6 of the power
