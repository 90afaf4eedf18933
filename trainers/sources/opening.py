"""A source as a `datasets` dataset with all its columns: a folder of files, tables, a saved dataset, or the Hub's."""

import os
import pkgutil
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import datasets
import datasets.packaged_modules
import pyarrow as pa
from transformers.utils import logging

from .located_files import ADDRESS_ADVICE, TABLE_FOLDER, composed, locate, refuse_other_times
from .manifests import is_fairseq_manifest, read_fairseq_manifests, read_transcripts, refuse_kaldi
from .source_files import (
    ARCHIVES,
    LABEL_COLUMNS,
    SHARDS,
    TABLES,
    Medium,
    are_about_data,
    counted,
    list_files,
    table_format,
    without_companions,
)
from .splits import (
    choose_split,
    data_folder,
    named_splits,
    names_split,
    rows_of_split,
    split_column,
    split_files,
    split_of,
    split_tables,
)
from .table_rows import suffix_of
from .tables import parquet_features, read_csv, read_json, read_paragraphs, read_parquet, read_tars, table_columns

logger = logging.get_logger(__name__)

UNDECODED = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
FILE_NAME = "file_name"  # the column of paths in the metadata tables of `datasets`
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# "csv" and the like, which `datasets` would take for the files of the folder that one happens to be in.
BUILDERS = {module.name for module in pkgutil.iter_modules(datasets.packaged_modules.__path__)}
STREAM_SHARDS = 16  # what a stream made of an indexed dataset is cut into, for as many worker processes


OPEN_DATASET = "the dataset"  # in messages; paths in it are relative to the working folder


def name_of(source: Any) -> str:
    """A source's name in messages."""
    return str(source) if isinstance(source, str | os.PathLike) else OPEN_DATASET


def local_path(source: str) -> Path | None:
    """The path of a source that is a file or folder here, with `~` for the user's home; None for any other."""
    path = Path(source) if os.path.exists(source) else Path(os.path.expanduser(source))
    return path if source and path.exists() else None


def open_source(source: Any, medium: Medium, *, split: str = "train", streaming: bool = False) -> Any:
    """The dataset alone, with all its columns as they are. Arguments and errors are those of `load_source`."""
    if not isinstance(source, str | os.PathLike):
        return _open_already(source, split, streaming)
    source = str(source)
    path = local_path(source)
    if path is None:
        dataset = _from_hub(source, medium, split, streaming)
    elif path.is_dir() and any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
        dataset = _saved_dataset(path, split)
    elif path.is_dir():
        dataset = _folder(path, medium, split, streaming)
    elif table_format(path):
        dataset = _tables([path], path, medium, split, streaming)
    elif suffix_of(path) in medium.suffixes:
        dataset = _files([path], path, medium, split, streaming)
    elif streaming and suffix_of(path) in SHARDS:
        dataset = read_tars([path])
    elif suffix_of(path) in ARCHIVES:
        raise ValueError(f"{source} is an archive, which is not read: unpack it, and name the folder{_unless(path)}")
    else:
        raise _no_source(source, medium)
    if isinstance(dataset, datasets.Dataset) and not len(dataset):
        raise empty(source, split)
    return streamed(dataset) if streaming else dataset


def _open_already(dataset: Any, split: str, streaming: bool) -> Any:
    if isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
        dataset = choose_split(dataset, split, OPEN_DATASET)
    if not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        raise ValueError(
            f"{dataset!r} is no source of data: give a path, a Hub id, or a Dataset or IterableDataset of `datasets`"
        )
    if isinstance(dataset, datasets.Dataset) and not len(dataset):
        raise empty(OPEN_DATASET, split)
    dataset = dataset.with_format(None)
    for name, kind in (dataset.features or {}).items():
        if isinstance(kind, datasets.Image | datasets.Audio):  # also those that are not trained on: they may not decode
            dataset = dataset.cast_column(name, type(kind)(decode=False))
    return streamed(dataset) if streaming else dataset


def streamed(dataset: Any) -> Any:
    """A dataset as a stream."""
    if isinstance(dataset, datasets.Dataset):
        return dataset.to_iterable_dataset(num_shards=max(1, min(STREAM_SHARDS, len(dataset))))
    return dataset


def _no_source(source: str, medium: Medium) -> ValueError:
    wanted = f"a folder of {medium.noun}s, a table ({', '.join(TABLES)}) or a saved dataset"
    if local_path(source):
        return ValueError(f"{source} is a file of a kind that is not read: give {wanted}")
    if "://" in source:
        return ValueError(f"there is no file or folder {source!r} here: {ADDRESS_ADVICE}, or a Hub id")
    return ValueError(f"there is no file or folder {source!r} here: give {wanted}, or a Hub id")


def _from_hub(source: str, medium: Medium, split: str, streaming: bool) -> Any:
    is_file = suffix_of(Path(source)) in {*TABLES, *ARCHIVES, *medium.suffixes}  # by its name
    if is_file or not HUB_ID.fullmatch(source) or source.startswith((".", "-")) or source in BUILDERS:
        raise _no_source(source, medium)
    try:
        return datasets.load_dataset(source, split=split, streaming=streaming)
    except (datasets.exceptions.DatasetNotFoundError, FileNotFoundError, ConnectionError) as error:
        raise ValueError(
            f"there is no file or folder {source!r} here, and the Hub gave no such dataset: {error}"
        ) from error


