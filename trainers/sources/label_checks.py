"""Checks of labels before training: what is wrong is named with its row, counted from 1."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from transformers.utils import logging

from ..wording import with_more

logger = logging.get_logger(__name__)
WAYS = "spaces, capitals, the form of accents or the way a number is written"  # of `meant`

WHOLE = re.compile(r"[+-]?\d+")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
IDS = 20  # so many rows, each with a label of its own, are names of rows rather than classes
SHOWN = 5


def in_rows(indices: Sequence[int]) -> str:
    """Rows by number, counted from 1, as a table's reader counts them.

    Example:
        >>> in_rows([18]), in_rows([0, 3, 4, 5, 6, 7, 8])
        ('row 19', 'rows 1, 4, 5, 6, 7 and 2 more')
    """
    shown = with_more((index + 1 for index in indices[:SHOWN]), len(indices))
    return f"row{'s' if len(indices) > 1 else ''} {shown}"


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, also one in a text or of a float column."""
    if isinstance(value, str):
        return bool(WHOLE.fullmatch(value.strip()))
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value == int(value)
    )


def as_number(value: Any) -> float | None:
    """A value, also a text, as a finite number; None for all others."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def require_no_fractions(values: Sequence[Any], column: str, learner: str) -> None:
    """Require that labels are not numbers with fractions, also those that a CSV holds as text.

    Args:
        values: the label of each row, or a list of them.
        column, learner: for messages; what learns classes.

    Raises:
        ValueError: all are numbers, and some have a fraction; names these rows.
    """
    if not all(as_number(value) is not None for value in values):
        return
    if fractions := [row for row, value in enumerate(values) if float(value) % 1]:
        raise ValueError(
            f"column {column!r} holds fractions ({in_rows(fractions)}: {values[fractions[0]]}), but {learner} learns "
            "classes: name another --label_column, or write classes as words"
        )


def require_labels(values: Sequence[Any], column: str, dataset: Any = None) -> None:
    """Require that no row lacks its label.

    Args:
        values: the label of each row, or a list of them; None where there is none.
        column: for messages.
        dataset: for messages: where the rows are files, the first one without a label is named.

    Raises:
        ValueError: names the rows, and says what the others hold.
    """
    missing = [row for row, value in enumerate(values) if value is None or (isinstance(value, list) and None in value)]
    if not missing:
        return
    found = [value for value in values if value is not None and not isinstance(value, list)]
    whole, numbers = sum(map(is_whole, found)), sum(as_number(value) is not None for value in found)
    if not found or 2 * numbers < len(found):
        others = ""
    elif whole == numbers:
        others = f", while {whole:,} of {len(values):,} rows have whole numbers, which are classes"
    else:
        others = f", while {numbers:,} of {len(values):,} rows have numbers"
    cells = () if dataset is None else dataset[missing[0]].values()
    files = [cell["path"] for cell in cells if isinstance(cell, dict) and cell.get("path")]
    shown = f" ({'the first is ' if len(missing) > 1 else ''}{files[0]})" if files else ""
    raise ValueError(
        f"column {column!r}: {in_rows(missing)}{shown} "
        f"{'have' if len(missing) > 1 else 'has'} no label{others}. Each row needs one: fill it in or remove the "
        "row, or name another --label_column"
    )


def require_no_lists_in_text(values: Sequence[Any], column: str, remedy: str) -> None:
    """Refuse lists that are written as text, as a CSV has them, or JSON where other rows hold single values.

    Raises:
        ValueError: names the first row with one, and the first without.
    """
    lists = [isinstance(value, str) and value.strip()[:1] == "[" and value.strip()[-1:] == "]" for value in values]
    if not any(lists):
        return
    row, other = lists.index(True), None if all(lists) else lists.index(False)
    what = "text, not lists" if other is None else "lists in some rows and single values in others"
    single = "" if other is None else f", {in_rows([other])} {values[other]!r}"
    raise ValueError(f"column {column!r} holds {what}: {in_rows([row])} is {values[row]!r}{single}. {remedy}")


def are_numbers_to_predict(values: Sequence[Any], column: str, *, of_floats: bool) -> bool:
    """Whether labels are numbers to predict, since they have fractions, rather than classes.

    Args:
        values: the label of each row; none is missing.
        column: for messages.
        of_floats: whether the column's type is that of fractions.

    Raises:
        ValueError: most have a decimal comma; most are fractions, but not all are numbers; or all are whole numbers
            that are written as fractions, which could be either.
    """
    commas = [value for value in values if isinstance(value, str) and DECIMAL_COMMA.fullmatch(value.strip())]
    if 2 * len(commas) > len(values):
        raise ValueError(
            f"column {column!r} holds numbers with a decimal comma ({commas[0]!r}) in {len(commas):,} of "
            f"{len(values):,} rows: write them with a point"
        )
    numbers = [as_number(value) for value in values]
    fractions = sum(number is not None and not is_whole(number) for number in numbers)
    others = [row for row, number in enumerate(numbers) if number is None]
    if of_floats and others:
        return True  # infinite ones, which are refused as such
    if others and 2 * fractions > len(values):
        raise ValueError(
            f"column {column!r}: {in_rows(others)} is no number ({values[others[0]]!r}), while "
            f"{len(values) - len(others):,} of {len(values):,} rows have numbers to predict: correct or remove it"
        )
    if others or fractions:
        return not others
    pointed = [value for value in values if of_floats or (isinstance(value, str) and not is_whole(value))]
    if pointed:
        raise ValueError(
            f"column {column!r} holds whole numbers with a decimal point in its {len(values):,} rows: to predict them "
            "as numbers, give --regression; if they are classes, write them without a point"
        )
    return False


def require_numbers(values: Sequence[Any], column: str) -> None:
    """Require a finite number in each row.

    Raises:
        ValueError: names the rows that have none.
    """
    wrong = [row for row, value in enumerate(values) if as_number(value) is None]
    if wrong:
        value = values[wrong[0]]
        raise ValueError(
            f"column {column!r} must hold finite numbers where numbers are predicted, but {in_rows(wrong)} of "
            f"{len(values):,} {'have' if len(wrong) > 1 else 'has'} {'nothing' if value is None else repr(value)}: "
            "correct or remove them, or name another --label_column"
        )


def check_classes(values: Sequence[Any], column: str) -> None:
    """Refuse a column that names rows rather than classes, and warn of classes that are none.

    Args:
        values: the class of each row, as in the table.
        column: for messages.

    Raises:
        ValueError: each row has a class of its own.
    """
    counts = Counter(str(value) for value in values)
    if len(counts) == len(values) >= IDS:
        raise ValueError(
            f"column {column!r} has {len(counts):,} different values in {len(values):,} rows, e.g. {values[0]!r}: they "
            "name rows, not classes. Name another --label_column"
        )
    if len(counts) >= IDS and 2 * len(counts) > len(values):
        logger.warning(
            f"Column {column!r} has {len(counts):,} classes in {len(values):,} rows: few of them can be learned. Is it "
            "the column with the classes?"
        )
    whole = sum(count for name, count in counts.items() if is_whole(name))
    others = [name for name in counts if not is_whole(name)]
    if others and len(values) > whole > len(values) / 2:
        logger.warning(
            f"Column {column!r} has whole numbers in {whole:,} of {len(values):,} rows; the others, e.g. "
            f"{others[0]!r}, are taken as classes, too."
        )
    if "-1" in counts:
        logger.warning(
            f"Column {column!r} has {counts['-1']:,} of {len(values):,} rows with -1, which is taken as a class. Where "
            "it stands for no label, as in GLUE's test sets, remove these rows."
        )


def meant(name: str) -> Any:
    """What is equal of names that may be meant to be one: written with other spaces, capitals, accents or digits.

    Example:
        >>> meant("Cafe\u0301 ") == meant("caf\u00e9"), meant("1.0") == meant("1")
        (True, True)
    """
    number = as_number(name)
    return unicodedata.normalize("NFKC", name).strip().casefold() if number is None else number


def say_alike(values: Iterable[Any], column: str) -> None:
    """Warn of classes that may be meant to be one.

    Args:
        values: the class of each row, also of one whose type or folders name the classes.
        column: for messages.
    """
    counts = Counter(str(value) for value in values)
    alike: dict[Any, list[str]] = {}
    for name in counts:
        alike.setdefault(meant(name), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            shown = ", ".join(f"{name!r} ({counts[name]}x)" for name in names)
            logger.warning(
                f"Column {column!r} has classes that differ only in {WAYS}: {shown}. They are learned as different "
                "ones."
            )
