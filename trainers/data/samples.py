"""Training samples from any dataset: random choices depend on a sample's place alone; unreadable ones are skipped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Protocol

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset
from transformers.utils import logging

from ..sources.label_checks import require_labels, require_no_fractions, require_no_lists_in_text
from ..sources.labels import as_whole_numbers, is_list, label_values
from ..sources.loading import column_types, find_column
from ..sources.source_files import LABEL_COLUMNS
from .finiteness import is_finite
from .streams import Position, Share, as_stream, share_of_worker, shuffled

logger = logging.get_logger(__name__)


ReadLabels = np.ndarray | list[list[Any]]  # the class of each of N samples, or its list of classes
# Inputs of N samples, and the class of each, or its list of classes.
LabelledSet = tuple[
    torch.Tensor | Sequence[torch.Tensor], np.ndarray | torch.Tensor | Sequence[int] | Sequence[Sequence[Any]]
]


class UnreadableError(ValueError):
    """A sample that is broken, or of no use; it is passed over, with this message."""


def nothing_readable(left_out: Mapping[str, str], noun: str, where: str = "") -> ValueError:
    """The error of data in which every sample is left out, for the reason that `left_out` has by its name."""
    name, why = next(iter(left_out.items()))
    return ValueError(f"none of the {noun}s{where} can be read; the first is {name}: {why}")


class SampleReader(Protocol):
    """Interface of readers: makes the model's inputs from one example.

    Attributes:
        noun: what a sample is called in messages, e.g. "image".
    """

    noun: str

    def __call__(self, example: dict[str, Any], rng: Random | None) -> dict[str, Any]:
        """The model's inputs, unbatched; `rng` decides what is random, None stands for no augmentation.

        Raises:
            UnreadableError: the sample must be passed over.
        """

    def name(self, example: dict[str, Any]) -> str | None:
        """Where the example comes from, e.g. its path, if it knows."""


def readable_inputs(reader: SampleReader, example: dict[str, Any], rng: Random | None) -> dict[str, Any]:
    """The reader's inputs of an example, without NaN and infinity.

    Raises:
        UnreadableError: the sample must be passed over.
    """
    inputs = reader(example, rng)
    for name, values in inputs.items():
        if not is_finite(values):
            raise UnreadableError(f"NaN or infinity in its {name}")
    return inputs


def each_readable(
    dataset: Iterable[dict[str, Any]], reader: SampleReader, rows: Iterable[int], split: str, source: str = ""
) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """What can be read of a split, for figures in which each sample counts once; the others are left out by name.

    Args:
        dataset: examples.
        reader: what makes model inputs of an example; nothing is augmented.
        rows: the number of each example, by which one without a name is called.
        split, source: for messages.

    Yields:
        row, example and inputs.

    Raises:
        ValueError: nothing can be read.
    """
    left_out: dict[str, str] = {}
    count = 0
    for row, example in zip(rows, dataset, strict=True):
        try:
            inputs = readable_inputs(reader, example, None)
        except UnreadableError as error:
            name = reader.name(example) or str(row)
            left_out[name] = str(error)
            logger.warning(f"Leaving out {reader.noun} {name} of split {split!r}: {error}")
            continue
        count += 1
        yield row, example, inputs
    if not count:
        raise nothing_readable(
            left_out, reader.noun, f" of {source}, split {split!r}," if source else f" of split {split!r}"
        )


class _Samples:
    """Base of both data sets: augmentation and masks are a function of (seed, epoch, place of the sample)."""

    modality: Any = None  # the `Modality` that reads them, if one does: it brings collator and processor
    provenance: Any = None  # what a model card says of them, if it is known
    lengths: Sequence[int] | None = None  # of the inputs of each, if they are known

    def __init__(self, dataset: Any, reader: SampleReader, *, seed: int = 0, augment: bool = True) -> None:
        self.dataset, self.reader, self.seed, self.augment = dataset, reader, seed, augment
        # Shared memory, here and below: worker processes see a new epoch and report unreadable samples.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def sample(self, example: dict[str, Any], epoch: int, *place: int) -> dict[str, Any]:
        """The reader's inputs of an example, and the `key` that its masks are drawn from."""
        rng = Random(" ".join(map(str, (self.seed, epoch, *place))))
        key = rng.getrandbits(31)
        return {"key": key, **readable_inputs(self.reader, example, rng if self.augment else None)}


