"""Streams that several readers share: each sample is read by one, in shuffled order, from any position on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import datasets
import fsspec.asyn
import numpy as np
from torch.utils.data import get_worker_info

from ..sources.shards import has_plain_shards, saves_its_state, shard_sizes

BUFFER = 1_000  # samples of a stream that are read, and then shuffled, together

T = TypeVar("T")
Position = dict[str, Any]  # of one reader: names, whole numbers and lists of them, as JSON has them


@dataclass(frozen=True)
class Share:
    """The part of a stream that one reader reads: units `first` to `stop` of those of its process.

    A process has as many units as worker processes, or more if these don't read equally often.

    Args:
        process, num_processes: of how many processes this is which; all have the same number of units.
        first, stop, units: of how many units of the process the reader has which.
        equal: whether units are equally large, so that all readers end together, and the few samples that can't be
            divided are left out.

    Example:
        >>> [Share(process, 2, worker, worker + 1, 3).of(80) for process in (0, 1) for worker in range(3)]
        [(0, 13), (13, 26), (26, 39), (39, 52), (52, 65), (65, 78)]
    """

    process: int = 0
    num_processes: int = 1
    first: int = 0
    stop: int = 1
    units: int = 1
    equal: bool = True

    @property
    def begin(self) -> int:
        return self.process * self.units + self.first

    @property
    def end(self) -> int:
        return self.process * self.units + self.stop

    @property
    def total(self) -> int:
        """Units of all processes."""
        return self.num_processes * self.units

    def of(self, number: int) -> tuple[int, int]:
        """Which samples of a stream of that many are the reader's: from the first up to the second."""
        if self.equal:
            return self.begin * (number // self.total), self.end * (number // self.total)
        return self.begin * number // self.total, self.end * number // self.total

    def has(self, number: int) -> bool:
        """Whether a shard or sample of that number is the reader's, where they are dealt out in turns."""
        return self.begin <= number % self.total < self.end


def share_of_worker() -> Share:
    """All of a stream, or, in a worker process of a loader, the worker's part of it."""
    worker = get_worker_info()
    if worker is None:
        return Share(equal=False)
    return Share(first=worker.id, stop=worker.id + 1, units=worker.num_workers, equal=False)


def in_chunks(
    chunks: Callable[[Position], Iterator[tuple[Position, Sequence[T]]]], position: Position | None
) -> Iterator[tuple[T, Position]]:
    """Items of chunks that are made anew from where they start, and the position after each item.

    Args:
        chunks: (start, items) of each chunk from a start on; an empty start is the beginning.
        position: where to go on.

    Example:
        >>> def pairs(start):
        ...     return (({"n": n}, [n, n + 1]) for n in range(start.get("n", 0), 6, 2))
        >>> [item for item, _ in in_chunks(pairs, {"start": {"n": 2}, "taken": 1})]
        [3, 4, 5]
    """
    first, taken = (position["start"], position["taken"]) if position else ({}, 0)
    for start, items in chunks(first):
        for number in range(taken, len(items)):
            yield items[number], {"start": start, "taken": number + 1}
        taken = 0


class SharedStream:
    """A stream that is read by shares, and from a position on.

    Attributes:
        source: the stream of `datasets` that it comes from, if it does.
    """

    source: Stream | None = None

    def __iter__(self) -> Iterator[Any]:
        return (item for item, _ in self.read(0, share_of_worker()))

    def read(self, epoch: int, share: Share, position: Position | None = None) -> Iterator[tuple[Any, Position]]:
        """Items of a share in an epoch, and the position after each.

        Args:
            epoch: decides the order, if that is shuffled.
            share: whose.
            position: after which to go on; of the same epoch and share.
        """
        raise NotImplementedError


class Stream(SharedStream):
    """A stream of `datasets` that several readers share.

    Where the sizes of the shards are known, each reader has a range of the samples, and opens only the shards that it
    lies in. Else it has whole shards, or, if there are fewer of them than readers, goes through all and gives every
    n-th sample.

    Args:
        dataset: an `IterableDataset`.
        seed: shuffles the shards, and their samples in blocks of 1,000, anew in each epoch; None keeps the order.

    Attributes:
        sizes: samples of each shard; None where they are not known.

    Raises:
        ValueError: the dataset has been split by node.

    Example:
        >>> rows = datasets.Dataset.from_dict({"n": range(8)}).to_iterable_dataset(num_shards=3)
        >>> stream = Stream(rows)
        >>> found = list(stream.read(0, Share()))
        >>> [row["n"] for row, _ in stream.read(0, Share(), found[4][1])]
        [5, 6, 7]
    """

    def __init__(self, dataset: datasets.IterableDataset, seed: int | None = None) -> None:
        if getattr(dataset, "_distributed", None) is not None:
            raise ValueError(
                "the stream was split by node already, and would be divided a second time: pass it as it was before "
                "split_dataset_by_node"
            )
        self.dataset, self.seed, self.source = dataset, seed, self
        self.num_shards: int = dataset.num_shards
        self.sizes: list[int] | None = None
        self.has_plain_shards, self.saves_its_state = has_plain_shards(dataset), saves_its_state(dataset)

    def measure(self) -> None:
        """Find the sizes of the shards, where that is possible without decoding samples."""
        if self.sizes is None:
            self.sizes = shard_sizes(self.dataset)

    def read(self, epoch: int, share: Share, position: Position | None = None) -> Iterator[tuple[Any, Position]]:
        return in_chunks(lambda start: self._blocks(epoch, share, start), position)

    def _blocks(self, epoch: int, share: Share, start: Position) -> Iterator[tuple[Position, list[Any]]]:
        """(where it starts, examples) of one shuffled block after the other; the first is shorter, by chance."""
        reading = _Reading(self, epoch, share, start)
        block = start.get("block", 0)
        while True:
            here = {"block": block, **reading.position()}
            if self.seed is None:
                examples = list(islice(reading, 1))
            else:
                rng = np.random.default_rng((self.seed, epoch, share.begin, block))
                size = BUFFER if block else int(rng.integers(BUFFER)) + 1
                examples = list(islice(reading, size))
                examples = [examples[index] for index in rng.permutation(len(examples))]
            if not examples:
                return
            yield here, examples
            block += 1

    def is_dealt_out(self, share: Share) -> bool:
        """Whether a reader goes through the whole stream, and gives every n-th sample."""
        return self.sizes is None and self.num_shards < share.total

    def pieces(self, epoch: int, share: Share) -> list[Piece]:
        """What a reader opens, one after the other."""
        if self.seed is None and share.total == 1:
            return [Piece(1, 0)]
        if not self.has_plain_shards:
            if self.is_dealt_out(share):
                return [Piece(1, 0)]
            return [Piece(share.total, unit) for unit in range(share.begin, share.end)]
        rng = np.random.default_rng((self.seed or 0, epoch))
        shards = [Piece(self.num_shards, number) for number in range(self.num_shards)]
        if self.seed is not None:
            shards = [shards[number] for number in rng.permutation(len(shards))]
        if share.total == 1 or self.is_dealt_out(share):
            return shards
        if self.sizes is None:  # not always the same readers have one shard more
            turn = 0 if self.seed is None else int(rng.integers(share.total))
            return [shard for number, shard in enumerate(shards, turn) if share.has(number)]
        begin, end = share.of(sum(self.sizes))
        if share.equal and self.seed is not None:  # else the same samples would be left out in each epoch
            offset = int(rng.integers(sum(self.sizes) % share.total + 1))
            begin, end = begin + offset, end + offset
        found = []
        for shard in shards:
            size = self.sizes[shard.index]
            low, high = max(begin, 0), min(end, size)
            if low < high:
                found.append(Piece(shard.num_shards, shard.index, low, high if high < size else None))
            begin, end = begin - size, end - size
        return found


@dataclass(frozen=True)
class Piece:
    """A shard of a stream, or its samples from `low` up to `high`; None is its end."""

    num_shards: int
    index: int
    low: int = 0
    high: int | None = None

    def of(self, dataset: datasets.IterableDataset) -> datasets.IterableDataset:
        shard = dataset.shard(self.num_shards, self.index, contiguous=False)  # an object of its own, also if it is all
        if self.high is not None:
            shard = shard.take(self.high)
        return shard.skip(self.low) if self.low else shard


class _Reading:
    """The examples of a share, not shuffled, with the position in them; arguments as of `Stream.read`."""

    def __init__(self, stream: Stream, epoch: int, share: Share, start: Position) -> None:
        self.stream, self.epoch, self.share = stream, epoch, share
        self.pieces = stream.pieces(epoch, share)
        # The piece that is being read, its dataset while it is open, where that began, and what was read since.
        self.piece, self.state, self.read = start.get("piece", 0), start.get("state"), start.get("read", 0)
        self.part: datasets.IterableDataset | None = None
        if get_worker_info() is not None:  # as `datasets` does it: a lock of fsspec that was forked may never open
            fsspec.asyn.reset_lock()
        self.examples = self._deal_out() if stream.is_dealt_out(share) else self._all()
        # Where the samples are dealt out: where the current group begins, and what was given of it.
        self.given = start.get("given", 0)
        self.group: Position | None = start if self.given else None

    def position(self) -> Position:
        """A start that goes on with the next example."""
        if self.group is not None:
            return self.group | {"given": self.given}
        if not self.stream.saves_its_state:
            return {"piece": self.piece, "read": self.read}  # the piece is read again up to there
        return {"piece": self.piece, "state": self.state if self.part is None else self.part.state_dict()}

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self.examples)

    def _all(self) -> Iterator[Any]:
        for number in range(self.piece, len(self.pieces)):
            part = self.pieces[number].of(self.stream.dataset)
            part.set_epoch(self.epoch)
            if self.state is not None:
                part.load_state_dict(self.state)
            rows = part.iter(batch_size=1)  # of plain iteration, `datasets` would give a worker only its shards
            for _ in islice(rows, self.read):
                pass
            self.part = part
            for row in rows:
                self.read += 1
                yield {name: values[0] for name, values in row.items()}
            self.piece, self.part, self.state, self.read = number + 1, None, None, 0

    def _deal_out(self) -> Iterator[Any]:
        """The reader's samples of each group of n, which is whole if all readers must end together."""
        examples, given = self._all(), self.given
        while True:
            self.group = None
            start = self.position()
            group = list(islice(examples, self.share.total))
            if not group or (self.share.equal and len(group) < self.share.total):
                return
            own = group[self.share.begin : self.share.end]
            for number in range(given, len(own)):
                self.group, self.given = start, number + 1
                yield own[number]
            given = 0


class OtherStream(SharedStream):
    """A stream that is none of `datasets`: each process goes through all of it and gives its share of the samples.

    Worker processes are left to the stream itself, as torch has it. A position is a count: all is read again up to it.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def read(self, epoch: int, share: Share, position: Position | None = None) -> Iterator[tuple[Any, Position]]:
        dataset = self.dataset
        if hasattr(dataset, "set_epoch"):
            dataset = deepcopy(dataset)  # an epoch in shared memory is that of all workers, which are not in step
            dataset.set_epoch(epoch)
        first = position["taken"] if position else 0
        own = islice(dataset, share.process, None, share.num_processes)
        for number, example in enumerate(islice(own, first, None), first + 1):
            yield example, {"taken": number}


def as_stream(dataset: Any) -> SharedStream:
    """A dataset without a length as one that can be shared; what can be already stays as it is."""
    if isinstance(dataset, SharedStream):
        return dataset
    return Stream(dataset) if isinstance(dataset, datasets.IterableDataset) else OtherStream(dataset)


def shuffled(dataset: Any, seed: int) -> Any:
    """A stream in random order; map-style data as they are, since the sampler shuffles them."""
    if isinstance(dataset, datasets.Dataset):
        return dataset
    return Stream(dataset, seed)
