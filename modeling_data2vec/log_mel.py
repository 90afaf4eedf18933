"""Log-mel energies of short frames, as Kaldi computes them, and a front-end of speech models that is made of them."""

import math
import warnings
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import initialization as init
from transformers.audio_utils import mel_filter_bank, window_function
from transformers.utils import is_torchdynamo_exporting

from .full_precision import FullPrecision, without_autocast

FRAME_SECONDS, SHIFT_SECONDS = 0.025, 0.010
LOWEST_FREQUENCY = 20.0  # in Hz; the highest is half the sampling rate
PREEMPHASIS = 0.97
LOG_FLOOR = 2.0**-23  # the smallest energy whose logarithm is taken, about 1.19e-7


def frame_length(sampling_rate: int) -> int:
    """Samples of a frame."""
    return int(sampling_rate * FRAME_SECONDS)


def hop_length(sampling_rate: int) -> int:
    """Samples from one frame to the next."""
    return int(sampling_rate * SHIFT_SECONDS)


def fft_length(sampling_rate: int) -> int:
    """Samples of the Fourier transform: the next power of two."""
    return 2 ** math.ceil(math.log2(frame_length(sampling_rate)))


def frame_window(sampling_rate: int) -> Any:
    """Kaldi's Hann window, symmetric: an array [frame]."""
    return window_function(frame_length(sampling_rate), "hann", periodic=False)


def mel_filters(num_mel_bins: int, sampling_rate: int) -> Any:
    """Triangular filters on Kaldi's mel scale: an array [frequencies, mel bins]."""
    with warnings.catch_warnings():
        # With 128 bins at 16 kHz the fourth filter is so narrow that it holds no frequency, as in EAT.
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        return mel_filter_bank(
            num_frequency_bins=fft_length(sampling_rate) // 2 + 1,
            num_mel_filters=num_mel_bins,
            min_frequency=LOWEST_FREQUENCY,
            max_frequency=sampling_rate / 2,
            sampling_rate=sampling_rate,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )


def frame_transform(sampling_rate: int) -> Tensor:
    """The spectrum of a frame of samples as one matrix: real, then imaginary parts, fp64 [2 * frequencies, frame].

    Everything before the power is linear: the frame minus its mean, pre-emphasis, window, Fourier transform.
    """
    length, fft = frame_length(sampling_rate), fft_length(sampling_rate)
    with torch.device("cpu"):  # also where a model is built without storage
        centered = torch.eye(length, dtype=torch.float64) - 1 / length
        emphasized = centered.clone()
        emphasized[1:] -= PREEMPHASIS * centered[:-1]
        emphasized[0] *= 1 - PREEMPHASIS
        windowed = torch.as_tensor(frame_window(sampling_rate))[:, None] * emphasized
        angles = torch.outer(torch.arange(fft // 2 + 1.0), torch.arange(float(length))).double() * (2 * math.pi / fft)
        return torch.cat([angles.cos(), -angles.sin()]) @ windowed


class LogMel(FullPrecision):
    """Fixed front-end: log-mel energies of two neighboring frames, every 20 ms, minus `mean`, divided by `std`.

    It has no weights and nothing in a checkpoint, and computes in fp32 in models of half precision, too. Transform and
    filters are matrix products, without complex numbers, so that it can be exported.

    Args:
        num_mel_bins: mel bins of a frame.
        sampling_rate: of the waveforms, in Hz.
        mean, std: of all log-mel values, for all bins alike.

    Example:
        >>> LogMel(40, 16_000)(torch.randn(2, 16_000)).shape
        torch.Size([2, 49, 80])
    """

    def __init__(self, num_mel_bins: int, sampling_rate: int, mean: float = 0.0, std: float = 1.0):
        super().__init__()
        self.num_mel_bins, self.sampling_rate, self.mean, self.std = num_mel_bins, sampling_rate, mean, std
        self.hop = 2 * hop_length(sampling_rate)
        for name, matrix in self.matrices().items():
            self.register_buffer(name, matrix.to(torch.get_default_device()), persistent=False)

    def matrices(self) -> dict[str, Tensor]:
        """The two constant matrices, fp32 on the CPU."""
        one, shift = frame_transform(self.sampling_rate), hop_length(self.sampling_rate)
        # Of a window with two frames, the rows of each see its own samples: [2 frames * 2 parts * frequencies, window].
        both = torch.cat([F.pad(one, (0, shift)), F.pad(one, (shift, 0))])
        filters = torch.as_tensor(mel_filters(self.num_mel_bins, self.sampling_rate), device="cpu")
        return {"transform": both.float(), "filters": filters.float()}

    def init_weights(self) -> None:
        """Fill in the matrices where a model was built without storage, to be loaded."""
        for name, matrix in self.matrices().items():
            init.copy_(cast(Tensor, getattr(self, name)), matrix)

    def forward(self, waveforms: Tensor) -> Tensor:
        """[B, samples] to fp32 [B, T, 2 * mel bins], one for each 20 ms: both frames' bins side by side."""
        transform, filters = cast(Tensor, self.transform), cast(Tensor, self.filters)
        window = transform.shape[1]
        with without_autocast(waveforms):
            x = waveforms.to(transform.dtype)
            if is_torchdynamo_exporting():  # a window's view asks more of lengths than an exporter can prove
                spectra = F.conv1d(x[:, None], transform[:, None], stride=self.hop).transpose(1, 2)
            else:
                spectra = F.linear(x.unfold(1, window, self.hop), transform)  # [B, T, 2 * 2 * frequencies]
            power = spectra.unflatten(-1, (2, 2, -1)).square().sum(-2)  # [B, T, 2 frames, frequencies]
            energies = (power @ filters).clamp_min(LOG_FLOOR).log()  # [B, T, 2 frames, mel bins]
            return ((energies - self.mean) / self.std).flatten(2)
