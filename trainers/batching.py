"""Batches of similar length: little padding, and a bound on what one batch holds."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class LengthBatchSampler(Sampler[list[int]]):
    """Batches of samples of similar length, bounded by their padded size, in a new order each epoch.

    A pure function of (seed, epoch): a resumed run sees the same batches, and each of several processes takes its share
    of them. Each process gets equally many batches; the few that are left over are not used in that epoch.

    Args:
        lengths: input length of each sample: samples of sound, or tokens.
        max_batch_length: the largest (number of samples) * (longest of them) of a batch.
        seed: decides the order.
        num_processes, process: of how many processes this is which.

    Raises:
        ValueError: a sample alone exceeds the bound, or there are fewer batches than processes.

    Example:
        >>> sampler = LengthBatchSampler([3, 9, 4, 10, 3], max_batch_length=20)
        >>> sorted(sorted(batch) for batch in sampler)
        [[0, 2, 4], [1, 3]]
    """

    def __init__(
        self, lengths: Sequence[int], max_batch_length: int, *, seed: int = 0, num_processes: int = 1, process: int = 0
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if not len(self.lengths) or int(self.lengths.max()) > max_batch_length:
            longest = int(self.lengths.max(initial=0))
            raise ValueError(
                f"max_batch_length is {max_batch_length}, but the longest of {len(self.lengths)} samples has length "
                f"{longest}: raise the bound, or crop samples to it"
            )
        self.max_batch_length, self.seed = max_batch_length, seed
        self.num_processes, self.process = num_processes, process
        self.epoch = 0
        self._starts = self._cut(np.sort(self.lengths), max_batch_length)
        if not len(self):
            raise ValueError(
                f"{len(self.lengths)} samples make fewer batches of length {max_batch_length} than there are processes "
                f"({num_processes}): lower max_batch_length"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of epoch `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._starts) // self.num_processes

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        shuffled = rng.permutation(len(self.lengths))
        order = shuffled[np.argsort(self.lengths[shuffled], kind="stable")]  # by length, equal ones shuffled
        batches = [batch.tolist() for batch in np.split(order, self._starts[1:])]
        rng.shuffle(batches)
        used = len(self) * self.num_processes
        return iter(batches[self.process : used : self.num_processes])

    @staticmethod
    def _cut(sorted_lengths: np.ndarray, max_batch_length: int) -> list[int]:
        """Where batches begin in the samples sorted by length, which is the same in every epoch."""
        starts = [0]
        for i, length in enumerate(sorted_lengths.tolist()):
            if (i - starts[-1] + 1) * length > max_batch_length:
                starts.append(i)
        return starts
