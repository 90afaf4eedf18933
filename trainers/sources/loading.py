"""Load a source (folder of files, table, saved dataset, the Hub) as a dataset, and find its data column."""

import os
from pathlib import Path
from typing import Any

import datasets

from .located_files import TABLE_FOLDER, FileFinder, locate, refuse_other_times
from .opening import FILE_NAME, OPEN_DATASET, UNDECODED, empty, local_path, name_of, open_source, with_files
from .shards import SAME_ROWS
from .source_files import Medium, list_files, table_format
from .table_rows import suffix_of

__all__ = [
    "Medium",
    "column_types",
    "find_column",
    "list_files",
    "load_source",
    "open_source",
    "prepare_column",
    "shown_type",
    "table_format",
]

STRINGS = (datasets.Value("string"), datasets.Value("large_string"), str)
LOOKED_AT = 100  # rows of a stream whose files are looked for before it starts


def load_source(
    source: Any, medium: Medium, *, split: str = "train", column: str | None = None, streaming: bool = False
) -> tuple[Any, str]:
    """Open data of any form.

    Args:
        source: a folder of files, a table (parquet, JSONL, CSV, TSV, a manifest of fairseq) or a folder of them, a
            folder that `Dataset.save_to_disk` wrote, or a Hub id; or a dataset that is open already.
        medium: what to look for.
        split: the split to take where the source has several; one without splits is all "train".
        column: the column to take; found by itself where there is only one.
        streaming: read the source as it comes, without an index.

    Returns:
        (dataset, column). Files are not decoded yet, so that a broken one can be named and passed over: they are
        {"bytes", "path"}, with paths in a table taken as relative to it.

    Raises:
        ValueError: the source is missing, has no such split or column, or is empty.
    """
    dataset = open_source(source, medium, split=split, streaming=streaming)
    source = name_of(source)
    dataset, column = prepare_column(dataset, source, medium, split=split, column=column)
    if not isinstance(dataset, datasets.Dataset):
        try:
            first = next(iter(dataset), None)
        except OSError as error:
            raise ValueError(f"{source} can't be read: {error}") from error
        if first is None:
            raise empty(source, split)
    return dataset, column


# ---- columns ----


def prepare_column(
    dataset: Any, source: str, medium: Medium, *, split: str = "train", column: str | None = None
) -> tuple[Any, str]:
    """Find the medium's column in a dataset, and leave its values undecoded; see `load_source`."""
    advice = f"name one with {medium.columns[0]}_column (--column of the commands)"
    if suffix_of(Path(source)) in (".csv", ".tsv"):
        advice += "; the first line of a CSV or TSV file names its columns"
    types = column_types(dataset)
    names = medium.columns if any(name in types for name in medium.columns) else (FILE_NAME,)
    column = find_column(
        dataset, source, medium.columns[0], column=column, feature=medium.feature, names=names, advice=advice
    )
    if medium.feature and shown_type(types[column]).startswith(("int", "uint", "float", "bool")):
        raise ValueError(f"column {column!r} of {source} holds a number in each row, not {medium.noun}s: {advice}")
    if medium.feature and isinstance(types[column], medium.feature):
        dataset = dataset.cast_column(column, medium.feature(decode=False))
    elif not medium.is_text and types[column] in STRINGS:
        dataset = _located(dataset, source, medium, column)
    if isinstance(dataset, datasets.Dataset) and not len(dataset):
        raise empty(source, split)
    return dataset, column


def _located(dataset: Any, source: str, medium: Medium, column: str) -> Any:
    """A dataset with files in place of their paths; a path is relative to its own table."""
    path = Path() if source == OPEN_DATASET else local_path(source)
    if path is None:
        raise ValueError(f"column {column!r} of {source} holds paths, but the files don't come with it")
    folder = str(path if path.is_dir() else path.parent)
    what = f"column {column!r} of {source}"

    if isinstance(dataset, datasets.Dataset):
        if medium.numbers and len(dataset):
            refuse_other_times(dataset[0], medium.numbers, what)
        paths = dataset[column][:]
        tables = dataset[TABLE_FOLDER][:] if TABLE_FOLDER in dataset.column_names else [folder] * len(paths)
        return with_files(dataset, column, locate(tables, paths, medium.suffixes, what=what))
    head = list(dataset.take(LOOKED_AT))
    if medium.numbers and head:
        refuse_other_times(head[0], medium.numbers, what)
    tables = [row.get(TABLE_FOLDER, folder) for row in head]
    locate(tables, [row[column] for row in head], medium.suffixes, what=f"the first rows of {what}")
    find = FileFinder(medium.suffixes)

    def as_files(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        places = zip(batch.get(TABLE_FOLDER) or [folder] * len(batch[column]), batch[column], strict=True)
        files = [path and (find(table, path) or os.path.join(table, path)) for table, path in places]
        return {column: [file and {"bytes": None, "path": file} for file in files]}

    setattr(as_files, SAME_ROWS, True)
    features = dataset.features and datasets.Features(dataset.features | {column: UNDECODED})
    return dataset.map(as_files, batched=True, features=features)


def find_column(
    dataset: Any,
    source: str,
    noun: str,
    *,
    column: str | None = None,
    feature: type | None = None,
    names: tuple[str, ...] = (),
    advice: str,
    reason: str | None = None,
) -> str:
    """The one column of a type, or else of one of the usual names.

    Args:
        dataset: from `open_source`.
        source: for messages: where the dataset comes from.
        noun: what the column holds.
        column: a column that is asked for.
        feature: the type of `datasets` that such a column has.
        names: names it may have, for columns without that type.
        advice: how to name one where there are several.
        reason: what to say instead where there is none.

    Raises:
        ValueError: there is no such column, or not exactly one.
    """
    types = column_types(dataset)
    if column is not None:
        if column not in types:
            raise ValueError(f"{source} has no column {column!r}, only {_shown(types)}")
        return column
    candidates = [name for name, kind in types.items() if feature and isinstance(kind, feature)]
    candidates = candidates or [name for name in names if name in types]
    if len(candidates) != 1:
        end = advice if candidates else reason or advice
        raise ValueError(f"{source} has {len(candidates)} {noun} columns among {_shown(types)}: {end}")
    return candidates[0]


def _shown(types: dict[str, Any]) -> list[str]:
    return sorted(name for name in types if name != TABLE_FOLDER)


def shown_type(kind: Any) -> str:
    """A column's type in words, for messages.

    Example:
        >>> shown_type(datasets.Value("string")), shown_type(datasets.List(datasets.Value("int64"))), shown_type({})
        ('text', 'lists', 'objects')
    """
    if kind in STRINGS:
        return "text"
    if isinstance(kind, dict):
        return "objects"
    return str(getattr(kind, "dtype", None) or "lists")


def column_types(dataset: Any) -> dict[str, Any]:
    """Columns and their features; of a stream that does not know them, the Python types of its first row."""
    if dataset.features is not None:
        return dict(dataset.features)
    return {name: type(value) for name, value in next(iter(dataset), {}).items()}
