"""Learning-rate schedules that transformers doesn't have."""

import math
from collections.abc import Callable, Sequence

TRI_STAGE_START = 0.01  # of the peak, as in the published recipes


def tri_stage(num_steps: int, ratios: Sequence[float], end: float = 0.01) -> Callable[[int], float]:
    """The schedule of the speech recipes: linear warm-up, a plateau, exponential decay.

    Args:
        num_steps: optimizer steps of the run.
        ratios: shares of the three stages, together 1.
        end: the last factor; above 0.

    Returns:
        The factor of the peak learning rate after so many finished steps, from .01 to 1 to `end`.

    Raises:
        ValueError: not three shares that add up to 1, or an `end` outside of (0, 1].

    Example:
        >>> factor = tri_stage(100, (0.1, 0.5, 0.4))
        >>> [round(factor(step), 3) for step in (0, 5, 10, 60, 80, 100)]
        [0.01, 0.505, 1.0, 1.0, 0.1, 0.01]
    """
    if len(ratios) != 3 or min(ratios) < 0 or not math.isclose(sum(ratios), 1.0):
        raise ValueError(f"tri_stage is {list(ratios)}, but must be three shares, not negative, that add up to 1")
    if not 0 < end <= 1:
        raise ValueError(f"tri_stage_end is {end}, but must be above 0 and at most 1")
    warmup, hold, decay = (int(num_steps * ratio) for ratio in ratios)

    def factor(step: int) -> float:
        if step < warmup:
            return TRI_STAGE_START + (1 - TRI_STAGE_START) * step / warmup
        if step < warmup + hold:
            return 1.0
        done = (step - warmup - hold) / decay if decay else 1.0
        return end ** min(1.0, done)

    return factor
