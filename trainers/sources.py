"""Where data comes from: folders of files, tables, saved datasets and the Hub, all opened as a `datasets` dataset."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from .table_rows import COMPRESSED
from .tables import read_csv, read_json, read_paragraphs, read_parquet

# Formats of tables.
TABLES = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}
SPLIT_NAME = re.compile(r"(train|validation|valid|val|dev|test|eval)([-_.]|$)")
UNDECODED = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
STRINGS = (datasets.Value("string"), datasets.Value("large_string"), str)
STREAM_SHARDS = 16  # what a stream made of an indexed dataset is cut into, for as many worker processes


@dataclass(frozen=True)
class Medium:
    """How one kind of data looks in a folder and in a table.

    Args:
        noun: what one of it is called in messages, e.g. "image".
        suffixes: of its files, in small letters.
        builder: "imagefolder", or None to list the files, with the names of their folders as labels.
        columns: names of a column that holds it; with a first name of "image", `image_column` chooses one.
        feature: the type of such a column, where `datasets` has one; its columns are read undecoded.
        builder_options: options of the builder.
        numbers: columns that hold numbers, in CSV and TSV, too; all others of these hold strings.
    """

    noun: str
    suffixes: frozenset[str]
    builder: str | None
    columns: tuple[str, ...]
    feature: type | None = None
    builder_options: dict[str, Any] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()


# ---- opening ----


def load_source(
    source: str, medium: Medium, *, split: str = "train", column: str | None = None, streaming: bool = False
) -> tuple[Any, str]:
    """Open data of any form.

    Args:
        source: a folder of files, a table (parquet, JSONL, CSV, TSV, a manifest of fairseq) or a folder of them, a
            folder that `Dataset.save_to_disk` wrote, or a Hub id.
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
    return prepare_column(dataset, source, medium, split=split, column=column)


def open_source(source: str, medium: Medium, *, split: str = "train", streaming: bool = False) -> Any:
    """The dataset alone, with all its columns as they are. Arguments and errors are those of `load_source`."""
    path = Path(source)
    if path.is_dir() and any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
        dataset = _saved_dataset(source, split)
    elif path.is_dir():
        dataset = _folder(path, medium, split, streaming)
    elif path.is_file() and table_format(path):
        dataset = _tables([path], path, medium, split, streaming)
    elif path.is_file() and _suffix(path) in medium.suffixes:
        dataset = _files([path], path, medium, split, streaming)
    elif path.exists() or path.is_absolute() or source.startswith("."):
        raise ValueError(
            f"{source} is not a folder of {medium.noun}s, a table ({', '.join(TABLES)}) or a saved dataset, or "
            "does not exist"
        )
    else:
        dataset = datasets.load_dataset(source, split=split, streaming=streaming)
    if isinstance(dataset, datasets.IterableDataset) and next(iter(dataset), None) is None:
        raise _empty(source, split)
    if streaming and isinstance(dataset, datasets.Dataset):
        dataset = dataset.to_iterable_dataset(num_shards=max(1, min(STREAM_SHARDS, len(dataset))))
    return dataset


def _saved_dataset(source: str, split: str) -> Any:
    try:
        loaded = datasets.load_from_disk(source)
    except IndexError as error:  # what datasets makes of no rows at all
        raise _empty(source, split) from error
    return _choose_split(loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}, split, source)


def _folder(path: Path, medium: Medium, split: str, streaming: bool) -> Any:
    """Parquet goes before files, files before other tables, which may be about them."""
    found = list_files(path)
    parquet = [file for file in found if table_format(file) == "parquet"]
    files = [file for file in found if _suffix(file) in medium.suffixes]
    tables = [file for file in found if table_format(file)]
    if files and not parquet:
        return _files(files, path, medium, split, streaming)
    if not tables:
        raise ValueError(
            f"{path} holds no {medium.noun}s ({', '.join(sorted(medium.suffixes))}), no tables "
            f"({', '.join(TABLES)}) and no saved dataset"
        )
    return _tables(parquet or tables, path, medium, split, streaming)


def _tables(files: list[Path], source: Path, medium: Medium, split: str, streaming: bool) -> Any:
    formats = sorted({_suffix(file) for file in files})
    if len(formats) > 1:
        raise ValueError(f"{source} holds tables of several formats, {', '.join(formats)}: name one file")
    chosen = _choose_split(split_files(files, source), split, source)
    if formats == [".tsv"] and _is_fairseq_manifest(chosen[0]):
        return _fairseq_manifests(chosen)
    kind = TABLES[formats[0]]
    if kind == "parquet":
        dataset = read_parquet(chosen, streaming=streaming)
    else:
        read = read_csv if kind == "csv" else read_json
        dataset = read(chosen, numbers=medium.numbers, streaming=streaming)
    if isinstance(dataset, datasets.Dataset) and not len(dataset):
        raise _empty(source, split)
    return dataset


def _is_fairseq_manifest(path: Path) -> bool:
    """The first line is a folder, so it has no tab; others are "path<TAB>samples"."""
    if path.suffix.lower() in COMPRESSED:
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        first, second = file.readline().strip(), file.readline().rstrip("\n").split("\t")
    return bool(first) and "\t" not in first and len(second) == 2 and second[1].isdigit()


