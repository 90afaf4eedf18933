"""Tables as `datasets`: CSV, TSV, JSON and text, row by row as they stand in the files; parquet; tar files."""

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.builder import Key
from datasets.data_files import DataFilesList
from datasets.iterable_dataset import ExamplesIterable

from modeling_data2vec import __version__

from .located_files import TABLE_FOLDER
from .table_rows import Row, csv_columns, csv_rows, json_rows, number, open_text, suffix_of

BATCH = 1_000  # rows of JSON whose types are found together
CHUNK = 10 << 20  # characters of a text file that are read at a time


def read_rows(
    rows: Callable[..., Iterator[Row]], files: Sequence[Path], features: datasets.Features, streaming: bool
) -> Any:
    """A dataset of the rows that a function makes of files.

    Args:
        rows: makes them of `files`, a list of paths, and `features`; from the row `first` on, counted from 0.
        files: what is read. A path is never taken as a pattern or an address.
        features: of the rows.
        streaming: read them as they come; else they are kept in `datasets`' cache until a file changes.
    """
    if not features.keys() - {TABLE_FOLDER}:  # an empty file
        return datasets.Dataset.from_dict({})
    # The stamps are there for the cache alone, whose key is made of these arguments: files and rules may change.
    stamps = tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    given = {"files": [str(file) for file in files], "features": features, "stamps": (__version__, *stamps)}
    if streaming:
        return datasets.IterableDataset(
            TableRows(rows, given), datasets.DatasetInfo(features=features), datasets.Split.TRAIN
        )
    with _plain_errors(files):
        return datasets.Dataset.from_generator(rows, features=features, gen_kwargs=given)
    return datasets.Dataset.from_dict({name: [] for name in features}, features=features)


class TableRows(ExamplesIterable):
    """A stream of the rows of files, a shard each; those before a saved position are passed over without being made."""

    def __iter__(self) -> Iterator[tuple[Key, Row]]:
        state = self._state_dict or {"shard_idx": 0, "shard_example_idx": 0}
        files = self.kwargs["files"]
        while (shard := state["shard_idx"]) < len(files):
            given = self.kwargs | {"files": [files[shard]]}
            for row in self.generate_examples_fn(**given, first=state["shard_example_idx"]):
                state["shard_example_idx"] += 1
                yield Key(shard, state["shard_example_idx"]), row
            state |= {"shard_idx": shard + 1, "shard_example_idx": 0}

    def shuffle_data_sources(self, generator: Any) -> "TableRows":
        return self._of(super().shuffle_data_sources(generator))

    def shard_data_sources(self, num_shards: int, index: int, contiguous: bool = True) -> "TableRows":
        return self._of(super().shard_data_sources(num_shards, index, contiguous))

    def reshard_data_sources(self) -> "TableRows":
        return self

    @staticmethod
    def _of(examples: ExamplesIterable) -> "TableRows":
        return TableRows(examples.generate_examples_fn, examples.kwargs)


@contextmanager
def _plain_errors(files: Sequence[Path]) -> Iterator[None]:
    """Show the error in a file that `datasets` hides behind its own; a file without rows is no error here."""
    try:
        yield
    except datasets.exceptions.DatasetGenerationError as error:
        cause = error.__cause__
        if type(cause) is ValueError:
            raise cause from error
        where = f"{files[0]} (or another of {len(files)} tables)" if len(files) > 1 else str(files[0])
        raise ValueError(f"{where} can't be read: {cause}") from error
    except pa.ArrowInvalid as error:
        raise ValueError(f"{files[0]} can't be read: {error}") from error
    except ValueError as error:
        if "corresponds to no data" not in str(error):
            raise


def read_csv(
    files: Sequence[Path], *, numbers: Sequence[str] = (), with_folder: bool = False, streaming: bool = False
) -> Any:
    """CSV or TSV files with the same columns. All hold strings, and None for an empty cell.

    Args:
        files: the tables.
        numbers: columns that hold numbers instead.
        with_folder: add a column, `TABLE_FOLDER`, with the folder of each row's table.
        streaming: as for `read_rows`.

    Raises:
        ValueError: a file is no such table, or has other columns than the first.
    """
    columns = _require_same_columns(files, csv_columns)
    for file in files if streaming else ():
        for line, row in csv_rows(file):  # a broken row ends the run before it begins, not after days
            for name in set(numbers) & row.keys():
                number(file, line, name, row[name])
    kinds = {name: datasets.Value("float64" if name in numbers else "string") for name in columns}
    return read_rows(_csv_rows, files, datasets.Features(kinds | _folder_kind(with_folder)), streaming)


