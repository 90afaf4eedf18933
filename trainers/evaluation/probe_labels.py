"""Labels of probes, one class or any number of classes a sample: checked, divided, and what answers are worth.

Letters: N samples, C classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection import train_test_split
from torch import Tensor
from transformers.utils import logging

from ..wording import with_more

logger = logging.get_logger(__name__)

Labels = np.ndarray | Tensor | Sequence[int] | Sequence[Sequence[Any]]
ACCURACY, MEAN_AVERAGE_PRECISION = "accuracy", "mean average precision"
# What an answer without any knowledge has of each figure.
CHANCE = {ACCURACY: "most frequent class", MEAN_AVERAGE_PRECISION: "equal scores for all samples"}
LISTS = list | tuple | set | frozenset


def check_labels(train_x: Any, train_y: Labels, test_x: Any, test_y: Labels) -> tuple[np.ndarray, np.ndarray]:
    """The labels as arrays: [N] classes, or where rows are lists of classes bool [N, C], true at those that a row has.

    C are the classes of both splits; those that the training split lacks count as not found (and are named).

    Args:
        train_x, test_x: features, or the inputs that they will be taken of.
        train_y, test_y: N classes, or N lists of them.

    Raises:
        ValueError: they don't match the samples in number, one split has lists and the other has none, or there is
            nothing to tell apart.

    Example:
        >>> check_labels("ab", [["dog"], ["cat", "dog"]], "c", [[]])
        (array([[ True, False],
               [ True,  True]]), array([[False, False]]))
    """
    lists = {name: _are_lists(name, labels) for name, labels in (("train", train_y), ("test", test_y))}
    if lists["train"] != lists["test"]:
        one, other = ("train", "test") if lists["train"] else ("test", "train")
        raise ValueError(
            f"the {one} labels are lists of classes, but the {other} labels are single classes: write both as lists"
        )
    found = marks_of(train_y, test_y) if lists["train"] else (np.asarray(train_y), np.asarray(test_y))
    for name, x, y in (("train", train_x, found[0]), ("test", test_x, found[1])):
        count = x.shape[0] if issparse(x) else len(x)
        if y.shape[:1] != (count,) or not count or (y.ndim > 1 and not lists[name]):
            raise ValueError(f"the {name} labels have shape {y.shape}, but {count} samples need ({count},)")
    train_y, test_y = found
    if train_y.ndim == 2 and not varied(train_y).any():
        raise ValueError("the train labels are the same lists for all samples, but a probe needs a class to tell apart")
    if train_y.ndim == 1 and len(np.unique(train_y)) < 2:
        raise ValueError(f"the train labels hold only {np.unique(train_y)}, but a probe needs at least 2 classes")
    if train_y.ndim == 1 and (unseen := np.setdiff1d(test_y, train_y)).size:
        logger.warning(
            f"{np.isin(test_y, unseen).sum():,} of {len(test_y):,} test samples are of classes that the training split "
            f"lacks ({with_more(unseen[:5], len(unseen))}): no probe can find them, and they count as errors."
        )
    return train_y, test_y


def _are_lists(name: str, labels: Any) -> bool:
    """Whether the rows are lists of classes."""
    if isinstance(labels, np.ndarray | Tensor):
        return False
    several = [isinstance(row, LISTS) for row in labels]
    if any(several) and not all(several):
        row = several.index(not several[0])
        raise ValueError(
            f"the {name} labels are lists of classes in some rows and single classes in others (row {row + 1}: "
            f"{labels[row]!r}): write all as lists"
        )
    return any(several)


def marks_of(*splits: Any) -> tuple[np.ndarray, ...]:
    """Lists of classes as bool [N, C] for each split, true at the classes that a row has; C are those of all splits."""
    names = dict.fromkeys(name for labels in splits for row in labels for name in row)
    place = {name: column for column, name in enumerate(names)}
    found = []
    for labels in splits:
        marks = np.zeros((len(labels), len(names)), dtype=bool)
        for number, row in enumerate(labels):
            marks[number, [place[name] for name in row]] = True
        found.append(marks)
    return tuple(found)


def varied(marks: np.ndarray) -> np.ndarray:
    """Which classes some sample has and another lacks: bool [N, C] to bool [C]. No other can be learned."""
    return np.array(marks.any(0) & ~marks.all(0))


# ---- what answers are worth ----


def metric_of(y: np.ndarray) -> str:
    """The figure of answers to these labels."""
    return ACCURACY if y.ndim == 1 else MEAN_AVERAGE_PRECISION


def score(answers: np.ndarray, y: np.ndarray) -> float:
    """Accuracy of classes [N], or mean average precision of scores [N, C]."""
    return float(np.mean(answers == y) if y.ndim == 1 else mean_average_precision(answers, y))


def num_classes(y: np.ndarray) -> int:
    """How many classes there are."""
    return len(np.unique(y)) if y.ndim == 1 else y.shape[1]


def chance(y: np.ndarray) -> float:
    """`score` of the most frequent class, or of equal scores for all samples."""
    if y.ndim == 1:
        return float(np.unique(y, return_counts=True)[1].max() / len(y))
    return score(np.zeros(y.shape), y)


def mean_average_precision(scores: np.ndarray, marks: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Mean over classes of the average precision of the samples sorted by their score, AudioSet's figure.

    A class's average precision is the mean, over the samples that have it, of the share of such samples among all with
    at least their score. Classes that no sample has are left out of the mean: theirs is not defined.

    Args:
        scores: [N, C], the larger the more likely; only their order counts.
        marks: [N, C], true or 1 at the classes that a sample has.
        counted: bool [W, N], which samples count for each of W figures; default: all for a single one.

    Returns:
        fp64 [W], or a single number without `counted`; 0 where no sample has a class.

    Example:
        >>> scores = np.array([[0.9, 0.2], [0.4, 0.8], [0.6, 0.3]])
        >>> float(mean_average_precision(scores, np.array([[1, 0], [1, 1], [0, 1]])))
        0.9166666666666666
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    ordered, has = (np.take_along_axis(values, order, 0) for values in (scores, np.asarray(marks, bool)))  # [N, C]
    count = len(order)
    # Samples of equal scores come all at once: each sees what is found at the end of its tie.
    ends = np.full(scores.shape, count - 1)
    ends[:-1] = np.where(ordered[:-1] != ordered[1:], np.arange(count - 1)[:, None], count - 1)
    ends = np.minimum.accumulate(ends[::-1], axis=0)[::-1]
    figures = []
    for chosen in np.ones((1, count), bool) if counted is None else counted:
        real = chosen[order]  # [N, C]
        found, seen = (np.take_along_axis(np.cumsum(each, 0), ends, 0) for each in (real & has, real))
        total = (real & has).sum(0)
        sums = ((real & has) * (found / np.maximum(seen, 1))).sum(0)
        figures.append((sums[total > 0] / total[total > 0]).mean() if total.any() else 0.0)
    return np.array(figures[0] if counted is None else figures)


class Targets:
    """Labels as the numbers that a probe fits, and its outputs as answers.

    Args:
        y: [N] classes, or bool [N, C].

    Attributes:
        values: fp32 [N, C], 1 at the classes that a sample has.
        exclusive: whether each has exactly one.
    """

    def __init__(self, y: np.ndarray) -> None:
        self.exclusive = y.ndim == 1
        if self.exclusive:
            self.names, codes = np.unique(y, return_inverse=True)
            self.values = np.eye(len(self.names), dtype=np.float32)[codes]
        else:
            self.values = y.astype(np.float32)

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs [n, C] as what `score` takes: the class of the largest, or the outputs themselves."""
        return self.names[outputs.argmax(1)] if self.exclusive else outputs


