"""Shards of a stream of `datasets`: whether they can be read one by one, and how many samples they have."""

import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import datasets
import pyarrow.parquet as pq
from datasets.iterable_dataset import (
    BufferShuffledExamplesIterable,
    FormattedExamplesIterable,
    MappedExamplesIterable,
    RebatchedArrowExamplesIterable,
    SelectColumnsIterable,
)
from datasets.packaged_modules.webdataset.webdataset import base_plus_ext
from datasets.utils.file_utils import xopen

SAME_ROWS = "same_rows"  # attribute of functions of our own that are mapped over batches, and keep their number of rows
IN_PASSING = (FormattedExamplesIterable, RebatchedArrowExamplesIterable, SelectColumnsIterable)
THREADS = 16  # that read the footers of parquet files, which may be far away


def _steps(dataset: datasets.IterableDataset) -> Iterator[Any]:
    """What a stream is made of, from the last step back to its files."""
    waiting = [dataset._ex_iterable]
    while waiting:
        step = waiting.pop()
        yield step
        waiting += getattr(step, "ex_iterables", None) or filter(None, [getattr(step, "ex_iterable", None)])


def has_plain_shards(dataset: datasets.IterableDataset) -> bool:
    """Whether the shards, read one after the other, give what the stream gives; not so after `take` or `shuffle`."""
    return all(
        hasattr(step, "kwargs") or isinstance(step, (MappedExamplesIterable, *IN_PASSING)) for step in _steps(dataset)
    )


def saves_its_state(dataset: datasets.IterableDataset) -> bool:
    """Whether `state_dict` says all; that of a shuffle buffer of `datasets` does not say what is in it."""
    return not any(isinstance(step, BufferShuffledExamplesIterable) for step in _steps(dataset))


def shard_sizes(dataset: datasets.IterableDataset) -> list[int] | None:
    """Samples of each shard, where they are found without decoding any; None where they are not.

    They are found of parquet files, here and on the Hub, by their footers; of tar files here, by their headers; of
    datasets with an index; and of tables and texts that this package reads, by reading them.
    """
    step = dataset._ex_iterable
    while isinstance(step, IN_PASSING) or (
        type(step) is MappedExamplesIterable and (not step.batched or getattr(step.function, SAME_ROWS, False))
    ):
        step = step.ex_iterable
    given = getattr(step, "kwargs", {})
    if "row_groups_list" in given and not any(given["row_groups_list"]):
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(_rows_of_parquet, given["files"]))
    if "shards" in given and all(isinstance(one, datasets.Dataset) for one in given["shards"]):
        return [len(one) for one in given["shards"]]
    if "tar_paths" in given and all(map(os.path.isfile, given["tar_paths"])):
        return [_samples_of_tar(path) for path in given["tar_paths"]]
    if "stamps" in given:  # of tables.py
        number = len(given["files"])
        return [sum(1 for _ in step.shard_data_sources(number, index)) for index in range(number)]
    return None


def _rows_of_parquet(file: str) -> int:
    with xopen(file, "rb") as opened:
        return pq.read_metadata(opened).num_rows


def _samples_of_tar(file: str) -> int:
    """Samples of a shard of WebDataset: files in a row that have the same name but for what follows its first dot."""
    samples, before = 0, None
    with tarfile.open(file) as archive:
        for member in archive:
            name = os.path.basename(member.name)
            key = None if not member.isreg() or name.startswith((".", "__")) else base_plus_ext(member.name)[0]
            if key is not None and key != before:
                samples, before = samples + 1, key
            archive.members = []  # type: ignore[attr-defined]  # or all headers are kept
    return samples
