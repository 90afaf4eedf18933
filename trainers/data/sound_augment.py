"""Augmentation of clips before and after their spectrogram: rolled and louder or softer; noise on spectrograms."""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

ROLLED_FRAMES = (-10, 9)  # as far as EAT rolls spectrograms with noise


@dataclass(frozen=True)
class SoundAugment:
    """Random changes of a clip, as EAT fine-tunes with (`roll_aug` and `noise` of its data loader).

    Args:
        roll: roll the waveform by any number of samples, and scale it by .5 + Beta(10, 10), which is .5 to 1.5.
        noise: add even noise from 0 to at most this to the normalised spectrogram, how much drawn for each clip, and
            roll it by up to 10 frames; 0 for neither. EAT has .1.

    Example:
        >>> augment = SoundAugment(roll=True)
        >>> sorted(augment.waveform(np.arange(4.0), Random(0)).argsort().tolist())
        [0, 1, 2, 3]
    """

    roll: bool = False
    noise: float = 0.0

    def waveform(self, waveform: np.ndarray, rng: Random) -> np.ndarray:
        """Roll and scale a waveform [samples]."""
        if not self.roll:
            return waveform
        rolled = np.roll(waveform, rng.randrange(len(waveform)))
        return (rolled * (rng.betavariate(10, 10) + 0.5)).astype(waveform.dtype)

    def spectrogram(self, spectrogram: Tensor, rng: Random) -> Tensor:
        """Add noise to a spectrogram [frames, mel bins], and roll it."""
        if not self.noise:
            return spectrogram
        even = torch.rand(spectrogram.shape, generator=torch.Generator().manual_seed(rng.getrandbits(31)))
        noisy = spectrogram + even * rng.uniform(0, self.noise)
        return noisy.roll(rng.randint(*ROLLED_FRAMES), 0)
