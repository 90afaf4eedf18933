"""Choice of a source's data files, by their suffixes, and a report of what is left out."""

import os
import re
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging

from ..wording import counted
from .table_rows import suffix_of

logger = logging.get_logger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".tga"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".pcx", ".ico"}
)
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma", ".g722"}
    | {".aif", ".aiff", ".au", ".amr", ".caf", ".sph"}
)
TEXT_SUFFIXES = frozenset({".txt"})
UNREAD_IMAGE_SUFFIXES = frozenset({".heic", ".heif", ".avif", ".cr2", ".nef", ".dng", ".arw", ".svg", ".psd"})
UNREAD = "HEIC, raw or vector image"
KINDS = {
    "image": IMAGE_SUFFIXES,
    "audio file": AUDIO_SUFFIXES,
    UNREAD: UNREAD_IMAGE_SUFFIXES,
}
# Formats of tables, by suffix.
TABLES = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}
ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".7z", ".rar"})
SHARDS = frozenset({".tar", ".tgz"})  # of WebDataset, which are read as a stream
LABEL_COLUMNS = ("label", "labels", "fine_label")
# Texts about a corpus, which are no part of it.
ABOUT = re.compile(r"(readme|licen[cs]e|copying|notice|authors|changelog|citation)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Medium:
    """One kind of data as it appears in folders and tables.

    Args:
        noun: what one of it is called in messages, e.g. "image".
        suffixes: of its files, in small letters; none if it comes in tables alone.
        columns: names of a column that holds it; with a first name of "image", `image_column` chooses one.
        feature: the type of such a column, where `datasets` has one; its columns are read undecoded.
        numbers: columns that hold numbers, in CSV and TSV, too; all others of these hold strings.
        transcribed: whether what is said is needed, which only tables and transcripts have, not the files alone.
    """

    noun: str
    suffixes: frozenset[str]
    columns: tuple[str, ...]
    feature: type | None = None
    numbers: tuple[str, ...] = ()
    transcribed: bool = False

    @property
    def is_text(self) -> bool:
        """Whether a file holds many samples, in lines; of other media, a file is one sample."""
        return bool(self.suffixes) and self.suffixes <= TEXT_SUFFIXES


# ---- files ----


def table_format(path: Path) -> str | None:
    """The format that a file is read in as a table, or None."""
    return TABLES.get(suffix_of(path))


def list_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, without hidden ones, whose names begin with a dot.

    Links to folders are followed, each folder is read once, and a link to a folder that holds `folder` is left out.
    """
    found: list[Path] = []
    seen: set[str] = set()
    home = os.path.realpath(folder)
    waiting = deque([str(folder)])
    while waiting:
        for parent, folders, names in os.walk(waiting.popleft(), onerror=_say_unreadable):
            real = os.path.realpath(parent)
            if real in seen or (seen and Path(home).is_relative_to(real)):
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths = [os.path.join(parent, name) for name in folders]
            waiting += [path for path in paths if os.path.islink(path)]
            found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _say_unreadable(error: OSError) -> None:
    logger.warning(f"Leaving out the folder {error.filename}: {error.strerror}")


# ---- what else is there ----


def are_about_data(files: list[Path], medium: Medium) -> bool:
    """Whether all of them are texts such as README.txt, which are no corpus."""
    return medium.is_text and all(ABOUT.match(file.name) for file in files)


def without_companions(files: list[Path], found: list[Path], medium: Medium, source: Path) -> list[Path]:
    """The files of a medium in a folder, less texts about a corpus; says what else is there and is left out.

    Raises:
        ValueError: texts are outnumbered by images and recordings, so that the folder is no text corpus.
    """
    if tables := [file for file in found if table_format(file)]:
        names = f"{tables[0].name}{', ...' if len(tables) > 1 else ''}"
        logger.warning(
            f"Leaving out {counted(len(tables), 'table')} ({names}) beside the {medium.noun}s of {source}. To read "
            "one, name it as the source."
        )
    if medium.is_text:
        about = [file for file in files if ABOUT.match(file.name)]
        if about and len(about) < len(files):
            logger.warning(
                f"Leaving out {', '.join(file.name for file in about)} of {source}: about the data, not data."
            )
            files = [file for file in files if file not in about]
    others = Counter(
        kind
        for kind, suffixes in KINDS.items()
        if suffixes.isdisjoint(medium.suffixes)
        for file in found
        if suffix_of(file) in suffixes
    )
    text = " and ".join(counted(number, kind) for kind, number in others.items())
    if medium.is_text and len(files) < others.total():
        raise ValueError(
            f"{source} holds {text}, but only {counted(len(files), 'text')} ({files[0].name}): it is no text corpus. "
            "Name the file or folder with the texts alone"
        )
    if others.total() > len(files) or (others[UNREAD] and medium.suffixes == IMAGE_SUFFIXES):
        logger.warning(f"Reading {counted(len(files), medium.noun)} of {source}, and leaving out {text}.")
    return files
