"""Find the files that paths in a table mean, beside the table or in a folder there, and report missing ones."""

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..wording import counted
from .label_checks import as_number
from .table_rows import suffix_of

logger = logging.get_logger(__name__)

# How tables say where a clip starts or ends, besides the names that are read.
TIME_COLUMN = re.compile(
    r"((seg|segment|clip|utt|utterance)[-_ ]?)?(begin|start|from|onset|end|stop|offset)"
    r"([-_ ]?(time|times|at|s|sec|secs|second|seconds|ms|sample|samples|frame|frames))?"
)
TABLE_FOLDER = "table_folder"  # a column: where the table of a row lies
SEARCHED = 200_000  # files that are looked at to say where one lies
# How base64 begins: of a data URL, PNG, JPEG, GIF, RIFF (WAV and WebP), Ogg, FLAC, MP3 with a tag.
BASE64_STARTS = ("data:", "iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "T2dnUw", "ZkxhQ", "SUQz")
BASE64_ADVICE = (
    "base64 text, which is taken for a path: decode the column to bytes (base64.b64decode), or write files and name "
    "them"
)
ADDRESS_ADVICE = "addresses are not read; download the files, and give their paths"


class FileFinder:
    """Finds the file that a path in a table means.

    It is relative to the folder of its table; if nothing lies there, to the one folder beside the table where it does
    (`clips` of Common Voice, `wavs` of LJ Speech). A suffix may lack, or be that of another format: `clip` and
    `clip.mp3` are `clip.flac`, if that is the only such file.

    Args:
        suffixes: that a file may have, in small letters.
    """

    def __init__(self, suffixes: Iterable[str]) -> None:
        self.suffixes = frozenset(suffixes)
        self._names: dict[str, dict[str, list[str]]] = {}
        self._folders: dict[str, list[str]] = {}

    def __call__(self, folder: str, path: str) -> str | None:
        """The file, or None if there is none, or several."""
        if found := self._in(folder, path):
            return found
        if os.path.isabs(path):
            return None
        if "\\" in path and (found := self._in(folder, path.replace("\\", "/"))):
            return found
        beside = list(filter(None, (self._in(place, path) for place in self._folders_of(folder))))
        return beside[0] if len(beside) == 1 else None

    def _in(self, folder: str, path: str) -> str | None:
        parent, name = os.path.split(os.path.join(folder, path))
        names = self._names_in(parent)
        whole = composed(name)
        stem, suffix = os.path.splitext(whole)
        if name in names.get(stem, []):
            return os.path.join(parent, name)
        same = [found for found in names.get(stem, []) if composed(found) == whole]
        for wanted in (whole, stem) if suffix.lower() in self.suffixes else (whole,):
            same = same or [found for found in names.get(wanted, []) if suffix_of(Path(found)) in self.suffixes]
        if len(same) == 1:
            return os.path.join(parent, same[0])
        # Names may be written in another way than they are listed, where the file system knows both.
        return os.path.join(parent, name) if name and os.path.isfile(os.path.join(parent, name)) else None

    def _names_in(self, folder: str) -> dict[str, list[str]]:
        """Names of files in a folder by their stems; listed once, since asking for each takes long on a network."""
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            for entry in _entries(folder):
                if not entry.is_dir():
                    names.setdefault(os.path.splitext(composed(entry.name))[0], []).append(entry.name)
            self._names[folder] = names
        return self._names[folder]

    def _folders_of(self, folder: str) -> list[str]:
        if folder not in self._folders:
            found = [entry.path for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith(".")]
            self._folders[folder] = sorted(found)
        return self._folders[folder]


def composed(name: str) -> str:
    """A name in the form that most systems write: on a Mac, letters and their accents are two characters."""
    return unicodedata.normalize("NFC", name)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except OSError:
        return []


def locate(
    folders: Sequence[str], paths: Sequence[str | None], suffixes: Iterable[str], *, what: str
) -> list[str | None]:
    """The file of each path; where it isn't found, the place where it should be.

    Args:
        folders: of the tables, row by row.
        paths: in them; None where a row has none.
        suffixes: as for `FileFinder`.
        what: for messages: what holds the paths.

    Raises:
        ValueError: none of the files is there. If only some lack, a warning says so.
    """
    find = FileFinder(suffixes)
    files: list[str | None] = []
    missing = []
    for folder, path in zip(folders, paths, strict=True):
        file = find(folder, path) if path else None
        if path and file is None:
            file = os.path.join(folder, path)
            missing.append((folder, file))
        files.append(file)
    total = sum(path is not None for path in paths)
    if missing:
        message = missing_files(missing, total, what)
        if len(missing) == total:
            raise ValueError(message)
        logger.warning(f"{message}. They are passed over.")
    return files


def refuse_other_times(row: Mapping[str, Any], known: Collection[str], what: str) -> None:
    """Refuse a table of recordings whose columns give a clip's start or end under other names.

    Each of its rows would be the whole recording.

    Args:
        row: the first of the table.
        known: columns of numbers that are read.
        what: for messages: what holds the paths.

    Raises:
        ValueError: there is such a column, with a number.
    """
    for name, value in row.items():
        if name not in known and TIME_COLUMN.fullmatch(name.lower()) and as_number(value) is not None:
            raise ValueError(
                f"column {name!r} beside {what} holds {value}, which isn't read: the part of a recording is given in "
                "seconds by start and end, or start and duration: rename it, or remove it if the files are the clips"
            )


def missing_files(missing: Sequence[tuple[str, str]], total: int, what: str) -> str:
    """Describe missing files: their number, where the first one was expected, and where a file of its name lies.

    Args:
        missing: (folder of the table, file) of each.
        total: files that the table names.
        what: holds the paths.
    """
    folder, file = missing[0]
    if is_base64(file):
        return f"{counted(len(missing), 'cell')} of {what} hold {BASE64_ADVICE}"
    message = f"{len(missing):,} of {counted(total, 'file')} in {what} are missing; the first is {file}"
    if "://" in file:
        return f"{message}: {ADDRESS_ADVICE}"
    name = os.path.basename(file.replace("\\", "/"))
    for place in (folder, os.path.dirname(folder.rstrip("/"))):
        for found in islice(_walk(place), SEARCHED):
            if found.name == name:
                path = os.path.relpath(found, folder)
                return f"{message}. A file of that name lies in {found.parent}: write {path} in the table in its place"
    return f"{message}: paths are relative to the folder of their table, {os.path.abspath(folder)}"


def is_base64(path: str) -> bool:
    """Whether a value that should be a path looks like an encoded picture or recording instead.

    Example:
        >>> is_base64("photos/iVBORw0KGgoAAAANSUhEUgAA"), is_base64("photos/cat.png")
        (True, False)
    """
    return any(f"/{start.lstrip('/')}" in f"/{path}" for start in BASE64_STARTS)


def _walk(folder: str) -> Iterator[Path]:
    for parent, _, names in os.walk(folder or "."):
        yield from (Path(parent, name) for name in names)
