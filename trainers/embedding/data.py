"""Data of any form, read one sample after the other for a frozen encoder; what can't be read is named."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import datasets
from torch import Tensor

from ..data.samples import SampleReader, UnreadableError, readable_inputs
from ..modalities.base import Modality
from ..sources.loading import column_types

OPENED: TypeAlias = datasets.Dataset | datasets.IterableDataset | datasets.DatasetDict | datasets.IterableDatasetDict
Data: TypeAlias = str | os.PathLike[str] | OPENED | Sequence[Any]


class Sample(NamedTuple):
    """One sample of the data.

    Attributes:
        row: its place in the data, from 0.
        id: its file's name, its entry in the column of ids, or its place as text.
        inputs: what the model takes, unbatched, or why the sample can't be used.
    """

    row: int
    id: str
    inputs: Tensor | str


class SampleStream:
    """The samples of a data set in its order, from any place on.

    Args:
        dataset: examples by index, or a stream of them.
        reader: what makes model inputs of an example.
        column: that holds the data.
        folder: what file names are relative to, where they lie below it.
        id_column: holds the samples' ids; default: names of files, where there are some.
    """

    def __init__(
        self, dataset: Any, reader: SampleReader, column: str, folder: str | None = None, id_column: str | None = None
    ) -> None:
        self.dataset, self.reader, self.column = dataset, reader, column
        self.folder, self.id_column = folder, id_column

    def known_length(self) -> int | None:
        """The number of samples; None for a stream."""
        return len(self.dataset) if hasattr(self.dataset, "__len__") else None

    def read(self, first: int = 0) -> Iterator[Sample]:
        """The samples from row `first` on."""
        length = self.known_length()
        if length is not None:
            yield from self.at(range(first, length))
            return
        examples = self.dataset.skip(first) if first else self.dataset
        for row, example in enumerate(examples, first):
            yield self._sample(row, example)

    def at(self, rows: Iterable[int]) -> Iterator[Sample]:
        """The samples of some rows of examples by index."""
        for row in rows:
            yield self._sample(row, self.dataset[row])

    def _sample(self, row: int, example: dict[str, Any]) -> Sample:
        try:
            (inputs,) = readable_inputs(self.reader, example, None).values()
        except UnreadableError as error:
            return Sample(row, self._id(example, row), str(error))
        return Sample(row, self._id(example, row), inputs)

    def _id(self, example: dict[str, Any], row: int) -> str:
        if self.id_column is not None:
            return str(example[self.id_column])
        name = self.reader.name(example)
        if name and self.folder and name.startswith(self.folder):
            return name[len(self.folder) :]
        return name or str(row)


def _is_table(data: Any) -> bool:
    """A dict, an `.npz`, or a DataFrame of any library, which would be read as the list of its columns' names."""
    return isinstance(data, Mapping) or hasattr(data, "columns")


def open_data(
    kind: Modality,
    data: Data,
    *,
    split: str = "train",
    column: str | None = None,
    id_column: str | None = None,
    streaming: bool = False,
    cut: bool = False,
) -> SampleStream:
    """Open what `embed` takes.

    Args:
        kind: of the encoder.
        data: a source of `load_source` (folder, table, saved dataset, Hub id), a data set of `datasets`, or a list of
            paths, images, waveforms or texts.
        split, column: of a source or a `DatasetDict`; the column is found by itself where there is only one.
        id_column: holds the samples' ids; default: names of files, where there are some.
        streaming: read a source as it comes.
        cut: very long samples, as for probes, since they are held in memory; they are whole otherwise.

    Raises:
        ValueError: the source is missing, empty, or has no such split or column.
    """
    if isinstance(data, str | os.PathLike | OPENED):
        source: Any = os.fspath(data) if isinstance(data, os.PathLike) else data
        dataset, column = kind.load(source, split=split, column=column, streaming=streaming)
        path = Path(source) if isinstance(source, str) else None
        folder = os.path.join(path if path.is_dir() else path.parent, "") if path and path.exists() else None
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not _is_table(data):
        if not len(data):
            raise ValueError("the data are an empty list: there is nothing to take features of")
        column, folder = kind.medium.columns[0], None
        dataset = [{column: kind.cell(value)} for value in data]
        if id_column is not None:
            raise ValueError(f"id_column is {id_column!r}, but a list has no columns: give a data set of `datasets`")
    else:
        raise ValueError(
            f"the data are a {type(data).__name__}, but must be a folder, table or Hub id, a data set of `datasets`, "
            f"or a list of {kind.medium.noun}s"
        )
    if not isinstance(dataset, list):
        types = column_types(dataset)
        if id_column is not None and id_column not in types:
            raise ValueError(f"id_column is {id_column!r}, but the data have the columns {', '.join(sorted(types))}")
        needed = {column, id_column, *kind.medium.numbers}
        dataset = dataset.select_columns([name for name in types if name in needed])  # others are not decoded
    reader = kind.probe_reader(column) if cut else kind.whole_reader(column)
    return SampleStream(dataset, reader, column, folder, id_column)


def readable(window: Sequence[Sample]) -> tuple[list[Sample], dict[str, str]]:
    """Those of some samples that could be read, and why each other one could not, by its id."""
    read = [sample for sample in window if isinstance(sample.inputs, Tensor)]
    return read, {sample.id: sample.inputs for sample in window if isinstance(sample.inputs, str)}


def windows(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    """Lists of `size` samples, the last of what is left."""
    while window := list(islice(samples, size)):
        yield window
