"""Words of messages: numbers with their nouns, and lists that say how many more there are."""

from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "step"), counted(1_200, "image"), counted(2, "batch")
        ('1 step', '1,200 images', '2 batches')
    """
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Several of a noun, e.g. "images", "patches"."""
    return noun + ("es" if noun.endswith(("ch", "ss")) else "s")


def with_more(shown: Iterable[object], total: int) -> str:
    """Some of so many things, and how many more there are.

    Example:
        >>> with_more(["a", "b"], 2), with_more(["a", "b"], 5)
        ('a, b', 'a, b and 3 more')
    """
    names = list(map(str, shown))
    return ", ".join(names) + (f" and {total - len(names)} more" if total > len(names) else "")