def _fairseq_manifests(files: list[Path]) -> datasets.Dataset:
    paths, lengths = [], []
    for file in files:
        root, *lines = file.read_text(encoding="utf-8").splitlines()
        folder = file.parent / root.strip()
        for number, line in enumerate(lines, 2):
            path, tab, length = line.rpartition("\t")
            if not tab or not length.isdigit():
                raise ValueError(
                    f"{file}, line {number}, is {line!r}, but must be a path, a tab and a number of samples"
                )
            paths.append(str(folder / path))
            lengths.append(int(length))
    return datasets.Dataset.from_dict({"path": paths, "num_samples": lengths})


def _files(files: list[Path], source: Path, medium: Medium, split: str, streaming: bool) -> Any:
    """Files of the medium itself."""
    options = {"streaming": streaming, **medium.builder_options}
    if medium.builder and medium.feature:  # a builder that knows splits and labels by itself
        where = {"data_dir": str(source)} if source.is_dir() else {"data_files": str(source)}
        return _choose_split(datasets.load_dataset(medium.builder, **where, **options), split, source)
    chosen = _choose_split(split_files(files, source), split, source)
    if medium.feature is None:
        return read_paragraphs(chosen, streaming=streaming)
    # Classes of all splits, so that splits agree about their numbers.
    classes = datasets.ClassLabel(names=sorted({file.parent.name for file in files}))
    return datasets.Dataset.from_dict(
        {
            medium.columns[0]: [{"bytes": None, "path": str(file)} for file in chosen],
            "label": [file.parent.name for file in chosen],
        },
        features=datasets.Features({medium.columns[0]: UNDECODED, "label": classes}),
    )


def list_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, without hidden ones."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found)


def split_files(files: list[Path], source: Path) -> dict[str, list[Path]]:
    """Sort files into splits by the names below `source`.

    They are splits only if all of them are named so: `train-clean-100` and `dev-clean`, or `train.txt` and `test.txt`,
    but not the classes `train`, `dog` and `rain`. Files without splits are all "train".

    Example:
        >>> files = [Path("data/train-0.csv"), Path("data/train-1.csv"), Path("data/dev.csv")]
        >>> {split: len(files) for split, files in split_files(files, Path("data")).items()}
        {'train': 2, 'dev': 1}
    """
    if files == [source]:
        return {"train": files}
    tops = [file.relative_to(source).parts[0] for file in files]
    matches = [SPLIT_NAME.match(top) for top in tops]
    if all(matches):
        splits: dict[str, list[Path]] = {}
        for match, file in zip(matches, files, strict=True):
            splits.setdefault(match[1], []).append(file)  # type: ignore[index]
        return splits
    if len(set(tops)) == 1 and source / tops[0] not in files:  # a single folder, e.g. `data`
        return split_files(files, source / tops[0])
    return {"train": files}


def _choose_split(splits: Any, split: str, source: Any) -> Any:
    if split not in splits:
        raise ValueError(f"{source} has no split {split!r}, only {sorted(splits)}")
    return splits[split]


def _suffix(path: Path) -> str:
    """The suffix in small letters, without that of a compression."""
    return (Path(path.stem) if path.suffix.lower() in COMPRESSED else path).suffix.lower()


def table_format(path: Path) -> str | None:
    """The builder of `datasets` that reads a file as a table, or None."""
    return TABLES.get(_suffix(path))


def _empty(source: Any, split: str) -> ValueError:
    return ValueError(f"{source} (split {split!r}) is empty: there is nothing to train on")


# ---- columns ----


def prepare_column(
    dataset: Any, source: str, medium: Medium, *, split: str = "train", column: str | None = None
) -> tuple[Any, str]:
    """Find the medium's column in a dataset and leave what it holds undecoded; see `load_source`."""
    names = medium.columns
    advice = f"name one with {names[0]}_column (--column of the commands)"
    column = find_column(dataset, source, names[0], column=column, feature=medium.feature, names=names, advice=advice)
    kind = column_types(dataset)[column]
    if medium.feature and isinstance(kind, medium.feature):
        dataset = dataset.cast_column(column, medium.feature(decode=False))
    elif medium.feature and kind in STRINGS:
        if not Path(source).exists():
            raise ValueError(f"column {column!r} of {source} holds paths, but the files don't come with it")
        folder = Path(source) if Path(source).is_dir() else Path(source).parent

        def as_files(paths: list[str | None]) -> dict[str, list[Any]]:
            return {column: [path and {"bytes": None, "path": str(folder / path)} for path in paths]}

        dataset = dataset.map(as_files, batched=True, input_columns=[column])
    if isinstance(dataset, datasets.Dataset) and not len(dataset):
        raise _empty(source, split)
    return dataset, column


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
            raise ValueError(f"{source} has no column {column!r}, only {sorted(types)}")
        return column
    candidates = [name for name, kind in types.items() if feature and isinstance(kind, feature)]
    candidates = candidates or [name for name in names if name in types]
    if len(candidates) != 1:
        end = advice if candidates else reason or advice
        raise ValueError(f"{source} has {len(candidates)} {noun} columns among {sorted(types)}: {end}")
    return candidates[0]


def column_types(dataset: Any) -> dict[str, Any]:
    """Columns and their features; of a stream that does not know them, the Python types of its first row."""
    if dataset.features is not None:
        return dict(dataset.features)
    return {name: type(value) for name, value in next(iter(dataset), {}).items()}
