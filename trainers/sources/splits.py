"""Splits of a source's files by the names of files and folders, as people write them."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
from transformers.utils import logging

from ..wording import counted

logger = logging.get_logger(__name__)

# A split's word with its usual endings: `train`, `Training`, `test_set`, `val2017`; first in a name or, where names are
# alike but for it (`seg_train`, `seg_test`), after other words.
_SPLIT = r"(train|validation|valid|val|dev|test|eval)(?:ing|uation)?(?:[-_ ]?set)?(?=[-_.\d]|$)"
SPLIT_NAME = re.compile(_SPLIT, re.IGNORECASE)
SPLIT_WITHIN = re.compile(rf"(?<=[-_. ]){_SPLIT}", re.IGNORECASE)


def split_files(files: list[Path], source: Path, *, hold_many: bool = False) -> dict[str, list[Path]]:
    """Sort files into splits by the names below `source`.

    They are splits if all of them are named so, `train-clean-100` and `dev-clean`, or `train.txt` and `test.txt`; or if
    folders for training and for another split are among others, which are left out. Classes `train`, `dog` and `rain`
    are none. Files without splits are all "train".

    Args:
        files: below `source`.
        source: a folder, or the only file.
        hold_many: whether a file holds many samples, so that its own name can be that of a split among other names.

    Raises:
        ValueError: names of splits are mixed with others, of files that hold many samples; or there are splits in
            folders below others.

    Example:
        >>> files = [Path("data/train-0.csv"), Path("data/train-1.csv"), Path("data/dev.csv")]
        >>> {split: len(files) for split, files in split_files(files, Path("data")).items()}
        {'train': 2, 'dev': 1}
    """
    if files == [source]:
        return {"train": files}
    source = data_folder(files, source)
    splits, others = named_splits(files, source)
    if splits and not others:
        return splits
    if not hold_many:  # a single photo may have any name
        splits = {
            split: inside
            for split, part in splits.items()
            if (inside := [file for file in part if file.parent != source])
        }
        if "train" in splits and len(splits) > 1:
            used = {file for part in splits.values() for file in part}
            _say_left_out([file for file in files if file not in used], source, "file")
            return splits
    _say_mixed({split: _tops(part, source) for split, part in splits.items()}, _tops(others, source), source, hold_many)
    _refuse_splits_below(files, source, hold_many)
    return {"train": files}


def split_tables(files: list[Path], source: Path) -> dict[str, list[Path]]:
    """Like `split_files`, of tables: where some are named as splits, these are the splits, and others are left out."""
    source = data_folder(files, source)
    splits, others = named_splits(files, source)
    if not splits or files == [source]:
        return split_files(files, source, hold_many=True)
    if others:
        _say_left_out(others, source, "table")
    return splits


def data_folder(files: Iterable[Path], source: Path) -> Path:
    """The folder with the splits: `source`, or the single folder in it, e.g. `data`, unless that is a split itself."""
    tops = _tops(files, source) if files != [source] else []
    if len(tops) != 1 or SPLIT_NAME.match(tops[0]) or source / tops[0] in files:
        return source
    return data_folder(files, source / tops[0])


def _say_left_out(files: list[Path], source: Path, noun: str) -> None:
    shown = ", ".join(str(file.relative_to(source)) for file in files[:5])
    logger.warning(
        f"Leaving out {counted(len(files), noun)} of {source} without the name of a split: {shown}"
        f"{', ...' if len(files) > 5 else ''}. To read {'one' if noun == 'table' else 'them'}, name "
        f"{'it' if noun == 'table' else 'their folder'} as the source."
    )


def _say_mixed(named: dict[str, list[str]], rest: list[str], source: Path, hold_many: bool) -> None:
    """Warn that names of splits stand among others, so that all of it is training data."""
    names = [top for tops in named.values() for top in tops]
    if not names or set(named) == {"train"}:
        return
    mixed = f"{source} holds {', '.join(names)}, which are names of splits, and {', '.join(rest[:5])}"
    mixed += f"{', ...' if len(rest) > 5 else ''}, which are not"
    advice = f"name one as the source, e.g. {source / names[0]}, or move what is no split elsewhere"
    if hold_many and len(names) > 1:
        raise ValueError(f"{mixed}: {advice}")
    logger.warning(f"{mixed}: all are read as training data. If some are not, {advice}.")


def _refuse_splits_below(files: Iterable[Path], source: Path, hold_many: bool) -> None:
    """Refuse splits within other folders, e.g. those of each class, which would all be training data."""
    found: dict[Path, dict[str, str]] = {}
    for file in files:
        parts = file.relative_to(source).parts
        for depth in range(1, len(parts) - (not hold_many)):
            if match := SPLIT_NAME.match(parts[depth]):
                found.setdefault(source.joinpath(*parts[:depth]), {})[match[1].lower()] = parts[depth]
    for folder, names in found.items():
        if "train" in names and len(names) > 1:
            shown = " and ".join(sorted(names.values()))
            raise ValueError(
                f"{folder} is divided into {shown}, which would all be training data of {source}: name {folder} as the "
                f"source, or turn the folders around, {names['train']}/{folder.name} and so on"
            )


def _tops(files: Iterable[Path], source: Path) -> list[str]:
    return sorted({file.relative_to(source).parts[0] for file in files})


def split_of(name: str) -> str | None:
    """The split that a name begins with.

    Example:
        >>> split_of("train-clean-100"), split_of("Testing"), split_of("val2017"), split_of("trains")
        ('train', 'test', 'val', None)
    """
    match = SPLIT_NAME.match(name)
    return match[1].lower() if match else None


def names_split(name: str) -> bool:
    """Whether a split stands anywhere in a name."""
    return bool(SPLIT_NAME.match(name) or SPLIT_WITHIN.search(name))


def _paired(names: Iterable[str]) -> dict[str, str]:
    """Splits within names that are alike but for these, one of them for training: `seg_train` and `seg_test`."""
    kinds: dict[str, dict[str, str]] = {}
    for name in names:
        for match in SPLIT_WITHIN.finditer(name):
            rest = re.sub(r"\d+", "0", f"{name[: match.start()]}*{name[match.end() :]}").lower()
            kinds.setdefault(rest, {})[name] = match[1].lower()
    paired = [kind for kind in kinds.values() if "train" in kind.values() and len(set(kind.values())) > 1]
    return {name: split for kind in paired for name, split in kind.items()}


def named_splits(files: Iterable[Path], source: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Files by the split that their top name below `source` names, and those whose names no split."""
    files = list(files)
    tops = _tops(files, source) if files != [source] else []
    first = {top: split_of(top) for top in tops}
    names = first | _paired(top for top, split in first.items() if split is None)
    splits: dict[str, list[Path]] = {}
    others: list[Path] = []
    for file in files:
        split = names.get(file.relative_to(source).parts[0]) if file != source else None
        (others if split is None else splits.setdefault(split, [])).append(file)
    return splits, others