# ---- parts of the labels ----


def strata(y: np.ndarray) -> np.ndarray:
    """What samples are divided by: their class, or the rarest of their classes; -1 for none. [N]"""
    if y.ndim == 1:
        return y
    rarest = np.where(y, y.sum(0), len(y) + 1).argmin(1)
    return np.where(y.any(1), rarest, -1)


def held_out_quarter(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Indices (kept, held back), classes in proportion; None where a class has fewer than 4 samples.

    Of samples with several classes, a class with fewer than 4 stays with those that are kept; None where no sample is
    left, or no class of those held back could be told apart.
    """
    if labels.ndim == 1:
        if np.unique(labels, return_counts=True)[1].min() < 4:
            return None
        return tuple(train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=seed))
    kept = label_subset(labels, math.ceil(0.75 * len(labels)), seed)
    held = np.setdiff1d(np.arange(len(labels)), kept)
    return (kept, held) if (varied(labels[kept]) & labels[held].any(0)).any() else None


def usual_counts(labels: Labels, most: int) -> list[int | None]:
    """How many labels to probe with where nobody says it: the first `most` of 100, 1,000 and 10,000, and all (None).

    Counts that can't be had are left out: as many labels as there are, and fewer than classes.

    Example:
        >>> usual_counts([0, 1] * 600, 2), usual_counts([0, 1] * 20, 2), usual_counts(list(range(300)) * 5, 2)
        ([100, 1000, None], [None], [1000, None])
    """
    classes = 0 if _are_lists("train", labels) else num_classes(np.asarray(labels))
    return [*[count for count in (100, 1_000, 10_000) if classes <= count < len(labels)][:most], None]


def label_subset(labels: Labels, count: int, seed: int) -> np.ndarray:
    """Indices of `count` random samples, classes in proportion and none left out; int64 [count], in order.

    Of samples with several classes (bool [N, C]) the rarest of each one counts, and classes are left out where `count`
    falls below their number.

    Raises:
        ValueError: if `count` exceeds the samples or falls below the number of classes.

    Example:
        >>> np.bincount(np.array([0] * 90 + [1] * 10)[label_subset([0] * 90 + [1] * 10, 20, seed=0)])
        array([18,  2])
    """
    labels = np.asarray(labels)
    if count > len(labels):
        raise ValueError(f"{count} labels are asked for, but there are {len(labels)}: choose fewer, or all")
    if labels.ndim == 1 and count < num_classes(labels):
        raise ValueError(
            f"{count} labels are asked for, but there are {num_classes(labels)} classes: choose at least as many"
        )
    if count < 2:
        raise ValueError(f"{count} labels are asked for, but a probe needs at least 2 samples to tell apart")
    labels = strata(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    # A sample's place within its class as a share of that class: the `count` smallest take all classes in proportion,
    # and everyone's first before any second.
    place = np.empty(len(labels))
    for name in np.unique(labels):
        members = labels[order] == name
        place[members] = np.arange(members.sum()) / members.sum()
    return np.sort(order[np.argsort(place, kind="stable")[:count]])