def _folder_kind(with_folder: bool) -> dict[str, datasets.Value]:
    return {TABLE_FOLDER: datasets.Value("string")} if with_folder else {}


def _folder_of(file: str, features: datasets.Features) -> Row:
    return {TABLE_FOLDER: str(Path(file).parent)} if TABLE_FOLDER in features else {}


def _csv_rows(files: list[str], features: datasets.Features, stamps: Any, first: int = 0) -> Iterator[Row]:
    numbers = [name for name, kind in features.items() if kind.dtype == "float64"]
    for file in files:
        for line, row in csv_rows(Path(file), first):
            read = {name: number(Path(file), line, name, row[name]) for name in numbers}
            yield row | read | _folder_of(file, features)


def table_columns(file: Path) -> list[str]:
    """Names of the columns of a table; of JSON, those of its first row."""
    if suffix_of(file) == ".parquet":
        return list(parquet_features(file))
    if suffix_of(file) in (".csv", ".tsv"):
        return csv_columns(file)
    return list(next(json_rows(file), (1, {}))[1])


# ---- JSON ----


def read_json(
    files: Sequence[Path], *, numbers: Sequence[str] = (), with_folder: bool = False, streaming: bool = False
) -> Any:
    """Files with JSON objects. Columns have the types of the values; if these differ, they are strings.

    The files are read twice, first for the types, which also finds a broken line before a run begins.

    Args:
        files, numbers, with_folder, streaming: as for `read_csv`; a string in a column of numbers is read as one.

    Raises:
        ValueError: a file is no such table.
    """
    types: dict[str, pa.DataType | None] = {}  # None for several types
    for file in files:
        batch: list[Row] = []
        for line, row in json_rows(file):
            batch.append(row | {name: number(file, line, name, row[name]) for name in numbers if name in row})
            if len(batch) == BATCH:
                _merge_types(types, batch)
                batch = []
        _merge_types(types, batch)
    for name in numbers:
        if name in types:
            types[name] = pa.float64()
    schema = pa.schema([(name, pa.string() if kind is None else kind) for name, kind in types.items()])
    features = datasets.Features(datasets.Features.from_arrow_schema(schema) | _folder_kind(with_folder))
    return read_rows(_json_rows, files, features, streaming)


def _merge_types(types: dict[str, pa.DataType | None], rows: list[Row]) -> None:
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            kind = pa.array([row.get(name) for row in rows]).type
            if name in types:
                both = [pa.schema([(name, one)]) for one in (types[name], kind)]
                kind = pa.unify_schemas(both, promote_options="permissive").field(name).type
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError):
            kind = None
        types[name] = kind


def _json_rows(files: list[str], features: datasets.Features, stamps: Any, first: int = 0) -> Iterator[Row]:
    schema = features.arrow_schema
    for file in files:
        for _, row in json_rows(Path(file), first):
            yield {name: _as(schema.field(name).type, row.get(name)) for name in features} | _folder_of(file, features)