class SampleDataset(_Samples, Dataset):
    """A map-style set of samples; (seed, epoch, index) decide augmentation and masks.

    An unreadable sample is replaced by the next readable one, marked and named by `unreadable()`.

    Args:
        dataset: a `datasets.Dataset`, or anything with examples by index and a length.
        reader: what makes model inputs of an example.
        seed: the run's seed.
        augment: whether the reader gets random numbers; False for evaluation.
        lengths: of the inputs of each sample, where they differ and are known: for batches of similar lengths.
    """

    def __init__(
        self,
        dataset: Any,
        reader: SampleReader,
        *,
        seed: int = 0,
        augment: bool = True,
        lengths: Sequence[int] | None = None,
    ) -> None:
        super().__init__(dataset, reader, seed=seed, augment=augment)
        self.lengths = lengths
        # Reading a row takes a tenth of the time in a batch; but not where it is decoded, or changed, as it is read.
        self._reads_batches = isinstance(dataset, datasets.Dataset) and not (
            dataset.format["type"] or any(getattr(kind, "decode", False) for kind in dataset.features.values())
        )
        self._unreadable = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.of_epoch(int(self._epoch), index)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """The samples of a batch, as `DataLoader` asks for them."""
        epoch = int(self._epoch)
        examples = self.dataset.__getitems__(indices) if self._reads_batches else [None] * len(indices)
        return [self.of_epoch(epoch, index, example) for index, example in zip(indices, examples, strict=True)]

    def of_epoch(self, epoch: int, index: int, example: dict[str, Any] | None = None) -> dict[str, Any]:
        """The sample as it is in an epoch, whichever is set; its example may have been read already."""
        for step in range(len(self)):
            position = (int(index) + step) % len(self)
            if self._unreadable[position]:
                continue
            try:
                read = self.dataset[position] if step or example is None else example
                return self.sample(read, epoch, int(index))
            except UnreadableError as error:
                self._unreadable[position] = True
                logger.warning(f"Passing over {self.name(position)}: {error}")
        raise ValueError(
            f"none of the {len(self)} {self.reader.noun}s can be read; the first is {self.name(0)}: {self._fault(0)}"
        )

    def _fault(self, index: int) -> str:
        try:
            readable_inputs(self.reader, self.dataset[index], None)
        except UnreadableError as error:
            return str(error)
        return "it can be read now"

    def name(self, index: int) -> str:
        """Where a sample comes from: what the reader knows of it, else its index."""
        return self.reader.name(self.dataset[index]) or f"{self.reader.noun} {index}"

    def unreadable(self) -> list[str]:
        """Names of the samples that could not be read so far."""
        return [self.name(int(i)) for i in self._unreadable.nonzero().flatten()]


