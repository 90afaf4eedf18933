"""95% confidence intervals of figures measured on a limited number of test samples."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

CONFIDENCE = 0.95
REPLICATES = 2_000  # enough for the two percentiles to be stable to a tenth of the interval's width
CHUNK = 4_000_000  # numbers of weights that are drawn at a time


@dataclass(frozen=True)
class Interval:
    """A figure and the bounds that it is expected between.

    Attributes:
        value: measured on all samples.
        low, high: bounds of the 95% confidence interval.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is distinguishable from none."""
        return self.low > 0 or self.high < 0


def bootstrap(scores: np.ndarray, *, replicates: int = REPLICATES, seed: int = 0) -> Interval:
    """Percentile bootstrap of a mean over test samples (Efron 1979), and over repetitions where there are several.

    Samples are drawn with replacement; of several repetitions (label subsets), so are the repetitions, independently
    (the "pigeonhole" bootstrap, Owen 2007): the interval then covers both which samples were tested and which labels
    were drawn. For a difference between two models tested on the same samples give the difference of their scores: a
    paired bootstrap, in which what is hard for both cancels out.

    Args:
        scores: [N], one for each sample, e.g. 1.0 where a prediction is right; or [S, N] of S repetitions.
        replicates: how often to draw.
        seed: of the draws.

    Raises:
        ValueError: for fewer than 2 samples, or scores of another shape.

    Example:
        >>> bootstrap(np.array([1.0] * 80 + [0.0] * 20))
        Interval(value=0.8, low=0.72, high=0.87)
    """
    scores = np.atleast_2d(np.asarray(scores, dtype=np.float64))  # [S, N]
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(
            f"scores has shape {scores.shape}, but must be [samples] or [repetitions, samples], samples >= 2"
        )
    repetitions, count = scores.shape
    rng = np.random.default_rng(seed)
    means = []
    for size in _chunks(replicates, max(1, CHUNK // count)):
        weights = rng.multinomial(count, np.full(count, 1 / count), size)  # [size, N], how often a sample is drawn
        repeated = rng.multinomial(repetitions, np.full(repetitions, 1 / repetitions), size)  # [size, S]
        means.append(((repeated @ scores) * weights).sum(1) / (repetitions * count))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(float(scores.mean()), float(low), float(high))


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def jackknife(statistic: Callable[[np.ndarray], float], count: int, *, groups: int = 20, seed: int = 0) -> Interval:
    """Grouped jackknife (Tukey 1958): an interval for a figure of the samples as a set, such as an effective rank.

    The bootstrap draws samples twice, which look like perfect neighbours to whatever compares samples with each other.
    The jackknife leaves out one group after the other instead. The interval is symmetric, from Student's t.

    Args:
        statistic: from indices, int64 [n], to the figure of these samples.
        count: number of samples.
        groups: how many random groups the samples are divided into; never more than `count`.
        seed: decides the groups.

    Raises:
        ValueError: for fewer than 2 samples or groups.

    Example:
        >>> values = np.arange(100.0)
        >>> interval = jackknife(lambda chosen: values[chosen].mean(), 100)
        >>> round(interval.value, 1), interval.low < 49.5 < interval.high
        (49.5, True)
    """
    kept = kept_without_groups(count, groups=groups, seed=seed)
    values = np.array([statistic(np.flatnonzero(one)) for one in kept])
    return jackknife_of(np.array([[statistic(np.arange(count)), *values]]))


def kept_without_groups(count: int, *, groups: int = 20, seed: int = 0) -> np.ndarray:
    """Which samples stay where one of the random groups of `jackknife` is left out, for each group: bool [groups, N].

    Raises:
        ValueError: for fewer than 2 samples or groups.
    """
    groups = min(groups, count)
    if groups < 2:
        raise ValueError(f"{count} sample(s) in {groups} group(s) give no interval: at least 2 of each are needed")
    kept, shuffled = np.ones((groups, count), dtype=bool), np.random.default_rng(seed).permutation(count)
    for group, members in enumerate(kept):
        members[shuffled[group::groups]] = False
    return kept


def jackknife_of(figures: np.ndarray) -> Interval:
    """The interval of `jackknife`, of figures that were computed; of several repetitions (label subsets) their mean.

    The variance of the repetitions' mean is added to that of the samples: the interval then covers both. For a
    difference between two models give the difference of their figures.

    Args:
        figures: [S, 1 + groups] of S repetitions: of all samples, then without one group after the other.
    """
    value, *left_out = figures.mean(0)
    groups = len(left_out)
    variance = (groups - 1) * np.var(left_out)
    if len(figures) > 1:
        variance += np.var(figures[:, 0], ddof=1) / len(figures)
    reach = float(student_t.ppf(0.5 + CONFIDENCE / 2, groups - 1) * np.sqrt(variance))
    return Interval(float(value), float(value) - reach, float(value) + reach)
