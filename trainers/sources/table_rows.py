"""The rows of one table as they stand in its file: CSV, TSV, JSON and JSON lines, also compressed."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from ..wording import counted

COMPRESSED: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda path: pa.input_stream(str(path), compression="zstd"),
}
SEPARATOR_LINE = re.compile("sep=(.)", re.IGNORECASE)  # that people write for Excel, above the names of columns
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
Row = dict[str, Any]


# ---- files ----


def suffix_of(path: Path) -> str:
    """The suffix in small letters, without that of a compression."""
    return (Path(path.stem) if path.suffix.lower() in COMPRESSED else path).suffix.lower()


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """Open a text file in UTF-8, with or without a byte order mark, and decompress it if its suffix says so.

    Raises:
        ValueError: inside the context, where the file turns out to be in another encoding or cut short.
    """
    try:
        with _open_binary(path) as binary:
            _refuse_utf16(path, binary)
        with _open_binary(path) as binary, io.TextIOWrapper(binary, "utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError as error:
        line = _line_that_fails(path)
        raise ValueError(f"{path} is not text in UTF-8 (line {line}, {error.reason}): convert it") from error
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} can't be decompressed ({error}): it is damaged or cut short; get it again") from error


def _open_binary(path: Path) -> BinaryIO:
    return COMPRESSED.get(path.suffix.lower(), lambda path: path.open("rb"))(path)


def _refuse_utf16(path: Path, binary: BinaryIO) -> None:
    if binary.read(2) in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path} is text in UTF-16: save it as UTF-8")


def _line_that_fails(path: Path) -> int:
    with _open_binary(path) as binary, io.BufferedReader(binary) as lines:  # type: ignore[type-var]
        for number, line in enumerate(lines, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


# ---- CSV and TSV ----


def csv_columns(path: Path) -> list[str]:
    """Names of the columns of a CSV or TSV file; none for an empty file."""
    return next(_records(path), (1, []))[1]


def csv_rows(path: Path, first: int = 0) -> Iterator[tuple[int, Row]]:
    """(line, row) of a CSV or TSV file, from the row `first` on: cells as they are written, None for empty ones.

    CSV has commas, or semicolons where the first line has no comma, or what a line `sep=;` above says, and quotes as
    RFC 4180 has them. In TSV a quote is a character as any other.

    Raises:
        ValueError: a row has more or fewer cells than the header, or a quote is not closed; names file and line.
    """
    records = _records(path)
    _, header = next(records, (1, []))
    _require_separated(path, header)
    for line, cells in islice(records, first, None):
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {line}, has {counted(len(cells), 'cell')}, but the first line names {len(header)} "
                f"columns ({', '.join(header)}): correct the row"
                + ("" if _is_tsv(path) else ", or quote cells with a comma")
            )
        yield line, {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells), the header first."""
    first = True
    for line, cells in _tsv_cells(path) if _is_tsv(path) else _csv_cells(path):
        if cells in ([], [""]):  # an empty line
            continue
        yield line, _header(path, cells) if first else cells
        first = False


def _is_tsv(path: Path) -> bool:
    return suffix_of(path) == ".tsv"


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() or f"Unnamed: {index}" for index, cell in enumerate(cells)]  # pandas writes its index so
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has several columns of the name {twice[0]!r}: give each a name of its own")
    return names


def _require_separated(path: Path, names: list[str]) -> None:
    marks = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}
    separators = [name for mark, name in marks.items() if mark in "".join(names)]
    if len(names) == 1 and separators:
        expected = "tabs" if _is_tsv(path) else "commas or semicolons"
        raise ValueError(
            f"{path} has one column, {names[0]!r}: its columns seem to be separated by {separators[0]}, but must be by "
            f"{expected}: save it so, or change its suffix"
        )


def _tsv_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    with open_text(path) as file:
        for number, line in enumerate(_without_nul(path, file), 1):
            yield number, line.rstrip("\n").split("\t")


def _csv_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(sys.maxsize)  # a document may be long
    with open_text(path, newline="") as file:
        head = file.readline()
        said = SEPARATOR_LINE.fullmatch(head.rstrip("\r\n"))
        separator = said[1] if said else ";" if ";" in head and "," not in head else ","
        lines = file if said else chain([head], file)
        reader = csv.reader(_without_nul(path, lines), delimiter=separator, strict=True)
        while True:
            line = reader.line_num + 1 + bool(said)
            try:
                yield line, next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(
                    f"{path}, line {line}, has a quote that is not closed as it should be ({error}): double quotes "
                    'inside of quotes (""), or remove them'
                ) from error


def _without_nul(path: Path, lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise ValueError(f"{path}, line {number}, holds a NUL byte: it is no text, or damaged")
        yield line


def number(path: Path, line: int, column: str, cell: Any) -> float | None:
    """The number that a cell holds, None for an empty one.

    Raises:
        ValueError: it holds something else; names file and line.
    """
    if cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool)):
        return cell
    if not isinstance(cell, str) or not NUMBER.fullmatch(cell.strip()):
        raise ValueError(
            f"{path}, line {line}: column {column!r} holds {cell!r}, but must hold a number: give another column "
            "another name"
        )
    return float(cell)


# ---- JSON ----


def json_rows(path: Path, first: int = 0) -> Iterator[tuple[int, Row]]:
    """(line, row) of a file with an object a line, or with one list of objects; there, line counts objects.

    Lines before the row `first` are not looked into.

    Raises:
        ValueError: a line is not an object, or the file holds neither; names file and line.
    """
    with open_text(path) as file:
        rows = ((line, text) for line, text in enumerate(file, 1) if not text.isspace())
        begin = next(rows, None)
        if begin is None:
            return
        if begin[1].lstrip().startswith("["):
            yield from islice(_listed_objects(path, begin[1] + "".join(file)), first, None)
            return
        for line, text in islice(chain([begin], rows), first, None):
            yield line, _object(path, line, text)


def _listed_objects(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}, is not JSON ({error.msg}): correct it") from error
    for number, value in enumerate(values, 1):
        if isinstance(value, str):
            value = {"text": value}
        if not isinstance(value, dict):
            raise ValueError(f"{path}: entry {number} of its list is {_shown(value)}, but must be an object: {{...}}")
        yield number, value


def _object(path: Path, line: int, text: str) -> Row:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = getattr(error, "msg", error)
        raise ValueError(
            f"{path}, line {line}, is not a JSON object ({reason}): write a row as one object on one line, "
            '{"text": ...}, or all rows as one list of objects'
        ) from error
    if "\\ud" in text.lower() and not _is_unicode(value):
        raise ValueError(f"{path}, line {line}, holds half a character (a lone surrogate, \\ud...): correct it")
    if not isinstance(value, dict):
        raise ValueError(f'{path}, line {line}, is {_shown(value)}, but must be an object: {{"text": ...}}')
    return value


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
