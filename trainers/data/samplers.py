"""Batches of a data set, in a new order each epoch: of a fixed size, or of similar length within a bound."""

from collections.abc import Iterator, Sequence
from itertools import chain, count, islice

import numpy as np
from torch.utils.data import Sampler


class EpochBatches(Sampler[list[int]]):
    """Batches as a pure function of (seed, epoch), of which each of several processes takes its share.

    A resumed run sees the same batches. Each process gets equally many; the few that are left over are not used in that
    epoch. A subclass draws the batches.

    Args:
        num_batches: of an epoch, of all processes together.
        seed: decides the order.
        num_processes, process: of how many processes this is which.
    """

    def __init__(self, num_batches: int, *, seed: int = 0, num_processes: int = 1, process: int = 0) -> None:
        self.seed, self.num_processes, self.process = seed, num_processes, process
        self.num_batches = num_batches // num_processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of epoch `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.of_epoch(self.epoch))

    def of_epoch(self, epoch: int) -> list[list[int]]:
        """This process's batches of an epoch, whichever is chosen."""
        batches = self.draw(np.random.default_rng((self.seed, epoch)))
        return batches[self.process : len(self) * self.num_processes : self.num_processes]

    def draw(self, rng: np.random.Generator) -> list[list[int]]:
        """All batches of an epoch, of all processes."""
        raise NotImplementedError


class FixedBatchSampler(EpochBatches):
    """Batches of equally many samples; the few samples that are left over are not used in that epoch.

    Args:
        num_samples: of the data set.
        batch_size: samples of a batch.
        options: those of `EpochBatches`.

    Raises:
        ValueError: there are fewer batches than processes.

    Example:
        >>> batches = list(FixedBatchSampler(10, 4))
        >>> len(batches), len(set(sum(batches, [])))
        (2, 8)
    """

    def __init__(self, num_samples: int, batch_size: int, **options: int) -> None:
        super().__init__(num_samples // batch_size, **options)
        if not len(self):
            raise ValueError(
                f"{num_samples} samples make {num_samples // batch_size} batch(es) of {batch_size}, but each of "
                f"{self.num_processes} process(es) needs one: choose smaller batches, or more data"
            )
        self.num_samples, self.batch_size = num_samples, batch_size

    def draw(self, rng: np.random.Generator) -> list[list[int]]:
        used = self.num_samples // self.batch_size * self.batch_size
        return rng.permutation(self.num_samples)[:used].reshape(-1, self.batch_size).tolist()


class WeightedBatchSampler(EpochBatches):
    """Batches of samples that are drawn anew in each epoch, none of them twice, in proportion to weights.

    As if one sample after the other were drawn among those that are left (Efraimidis and Spirakis 2006): so EAT draws
    the clips of an epoch of AudioSet.

    Args:
        weights: of each sample; one of 0 is never drawn.
        num_samples: that are drawn for an epoch.
        batch_size: samples of a batch; the few that are left over are not used in that epoch.
        options: those of `EpochBatches`.

    Raises:
        ValueError: fewer samples have a weight, or there are fewer batches than processes.

    Example:
        >>> batches = list(WeightedBatchSampler([1.0, 0.0, 1.0, 9.0], 3, batch_size=3))
        >>> sorted(batches[0])
        [0, 2, 3]
    """

    def __init__(self, weights: Sequence[float], num_samples: int, batch_size: int, **options: int) -> None:
        self.weights = np.asarray(weights, dtype=np.float64)
        able = int((self.weights > 0).sum())
        if num_samples > able:
            raise ValueError(
                f"{num_samples:,} samples are to be drawn for an epoch, but only {able:,} of {len(self.weights):,} can "
                "be: draw fewer"
            )
        super().__init__(num_samples // batch_size, **options)
        if not len(self):
            raise ValueError(
                f"{num_samples:,} drawn samples make {num_samples // batch_size} batch(es) of {batch_size}, but each "
                f"of {self.num_processes} process(es) needs one: choose smaller batches, or draw more"
            )
        self.num_samples, self.batch_size = num_samples, batch_size

    def draw(self, rng: np.random.Generator) -> list[list[int]]:
        with np.errstate(divide="ignore"):
            times = rng.exponential(size=len(self.weights)) / self.weights  # the first ones to come are drawn
        used = self.num_samples // self.batch_size * self.batch_size
        return np.argsort(times, kind="stable")[:used].reshape(-1, self.batch_size).tolist()


class LengthBatchSampler(EpochBatches):
    """Batches of samples of similar length, bounded by their padded size.

    Args:
        lengths: input length of each sample: samples of sound, or tokens.
        max_batch_length: the largest (number of samples) * (longest of them) of a batch.
        options: those of `EpochBatches`.

    Raises:
        ValueError: a sample alone exceeds the bound, or there are fewer batches than processes.

    Example:
        >>> sampler = LengthBatchSampler([3, 9, 4, 10, 3], max_batch_length=20)
        >>> sorted(sorted(batch) for batch in sampler)
        [[0, 2, 4], [1, 3]]
    """

    def __init__(self, lengths: Sequence[int], max_batch_length: int, **options: int) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if not len(self.lengths) or int(self.lengths.max()) > max_batch_length:
            longest = int(self.lengths.max(initial=0))
            raise ValueError(
                f"max_batch_length is {max_batch_length}, but the longest of {len(self.lengths)} samples has length "
                f"{longest}: raise the bound, or crop samples to it"
            )
        self._starts = self._cut(np.sort(self.lengths), max_batch_length)
        super().__init__(len(self._starts), **options)
        if not len(self):
            raise ValueError(
                f"{len(self.lengths)} samples make {len(self._starts)} batch(es) of length {max_batch_length}, but "
                f"each of {self.num_processes} process(es) needs one: lower max_batch_length"
            )

    def draw(self, rng: np.random.Generator) -> list[list[int]]:
        shuffled = rng.permutation(len(self.lengths))
        order = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]  # by length, equal ones shuffled
        batches = [batch.tolist() for batch in np.split(order, self._starts[1:])]
        rng.shuffle(batches)
        return batches

    @staticmethod
    def _cut(sorted_lengths: np.ndarray, max_batch_length: int) -> list[int]:
        """Where batches begin in the samples sorted by length, which is the same in every epoch."""
        starts = [0]
        for i, length in enumerate(sorted_lengths.tolist()):
            if (i - starts[-1] + 1) * length > max_batch_length:
                starts.append(i)
        return starts


def endless_batches(batches: EpochBatches, start: int = 0) -> Iterator[tuple[int, list[int]]]:
    """(epoch, indices) of batch after batch, one epoch after the other, from batch `start` on."""
    first, skipped = divmod(start, len(batches))
    numbered = (((epoch, batch) for batch in batches.of_epoch(epoch)) for epoch in count(first))
    return islice(chain.from_iterable(numbered), skipped, None)
