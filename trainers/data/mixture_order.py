"""In which order a mix takes micro-batches from its modalities: a pure function of the optimizer step."""

import math
from collections.abc import Mapping
from fractions import Fraction

MIXINGS = ("accumulate", "step")


def temperature_shares(tokens: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Shares of modalities, in proportion to tokens^(1/temperature) (multilingual BERT, XLM-R §3.1).

    Args:
        tokens: how many positions (patches, frames, tokens) the data of each modality have.
        temperature: 1 for the data's own proportions; the larger, the more equal the shares.

    Example:
        >>> temperature_shares({"audio": 100, "text": 10_000}, 2.0)
        {'audio': 0.09090909090909091, 'text': 0.9090909090909091}
    """
    if temperature <= 0:
        raise ValueError(f"the mix's temperature is {temperature}, but must be above 0; 1 keeps the data's proportions")
    # Relative to the largest, so that no power overflows.
    largest = max(tokens.values())
    powers = {name: (count / largest) ** (1 / temperature) for name, count in tokens.items()}
    total = sum(powers.values())
    return {name: power / total for name, power in powers.items()}


class MixtureOrder:
    """Whose micro-batches an optimizer step has, and how many of each modality came before it.

    Nothing is random and nothing has to be saved: all processes, and a resumed run, have the same order. With
    "accumulate" every step covers all modalities, each with the same number of micro-batches in every step, one
    modality after the other. With "step" a step has one modality, that which is furthest behind its share.

    Args:
        shares: positive share of the micro-batches of each modality; they need not add up to 1.
        accumulation: micro-batches of an optimizer step, on each process.
        mixing: "accumulate" or "step".
        exact: whether "accumulate" must meet the shares exactly; otherwise they are rounded to whole micro-batches, at
            least one.

    Raises:
        ValueError: shares that are not positive, an unknown `mixing`, or a number of micro-batches with which the
            shares can't be met.

    Example:
        >>> order = MixtureOrder({"audio": 2, "text": 1}, accumulation=3)
        >>> order.step(7), order.before(7)
        (['audio', 'audio', 'text'], {'audio': 14, 'text': 7})
    """

    def __init__(
        self, shares: Mapping[str, float], accumulation: int, mixing: str = "accumulate", *, exact: bool = True
    ) -> None:
        for name, share in shares.items():
            if not (0 < share < math.inf):
                raise ValueError(f"the mix's share of {name} is {share}, but must be a number above 0")
        if mixing not in MIXINGS:
            raise ValueError(f"mixing is {mixing!r}, but must be one of {', '.join(MIXINGS)}")
        self.accumulation, self.mixing = accumulation, mixing
        total = sum(shares.values())
        self.shares = {name: share / total for name, share in shares.items()}
        # With "step": the modality of each step, as far as it was asked for, and how many steps each has.
        self._steps: list[str] = []
        self._chosen = dict.fromkeys(shares, 0)
        if mixing == "accumulate":
            if exact:
                self._check_exact(shares)
            self.counts = self._whole_counts()

    def step(self, number: int) -> list[str]:
        """The modality of each micro-batch of the optimizer step of that number, from 0."""
        if self.mixing == "step":
            self._choose(number + 1)
            return self.accumulation * [self._steps[number]]
        return [name for name, count in self.counts.items() for _ in range(count)]

    def before(self, number: int) -> dict[str, int]:
        """How many micro-batches of each modality the steps before that number have."""
        if self.mixing == "step":
            self._choose(number)
            earlier = self._steps[:number]
            return {name: self.accumulation * earlier.count(name) for name in self.shares}
        return {name: number * count for name, count in self.counts.items()}

    def steps_to_see(self, micro_batches: Mapping[str, int]) -> int:
        """The optimizer steps that take at least so many micro-batches of each modality."""
        if self.mixing == "accumulate":
            return max(-(-count // self.counts[name]) for name, count in micro_batches.items())
        number = max(int(count / (self.accumulation * self.shares[name])) for name, count in micro_batches.items())
        while any(self.before(number)[name] < count for name, count in micro_batches.items()):
            number += 1
        return number

    def _check_exact(self, shares: Mapping[str, float]) -> None:
        fractions = [Fraction(share).limit_denominator(1_000) for share in shares.values()]
        multiple = math.lcm(*((fraction / sum(fractions)).denominator for fraction in fractions))
        if self.accumulation % multiple:
            given = " ".join(f"{name}={share:g}" for name, share in shares.items())
            raise ValueError(
                f"gradient_accumulation_steps is {self.accumulation}, but with the mix {given} each optimizer step "
                f'takes a multiple of {multiple} micro-batches: choose such a number, other shares, or mixing "step"'
            )

    def _whole_counts(self) -> dict[str, int]:
        """Micro-batches of each modality in a step: at least one, the others to whom most is lacking."""
        if self.accumulation < len(self.shares):
            raise ValueError(
                f"gradient_accumulation_steps is {self.accumulation}, but a step covers {len(self.shares)} modalities "
                f'({", ".join(self.shares)}), each with a micro-batch: raise it, or choose mixing "step"'
            )
        counts = dict.fromkeys(self.shares, 1)
        for _ in range(self.accumulation - len(counts)):
            counts[self._furthest_behind(counts, self.accumulation)] += 1
        return counts

    def _furthest_behind(self, counts: Mapping[str, int], total: int) -> str:
        return max(counts, key=lambda name: self.shares[name] * total - counts[name])

    def _choose(self, num_steps: int) -> None:
        """Choose the modality of each of the first steps, with "step"."""
        while len(self._steps) < num_steps:
            name = self._furthest_behind(self._chosen, len(self._steps) + 1)
            self._steps.append(name)
            self._chosen[name] += 1
