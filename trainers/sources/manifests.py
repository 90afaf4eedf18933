"""Lists of recordings that are no plain tables: those of fairseq, transcripts of LibriSpeech; Kaldi's are refused."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
from transformers.utils import logging

from ..wording import counted
from .table_rows import open_text

logger = logging.get_logger(__name__)

LABELS = ("ltr", "wrd", "phn")  # suffixes of fairseq's labels: letters, words, sounds


# ---- fairseq ----


def is_fairseq_manifest(path: Path) -> bool:
    """Whether a table is a fairseq manifest: a folder in the first line, then "path<TAB>samples"."""
    if path.suffix.lower() != ".tsv":
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        first, second = file.readline().strip(), file.readline().rstrip("\n").split("\t")
    return bool(first) and "\t" not in first and len(second) == 2 and second[1].isdigit()


def read_fairseq_manifests(files: list[Path]) -> datasets.Dataset:
    """Columns `path`, `num_samples`, and of the labels beside a manifest (`train.ltr` of `train.tsv`) `ltr`, `wrd`,
    `phn`, and `text`: the words, or what the letters say.

    Raises:
        ValueError: a line is no entry, or labels have another number of lines than their manifest.
    """
    columns: dict[str, list[Any]] = {"path": [], "num_samples": []}
    known = {kind for kind in LABELS for file in files if file.with_suffix(f".{kind}").is_file()}
    for file in files:
        paths, lengths = _entries(file)
        columns["path"] += paths
        columns["num_samples"] += lengths
        for kind in sorted(known):
            columns.setdefault(kind, []).extend(_labels(file, kind, len(paths)))
    if "wrd" in columns:
        columns["text"] = columns["wrd"]
    elif "ltr" in columns:
        columns["text"] = [line and said(line) for line in columns["ltr"]]
    return datasets.Dataset.from_dict(columns)


def said(letters: str) -> str:
    """The words of a line of fairseq's letters.

    Example:
        >>> said("H E L L O | W O R L D |")
        'HELLO WORLD'
    """
    return " ".join(letters.replace(" ", "").replace("|", " ").split())


def _entries(file: Path) -> tuple[list[str], list[int]]:
    with open_text(file) as opened:
        root, *lines = opened.read().split("\n")
    if lines and not lines[-1]:
        lines.pop()
    paths, lengths = [], []
    for number, line in enumerate(lines, 2):
        path, tab, length = line.rpartition("\t")
        if not tab or not length.isdigit():
            raise ValueError(f"{file}, line {number}, is {line!r}, but must be a path, a tab and a number of samples")
        paths.append(path)
        lengths.append(int(length))
    folder = _root(file, root.strip(), paths)
    return [str(folder.absolute() / path) for path in paths], lengths


def _root(file: Path, root: str, paths: list[str]) -> Path:
    """The folder that a manifest names or, if it was moved, the one beside the manifest that has its files."""
    named = file.parent / root
    if named.is_dir() or not paths:
        return named
    parts = Path(root).parts
    for moved in [file.parent.joinpath(*parts[first:]) for first in range(1, len(parts) + 1)]:
        if (moved / paths[0]).is_file():
            logger.warning(f"{file} names the folder {root}, which is not there; its files are read from {moved}.")
            return moved
    return named


def _labels(file: Path, kind: str, number: int) -> list[str | None]:
    path = file.with_suffix(f".{kind}")
    if not path.is_file():
        return [None] * number
    with open_text(path) as opened:
        lines = [line.rstrip("\n") for line in opened]
    if len(lines) != number:
        raise ValueError(
            f"{path} has {counted(len(lines), 'line')}, but {file} lists {counted(number, 'recording')}: a line is the "
            "label of the recording in the same place, so make both anew"
        )
    return list(lines)


# ---- LibriSpeech ----


def read_transcripts(files: Iterable[Path]) -> dict[Path, str]:
    """Read transcripts from LibriSpeech's `*.trans.txt`: each line is a file's name without suffix, then words.

    Args:
        files: of the folder; others are passed over.

    Returns:
        Recordings without their suffix, and their transcripts.
    """
    transcripts = {}
    for file in files:
        if file.name.endswith(".trans.txt"):
            with open_text(file) as lines:
                for line in lines:
                    name, _, text = line.strip().partition(" ")
                    if name:
                        transcripts[file.parent / name] = text.strip()
    return transcripts


# ---- what is refused ----


def refuse_kaldi(found: Iterable[Path], source: Path) -> None:
    """Refuse a data folder of Kaldi, which has no suffixes to go by.

    Raises:
        ValueError: there is a `wav.scp`.
    """
    if any(file.name == "wav.scp" for file in found):
        raise ValueError(
            f"{source} is a data folder of Kaldi (wav.scp), which is not read: write a TSV with the columns path and "
            "text (and start, end for segments)"
        )
