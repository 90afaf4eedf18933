"""SpecAugment of spectrograms in a batch: a band of pitches and a stretch of time of each clip are hidden."""

from collections.abc import Callable
from random import Random
from typing import Any

from torch import Tensor


def hide_bands(spectrograms: Tensor, lengths: list[int], share: float, rng: Random) -> Tensor:
    """Set one band and one stretch of each spectrogram to 0, the mean of normalised values (arXiv 1904.08779).

    Args:
        spectrograms: [B, frames, mel bins].
        lengths: real frames of each.
        share: of bins and of frames, the most that is hidden; how much is drawn evenly from none to that.
        rng: decides where, for each clip anew.

    Returns:
        A changed copy.

    Example:
        >>> import torch
        >>> hidden = hide_bands(torch.ones(2, 50, 20), [50, 40], 0.5, Random(0)) == 0
        >>> hidden.all(1).sum(1).tolist(), hidden.all(2).sum(1).tolist()
        ([8, 5], [18, 8])
    """
    hidden = spectrograms.clone()
    for one, length in zip(hidden, lengths, strict=True):
        width, span = int(rng.uniform(0, share * one.shape[1])), int(rng.uniform(0, share * length))
        low, start = int(rng.uniform(0, one.shape[1] - width)), int(rng.uniform(0, length - span))
        one[:, low : low + width] = 0
        one[start : start + span] = 0
    return hidden


class SpecAugmentCollator:
    """Batches of spectrograms for training, with parts of them hidden after whatever else `collate` does.

    Args:
        collate: makes a batch of samples.
        share: see `hide_bands`.
        input_name: of the spectrograms in the batch.

    Samples' `key`s decide, so a resumed run hides alike.
    """

    def __init__(
        self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]], share: float, input_name: str
    ) -> None:
        self.collate, self.share, self.input_name = collate, share, input_name

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        rng = Random("hidden " + " ".join(str(sample["key"]) for sample in samples))
        batch = self.collate(samples)
        values, mask = batch[self.input_name], batch.get("attention_mask")
        lengths = [values.shape[1]] * len(values) if mask is None else mask.sum(1).tolist()
        batch[self.input_name] = hide_bands(values, lengths, self.share, rng)
        return batch
