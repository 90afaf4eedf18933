"""Checks that results may be written to a folder."""

import json
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint

# What may lie where a run begins: what an earlier try drew, and what people redirect or write down.
OF_A_RUN = ("masks*.png", "curves*.png", "pca*.png", "probe*.json")
OF_A_MODEL = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
NOTES = ("*.log", "*.out", "*.err", "*.txt")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt")


def check_output_folder(folder: Path, *, own: Sequence[str] = ()) -> None:
    """Require that results can be written to a folder, and that it holds nothing else.

    Hidden files, sub-folders and notes (`*.log`, `*.txt`) may be there.

    Args:
        folder: need not exist.
        own: patterns of files that are replaced.

    Raises:
        ValueError: it is a file or below one, may not be written to, or holds a model or other files.
    """
    _check_writable(folder, "--output_dir")
    files = sorted(path.name for path in folder.iterdir() if not path.is_dir()) if folder.is_dir() else []
    allowed = (".*", *NOTES, *own)
    foreign = [name for name in files if not any(fnmatch(name, pattern) for pattern in allowed)]
    if foreign:
        shown = ", ".join(foreign[:4]) + (", ..." if len(foreign) > 4 else "")
        raise ValueError(
            f"{folder} already holds {_content(folder, foreign)} ({shown}): choose another output_dir, or remove it "
            "first"
        )


def check_output_file(path: Path, option: str) -> None:
    """Require that a file can be written, before the work that it is for begins.

    Raises:
        ValueError: it is a folder, or its folder can't be made or written to.
    """
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder: name a file")
    _check_writable(path.parent, option)


def _check_writable(folder: Path, option: str) -> None:
    try:
        above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise ValueError(f"{option}: {folder} can't be used: {error.strerror or error}") from error
    if not above.is_dir():
        raise ValueError(f"{option}: {folder} can't be a folder, since {above} is a file: name a folder")
    if not os.access(above, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(f"{option}: {folder} can't be written to: no permission for {above}, or a read-only disk")


def _content(folder: Path, files: list[str]) -> str:
    if "config.json" in files:
        kind = _config(folder).get("model_type")
        return f"a model of type {kind}" if kind else "a model"
    if any(name in TOKENIZER_FILES for name in files):
        return "a tokenizer"
    return "other files"


def _config(folder: Path) -> dict[str, Any]:
    """The folder's config.json, if it is one."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def check_tokenizer_folder(folder: Path) -> None:
    """Check a tokenizer's output folder; a text model without a tokenizer may be in it."""
    check_output_folder(folder, own=OF_A_MODEL if "vocab_size" in _config(folder) else ())


def check_output(output: Path, *, resume: bool) -> None:
    """Require that a run does not begin in the folder of another one, or among other files.

    Raises:
        ValueError: it holds a checkpoint, which the run is not to go on from, or as `check_output_folder`.
    """
    last = get_last_checkpoint(output) if output.is_dir() else None
    if last and not resume:
        raise ValueError(
            f"{output} already holds {Path(last).name} of an earlier run: pass --resume to go on from it, choose "
            "another --output_dir, or remove the folder"
        )
    check_output_folder(output, own=("*",) if last else OF_A_RUN)