class IterableSampleDataset(_Samples, IterableDataset):
    """Samples that come in a stream, e.g. from the Hub. Arguments: see `SampleDataset`.

    A sample's number is its place in what its reader (a worker process) reads, so augmentation and masks repeat as long
    as that does. In a loader of one's own, each worker process reads its part.
    """

    def __init__(self, dataset: Any, reader: SampleReader, *, seed: int = 0, augment: bool = True) -> None:
        super().__init__(dataset, reader, seed=seed, augment=augment)
        self.stream = as_stream(dataset)
        self._num_unreadable = torch.zeros((), dtype=torch.int64).share_memory_()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (sample for sample, _ in self._read(int(self._epoch), share_of_worker(), 0, None))

    def endless(self, share: Share, position: Position | None = None) -> Iterator[tuple[dict[str, Any], Position]]:
        """Repeat a share of the stream without end, as epochs 0, 1, ..., whichever is set, and the position after each.

        Args:
            share: what this reader reads.
            position: after which to go on; or {"epoch": ...} alone, to begin with that epoch.

        Raises:
            ValueError: nothing in it can be read.
        """
        position = position or {"epoch": 0}
        while True:
            empty = not position.get("index")
            for sample, reached in self.one_epoch(share, position):
                empty = False
                yield sample, reached
            if empty:
                raise ValueError(
                    f"none of the {self.reader.noun}s of a stream can be read, or it has fewer than the {share.total} "
                    "that read it (processes times dataloader_num_workers): check the data, or take fewer of these"
                )
            position = {"epoch": position["epoch"] + 1}

    def one_epoch(self, share: Share, position: Position) -> Iterator[tuple[dict[str, Any], Position]]:
        """A share of the stream in the epoch of a position, from there to its end; arguments as of `endless`."""
        epoch = position["epoch"]
        for sample, reached in self._read(epoch, share, position.get("index", 0), position.get("examples")):
            yield sample, {"epoch": epoch} | reached

    def _read(
        self, epoch: int, share: Share, first: int, position: Position | None
    ) -> Iterator[tuple[dict[str, Any], Position]]:
        for index, (example, reached) in enumerate(self.stream.read(epoch, share, position), first):
            try:
                sample = self.sample(example, epoch, share.begin, index)
            except UnreadableError as error:
                self._num_unreadable += 1
                logger.warning(f"Passing over {self.reader.noun} {index} of the stream: {error}")
                continue
            yield sample, {"index": index + 1, "examples": reached}

    def unreadable(self) -> list[str]:
        """One line that counts the samples that could not be read, in each epoch anew; their places were logged."""
        count = int(self._num_unreadable)
        return [f"{count} {self.reader.noun}s of the stream"] if count else []


def as_samples(dataset: Any, reader: SampleReader, seed: int) -> SampleDataset | IterableSampleDataset:
    """Map-style samples of what has a length, streamed ones of what has none."""
    return (SampleDataset if hasattr(dataset, "__len__") else IterableSampleDataset)(dataset, reader, seed=seed)


def shuffled_samples(dataset: Any, reader: SampleReader, seed: int) -> SampleDataset | IterableSampleDataset:
    """The same, in random order where it is a stream."""
    return as_samples(shuffled(dataset, seed), reader, seed)


def read_labelled(
    dataset: datasets.Dataset,
    reader: SampleReader,
    *,
    source: str,
    split: str,
    label_column: str | None = None,
    limit: int | None = None,
) -> tuple[list[dict[str, Any]], ReadLabels]:
    """Samples and labels of a split, whole and in memory, for probes.

    Args:
        dataset: from `load_source`.
        reader: what makes model inputs of an example; nothing is augmented.
        source, split: for messages.
        label_column: found by itself where there is one class column, or one named "label".
        limit: at most so many samples, chosen at random but always the same.

    Returns:
        (N samples, [N] labels: ints, or strings where the column holds strings; or N lists of classes, also empty ones,
        where it holds lists); unreadable samples are left out with a warning.

    Raises:
        ValueError: there is no label column, a row has no label, lists are written as text, or nothing can be read.
    """
    label_column = find_column(
        dataset,
        source,
        "label",
        column=label_column,
        feature=datasets.ClassLabel,
        names=LABEL_COLUMNS,
        advice="name one with label_column",
        reason="probes need labels",
    )
    try:
        values = _checked_labels(dataset, label_column)
    except ValueError as error:
        raise ValueError(f"{source}, split {split!r}, {error}") from error
    chosen = np.arange(len(dataset))
    if limit is not None and limit < len(dataset):
        chosen = np.sort(np.random.default_rng(0).permutation(len(dataset))[:limit])
        dataset = dataset.select(chosen)
    several = is_list(column_types(dataset)[label_column])
    samples, labels = [], []
    for index, example, inputs in each_readable(dataset, reader, chosen, split, source):
        samples.append(inputs)
        labels.append(values[index] if several else example[label_column])
    return samples, labels if several else np.asarray(as_whole_numbers(labels))


def _checked_labels(dataset: datasets.Dataset, column: str) -> list[Any]:
    values = label_values(dataset.with_format(None), column)
    require_no_lists_in_text(values, column, "For several classes a row, write lists in JSONL or parquet")
    require_labels(values, column, dataset)
    require_no_fractions(values, column, "a probe")
    return values
