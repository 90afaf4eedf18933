"""Names of weights there and here, in both directions by one table."""

import re
from collections.abc import Iterable
from itertools import zip_longest

NUMBER = re.compile(r"\{([+-]\d+)?\}")


class Renaming:
    """Pairs of names or, where they end in a point, beginnings of names.

    `{}` stands for a number, `{-1}` on our side for one less than theirs.

    Args:
        pairs: (theirs, ours); the first that matches is taken, so the longer beginning comes first.

    Example:
        >>> names = Renaming([("blocks.{}.attn.", "layers.{-1}.attention."), ("mask_emb", "mask_token")])
        >>> names.ours("blocks.3.attn.bias"), names.theirs("layers.2.attention.bias"), names.ours("surprise")
        ('layers.2.attention.bias', 'blocks.3.attn.bias', None)
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]):
        self.pairs = tuple(pairs)

    def ours(self, name: str) -> str | None:
        """Our name for theirs; None if it is not in the table."""
        return self._renamed(name, self.pairs, 1)

    def theirs(self, name: str) -> str | None:
        """Their name for ours; None if it is not in the table."""
        return self._renamed(name, ((ours, theirs) for theirs, ours in self.pairs), -1)

    def _renamed(self, name: str, pairs: Iterable[tuple[str, str]], direction: int) -> str | None:
        for source, target in pairs:
            literals = [re.escape(part) for part in NUMBER.split(source)[::2]]
            pattern = r"(\d+)".join(literals) + ("" if source.endswith(".") else "$")
            if not (match := re.match(pattern, name)):
                continue
            offsets = zip(NUMBER.findall(source), NUMBER.findall(target), strict=True)
            # The offset stands on our side, which is the target of one direction and the source of the other.
            shifts = [direction * int((there if direction > 0 else here) or 0) for here, there in offsets]
            numbers = [str(int(number) + shift) for number, shift in zip(match.groups(), shifts, strict=True)]
            pieces = zip_longest(NUMBER.split(target)[::2], numbers, fillvalue="")
            return "".join(piece for pair in pieces for piece in pair) + name[match.end() :]
        return None