def _as(kind: pa.DataType, value: Any) -> Any:
    """A JSON value as its column holds it: with all keys of an object, and as a string where values differ in type."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: _as(field.type, value.get(field.name)) for field in kind}
    if pa.types.is_list(kind):
        return [_as(kind.value_type, item) for item in value]
    if pa.types.is_string(kind) and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return float(value) if pa.types.is_floating(kind) else value


# ---- text ----


def read_paragraphs(files: Sequence[Path], *, streaming: bool = False) -> Any:
    """Text files in UTF-8, where an empty line ends a document: a column "text".

    Raises:
        ValueError: a file is no text, or in another encoding.
    """
    return read_rows(_paragraphs, files, datasets.Features({"text": datasets.Value("string")}), streaming)


def _paragraphs(files: list[str], features: datasets.Features, stamps: Any, first: int = 0) -> Iterator[Row]:
    documents = chain.from_iterable(map(_documents, files))
    return ({"text": document} for document in islice(documents, first, None))


def _documents(file: str) -> Iterator[str]:
    with open_text(Path(file)) as opened:
        rest = ""
        while chunk := opened.read(CHUNK):
            if "\0" in chunk:
                raise ValueError(f"{file} holds NUL bytes: it is no text, or text in UTF-16; save it as UTF-8")
            *documents, rest = (rest + chunk).split("\n\n")
            yield from filter(None, documents)
        if rest:
            yield rest


# ---- parquet ----


def read_parquet(files: Sequence[Path], *, with_folder: bool = False, streaming: bool = False) -> Any:
    """Parquet files with the same columns, which keep their types.

    Args:
        files, streaming: as for `read_rows`.
        with_folder: as for `read_csv`, of tables of strings and numbers; others hold the data itself, not its paths.

    Raises:
        ValueError: a file is damaged, or has other columns than the first.
    """
    footers = {file: _parquet_footer(file) for file in files}
    schemas = {file: footer.schema.to_arrow_schema() for file, footer in footers.items()}
    _require_same_columns(files, lambda file: datasets.Features.from_arrow_schema(schemas[file]))
    if with_folder and all(_is_plain(kind) for kind in schemas[files[0]].types):
        parts = [_in_memory([file]) for file in files]
        folders = [[str(file.parent)] * len(part) for file, part in zip(files, parts, strict=True)]
        return datasets.concatenate_datasets(
            [part.add_column(TABLE_FOLDER, folder) for part, folder in zip(parts, folders, strict=True)]
        )
    if any("::" in str(file) for file in files):  # which joins two addresses, where `datasets` opens files
        return _in_memory(files)
    filled = [file for file in files if footers[file].num_rows]  # `datasets` fails at an empty shard
    with _plain_errors(files):
        if filled:
            return datasets.load_dataset("parquet", data_files=_listed(filled), split="train", streaming=streaming)
    return datasets.Dataset(schemas[files[0]].empty_table())


def _listed(files: Sequence[Path]) -> dict[str, DataFilesList]:
    """A list of this type is taken as it is; in any other, a path with * ? [ ] is a pattern."""
    return {"train": DataFilesList([str(file) for file in files], [(str(file.stat().st_mtime_ns),) for file in files])}


def _in_memory(files: Sequence[Path]) -> datasets.Dataset:
    with _plain_errors(files):
        return datasets.Dataset(pa.concat_tables([pq.ParquetFile(file).read() for file in files]))


def _is_plain(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def parquet_features(file: Path) -> datasets.Features:
    """Columns of a parquet file and their types, as `datasets` has them.

    Raises:
        ValueError: the file is damaged.
    """
    return datasets.Features.from_arrow_schema(_parquet_footer(file).schema.to_arrow_schema())


def _parquet_footer(file: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file} is no whole parquet file ({error}): get it again") from error


def _require_same_columns(files: Sequence[Path], columns: Callable[[Path], Iterable[str]]) -> list[str]:
    """The columns of the first file.

    Raises:
        ValueError: another file has other columns.
    """
    first = list(columns(files[0]))
    for file in files[1:]:
        if set(columns(file)) != set(first):
            raise ValueError(
                f"{files[0]} has the columns {', '.join(first)}, but {file} has {', '.join(columns(file))}: name one "
                "of the files, or give them the same columns"
            )
    return first


# ---- WebDataset ----


def read_tars(files: Sequence[Path]) -> datasets.IterableDataset:
    """Shards of WebDataset, tar files, as a stream: a column for each ending of a sample's files.

    Raises:
        ValueError: a file is no such archive.
    """
    if colons := [file for file in files if "::" in str(file)]:
        raise ValueError(f"'::' in the path of {colons[0]} joins two addresses to `datasets`: rename it")
    try:
        return datasets.load_dataset("webdataset", data_files=_listed(files), split="train", streaming=True)
    except (tarfile.TarError, OSError, EOFError, IndexError, ValueError) as error:
        raise ValueError(f"{files[0]} is no shard of WebDataset ({error}): unpack it, and name the folder") from error