def _saved_dataset(path: Path, split: str) -> Any:
    if "::" in str(path.absolute()):
        raise ValueError(
            f"{path} is a saved dataset, and '::' in its path joins two addresses to `datasets`: rename it"
        )
    try:
        loaded = datasets.load_from_disk(str(path))
    except IndexError as error:  # what datasets makes of no rows at all
        raise empty(path, split) from error
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise ValueError(f"{path} is no whole saved dataset ({error}): save it again, or get it again") from error
    return choose_split(loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}, split, path)


# ---- folders ----


def _folder(path: Path, medium: Medium, split: str, streaming: bool) -> Any:
    """Open a folder: tables that list its files, else parquet, else files, else other tables."""
    found = list_files(path)
    files = [file for file in found if suffix_of(file) in medium.suffixes]
    tables = [file for file in found if table_format(file)]
    parquet = [file for file in tables if suffix_of(file) == ".parquet" and (not files or _holds(file, medium))]
    if files and (about := [table for table in tables if _lists_files(table, medium)]):
        return _listed(about, files, path, medium, split)
    if medium.transcribed and (transcripts := read_transcripts(found)):
        return _transcribed(files, transcripts, path, medium, split)
    if files and not parquet and not (tables and (medium.transcribed or are_about_data(files, medium))):
        files = without_companions(files, found, medium, path)
        return _files(files, path, medium, split, streaming)
    shards = [file for file in found if suffix_of(file) in SHARDS]
    if streaming and shards and not files and not any(_holds(file, medium) for file in parquet):
        return read_tars(choose_split(split_tables(shards, path), split, path))
    if not tables:
        refuse_kaldi(found, path)
        archives = [file for file in found if suffix_of(file) in ARCHIVES]
        raise ValueError(
            f"{path} holds no {medium.noun}s ({', '.join(sorted(medium.suffixes))}), no tables "
            f"({', '.join(TABLES)}) and no saved dataset"
            + (
                f", but {counted(len(archives), 'archive')} ({archives[0].name}): unpack them{_unless(archives[0])}"
                if archives
                else ""
            )
        )
    return _tables(parquet or tables, path, medium, split, streaming)


def _unless(archive: Path) -> str:
    return ", or, if it is a shard of WebDataset, read it as a stream (--streaming)" * (suffix_of(archive) in SHARDS)


def _tables(files: list[Path], source: Path, medium: Medium, split: str, streaming: bool) -> Any:
    splits = split_tables(files, source)
    if set(splits) != {"train"}:
        return _read(choose_split(splits, split, source), source, medium, streaming)
    dataset = _read(files, source, medium, streaming)
    if isinstance(dataset, datasets.Dataset):
        return dataset.select(rows_of_split(dataset, splits, split, source))
    if column := split_column(dataset.features or {}):
        logger.warning(
            f"{source} has a column {column!r}, which is not read in a stream: rows of all splits are taken. If "
            "there are several, write a table for each."
        )
    return choose_split({"train": dataset}, split, source)


def _read(chosen: list[Path], source: Path, medium: Medium, streaming: bool) -> Any:
    """Tables of one split."""
    formats = sorted({suffix_of(file) for file in chosen})
    if len(formats) > 1:
        raise ValueError(f"{source} holds tables of several formats, {', '.join(formats)}: name one file")
    if is_fairseq_manifest(chosen[0]):
        return read_fairseq_manifests(chosen)
    given = {"with_folder": not medium.is_text, "streaming": streaming}
    if TABLES[formats[0]] == "parquet":
        return read_parquet(chosen, **given)
    read: Callable[..., Any] = read_csv if TABLES[formats[0]] == "csv" else read_json
    return read(chosen, numbers=medium.numbers, **given)


def _files(files: list[Path], source: Path, medium: Medium, split: str, streaming: bool) -> Any:
    """Files of the medium itself; of images and recordings, the names of their folders are labels.

    What lies beside the folders of classes has none.
    """
    splits = split_files(files, source, hold_many=medium.is_text)
    chosen = choose_split(splits, split, source)
    if medium.is_text:
        return read_paragraphs(chosen, streaming=streaming)
    return datasets.Dataset.from_dict(
        {
            medium.columns[0]: [{"bytes": None, "path": str(file)} for file in chosen],
            "label": folder_labels(chosen),
        },
        features=datasets.Features({medium.columns[0]: UNDECODED, "label": folder_classes(splits.values())}),
    )


def folder_labels(files: list[Path]) -> list[str | None]:
    """The names of files' folders, None for files that lie above all others, beside the folders of classes."""
    folders = [file.absolute().parent for file in files]
    above = {folder for folder in set(folders) if all(one.is_relative_to(folder) for one in set(folders))}
    return [None if len(set(folders)) > 1 and folder in above else composed(folder.name) for folder in folders]


