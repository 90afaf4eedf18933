"""Checks of options: each names the option, the value it has, and the values that are allowed."""

import difflib
import math
import re
from collections.abc import Collection, Iterable
from typing import Any

from .named_values import named_value

LICENSE = re.compile(r"[a-z0-9]+([.+-][a-z0-9]+)*")  # as the Hub spells them
LICENSES = (  # the most frequent ones, as hints; any other is taken, too
    *("mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    *("gpl-3.0", "lgpl-3.0", "openrail", "other", "unknown"),
)
LARGEST_SEED = 2**32 - 1  # numpy's
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a file or folder, without separators


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """A question with the word that was probably meant by a mistyped or shortened one; empty if there is none.

    Example:
        >>> did_you_mean("cosien", ["linear", "cosine"]), did_you_mean("x", ["linear"])
        ('did you mean cosine?', '')
    """
    words = list(words)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.8)
    close = close or [other for other in words if other.startswith(word)]
    close = close or difflib.get_close_matches(word, words, n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else ""


def require_range(
    options: Any,
    *names: str,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> None:
    """Require finite numbers within bounds; None, where an option isn't given, is passed over.

    Args:
        options: a dataclass with the fields.
        names: of the fields; of one that holds a list, each value is checked.
        low, high: the smallest and largest value that is allowed.
        above, below: values that are the first not to be allowed.

    Raises:
        ValueError: a value is outside, is NaN or infinite, or is no number.

    Example:
        >>> from types import SimpleNamespace
        >>> require_range(SimpleNamespace(dropout=1.5), "dropout", low=0, high=1)
        Traceback (most recent call last):
        ValueError: --dropout is 1.5, but must be at least 0 and at most 1
    """
    bounds = (("at least", low), ("above", above), ("at most", high), ("below", below))
    allowed = " and ".join(f"{word} {bound:,}" for word, bound in bounds if bound is not None) or "a number"
    for name in names:
        given = getattr(options, name)
        for value in given if isinstance(given, list | tuple) else [given]:
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                fits = False
            else:
                fits = (
                    (low is None or value >= low)
                    and (above is None or value > above)
                    and (high is None or value <= high)
                    and (below is None or value < below)
                )
            if not fits:
                raise ValueError(f"--{name} is {value!r}, but must be {allowed}")


def require_choice(options: Any, name: str, allowed: Collection[str]) -> None:
    """Require one of the allowed words; None, where an option isn't given, is passed over.

    Raises:
        ValueError: with the word that was probably meant, and all that are allowed.

    Example:
        >>> from types import SimpleNamespace
        >>> require_choice(SimpleNamespace(pooling="meen"), "pooling", ["mean", "max"])
        Traceback (most recent call last):
        ValueError: --pooling is 'meen' (did you mean mean?), but must be one of mean, max
    """
    value = getattr(options, name)
    if value is not None and value not in allowed:
        raise ValueError(wrong_choice(f"--{name}", str(value), allowed))


def wrong_choice(option: str, value: str, allowed: Collection[str]) -> str:
    """Says that an option's word is none of those that are allowed."""
    hint = did_you_mean(value, allowed)
    hint = f" ({hint})" if hint else ""
    one_of = "one of " if len(allowed) > 1 else ""
    return f"{option} is {value!r}{hint}, but must be {one_of}{', '.join(allowed)}"


def require_shares(options: Any, *names: str) -> None:
    """Require positive numbers in options of the form MODALITY=NUMBER ...

    Raises:
        ValueError: a value is no number, or not above 0.
    """
    for name in names:
        for text in getattr(options, name) or []:
            try:
                number = float(named_value(text)[1])
            except ValueError:
                number = math.nan
            if not 0 < number < math.inf:
                raise ValueError(f"--{name} has {text!r}, but must have numbers above 0: MODALITY=NUMBER ...")


def require_license(options: Any) -> None:
    """Require that a licence, if there is one, is spelled as the Hub spells licences.

    Raises:
        ValueError: it can't be one.
    """
    value = options.license
    if value is not None and not LICENSE.fullmatch(value):
        hint = did_you_mean(re.sub(r"[\s_]+", "-", value.strip().lower()), LICENSES) if value.strip() else ""
        hint = f" ({hint})" if hint else ""
        raise ValueError(
            f"--license is {value!r}{hint}, but must be the Hub's short name of a licence, in small letters: mit, "
            "apache-2.0, cc-by-nc-4.0, other, ..."
        )


def require_plain_name(name: Any, where: str) -> None:
    """Require a name that can be that of a folder: a recipe's name is part of the default output folder.

    Raises:
        ValueError: it is no text, is empty, or has separators or other characters that folders' names had better not
            have.
    """
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name):
        raise ValueError(
            f"{where}: name is {name!r}, but must be of letters, digits, '.', '-' and '_', and not begin with the last "
            "three: the default output folder is named so"
        )


def check_keys(given: Iterable[Any], allowed: Collection[str], where: str) -> None:
    """Raise a ValueError for the first key that is not allowed, with its nearest relatives and all that are."""
    for key in given:
        if key not in allowed:
            close = difflib.get_close_matches(str(key), allowed)
            hint = f"; did you mean {' or '.join(close)}?" if close else "."
            raise ValueError(f"{where}: unknown key {key!r}{hint} Allowed are {', '.join(sorted(allowed))}")