def choose_split(splits: Any, split: str, source: Any) -> Any:
    """The part of a split, also by another spelling of its name (`Test`, `training`).

    Raises:
        ValueError: there is no such split; names those that are.
    """
    name = split if split in splits else split_of(split)
    if name not in splits:
        raise ValueError(
            f"{source} has no split {split!r}, only {sorted(splits)}: name one of them, or divide the data by names of "
            "folders or tables, or by a column 'split'"
        )
    return splits[name]


def split_column(columns: Iterable[str]) -> str | None:
    """The column that may name the split of each row: `split`, `Split`."""
    return next((name for name in columns if name.lower() == "split"), None)


def rows_of_split(dataset: datasets.Dataset, files: Any, split: str, source: Any) -> Sequence[int]:
    """The rows of a split, in tables whose names don't divide them, by what a column `split` says of each.

    It says so if it holds "train" and other names; rows without a name are in none. Without such a column, all rows.

    Args:
        dataset: all rows.
        files: the tables by split.
        split: that is wanted.
        source: for messages.

    Raises:
        ValueError: there is no such split.
    """
    column = split_column(dataset.column_names)
    cells = dataset[column][:] if column else []
    names = [split_of(str(cell or "")) or str(cell or "") for cell in cells]
    if "train" not in names or len(set(names)) == 1:
        choose_split(files, split, source)
        return range(len(dataset))
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name:
            rows.setdefault(name, []).append(row)
    return choose_split(rows, split, source)


def require_other_data(option: str, measured: tuple[str, str], trained: tuple[str, str]) -> None:
    """Refuse to measure on what is trained on.

    Args:
        option: that says where to measure, for messages.
        measured, trained: source and split of each.

    Raises:
        ValueError: both are the same.

    Example:
        >>> require_other_data("--test_split", ("photos", "test"), ("photos/", "train"))
    """

    def place(source: str, split: str) -> tuple[str, str]:
        return os.path.realpath(os.path.expanduser(source)), split_of(split) or split

    if place(*measured) == place(*trained):
        raise ValueError(
            f"{option}: split {measured[1]!r} of {measured[0]} is what is trained on, so figures on it say nothing of "
            "new data: name another split, or other data"
        )