def folder_classes(splits: Iterable[list[Path]]) -> datasets.ClassLabel:
    """The classes of files by the names of their folders; those of all splits, so that splits agree about numbers."""
    return datasets.ClassLabel(names=sorted({label for files in splits for label in folder_labels(files) if label}))


def _transcribed(
    files: list[Path], transcripts: dict[Path, str], source: Path, medium: Medium, split: str
) -> datasets.Dataset:
    """Recordings with what is said in them, by the `*.trans.txt` among them."""
    dataset = _files(files, source, medium, split, streaming=False)
    texts = [transcripts.get(Path(audio["path"]).with_suffix("")) for audio in dataset[medium.columns[0]]]
    if unsaid := sum(text is None for text in texts):
        logger.warning(f"{unsaid} of {counted(len(texts), medium.noun)} of {source} have no transcript.")
    return dataset.add_column("text", texts)


def _holds(parquet: Path, medium: Medium) -> bool:
    """Whether a parquet table has a column of the medium, and not only e.g. figures about files."""
    kinds = parquet_features(parquet)
    typed = medium.feature and any(isinstance(kind, medium.feature) for kind in kinds.values())
    return bool(typed) or any(name in kinds for name in medium.columns)


# ---- tables about the files of a folder ----


def _lists_files(table: Path, medium: Medium) -> bool:
    """Whether a table says which files of its folder are data: by its name, and by a column of paths."""
    if medium.is_text:
        return False
    is_metadata = table.name.lower().startswith("metadata.")
    if not (is_metadata or names_split(table.name) or medium.transcribed):
        return False
    try:
        return is_fairseq_manifest(table) or _path_column(table_columns(table), medium) is not None
    except ValueError:
        if is_metadata:
            raise
        return False  # whatever it is, it is no table of paths


def _path_column(columns: Collection[str], medium: Medium) -> str | None:
    return next((name for name in (*medium.columns, FILE_NAME) if name in columns), None)


def _listed(tables: list[Path], files: list[Path], source: Path, medium: Medium, split: str) -> datasets.Dataset:
    """The rows of tables about files: of the split that the tables are named for, or that their files lie in, or else
    that a column names.
    """
    named, _ = named_splits(tables, data_folder(tables, source))
    divided = named_splits(files, data_folder(files, source))[0] if named else split_files(files, source)
    chosen = choose_split(split_tables(tables, source), split, source) if named else tables
    dataset = _read(chosen, source, medium, streaming=False)
    column = _path_column(dataset.column_names, medium)
    if TABLE_FOLDER not in dataset.column_names or column is None:  # of fairseq, or holds the data itself
        return dataset
    what = f"column {column!r} of {chosen[0] if len(chosen) == 1 else source}"
    if medium.numbers and len(dataset):
        refuse_other_times(dataset[0], medium.numbers, what)
    located = locate(dataset[TABLE_FOLDER][:], dataset[column][:], medium.suffixes, what=what)
    undivided = not named and set(divided) == {"train"}
    if not named and not undivided:
        wanted = {str(file.absolute()) for file in choose_split(divided, split, source)}
        kept = [index for index, file in enumerate(located) if file and os.path.abspath(file) in wanted]
        dataset, located = dataset.select(kept), [located[index] for index in kept]
    if not named or (len(divided) > 1 and (split in divided or split_of(split) in divided)):
        _say_unlisted(files if undivided else choose_split(divided, split, source), located, source, medium)
    if undivided:
        rows = rows_of_split(dataset, divided, split, source)
        dataset, located = dataset.select(rows), [located[row] for row in rows]
    dataset = with_files(dataset, column, located)
    if column == FILE_NAME and medium.columns[0] not in dataset.column_names:  # as in the folders of `datasets`
        dataset = dataset.rename_column(column, medium.columns[0])
    if medium.transcribed or any(name in dataset.column_names for name in LABEL_COLUMNS):
        return dataset
    labels = [composed(Path(file or ".").absolute().parent.name) for file in located]
    names = sorted({*folder_classes([files]).names, *labels})
    return dataset.add_column(
        "label", [names.index(label) for label in labels], feature=datasets.ClassLabel(names=names)
    )


def _say_unlisted(files: list[Path], located: list[str | None], source: Path, medium: Medium) -> None:
    listed = {os.path.abspath(file) for file in located if file}
    left = [file for file in files if str(file.absolute()) not in listed]
    if left:
        logger.warning(
            f"Leaving out {len(left):,} of {counted(len(files), medium.noun)} of {source} that no table lists; the "
            f"first is {left[0]}."
        )


def with_files(dataset: datasets.Dataset, column: str, files: list[str | None]) -> datasets.Dataset:
    """A dataset whose column holds undecoded files, not their paths."""
    paths = pa.array(files, pa.string())
    values = pa.StructArray.from_arrays(
        [pa.nulls(len(paths), pa.binary()), paths], list(UNDECODED), mask=paths.is_null()
    )
    return dataset.remove_columns(column).add_column(column, values, feature=datasets.Features(UNDECODED))


def empty(source: Any, split: str) -> ValueError:
    """The error of a source without samples."""
    return ValueError(f"{source} (split {split!r}) is empty: there is nothing to train on")
