"""Rows of a table that are held out to evaluate on."""

import math
from collections.abc import Hashable, Sequence

import datasets
import numpy as np
from transformers.utils import logging

from ..wording import with_more

logger = logging.get_logger(__name__)


def hold_out(
    table: datasets.Dataset, fraction: float, *, seed: int, classes: Sequence[Hashable] | None = None
) -> datasets.DatasetDict:
    """Draw a share of the rows; with classes the same share of each, of which at least one row stays for training.

    Args:
        table: all rows.
        fraction: share to hold out, between 0 and 1; a part of a row counts as one.
        seed: decides which.
        classes: of each row; None for a plain draw.

    Returns:
        The "train" and the "validation" rows. Those drawn from classes keep the table's order.

    Raises:
        ValueError: nothing would be held out, or nothing be left to train on.

    Example:
        >>> table = datasets.Dataset.from_dict({"label": ["cat"] * 6 + ["dog"] * 3})
        >>> parts = hold_out(table, 1 / 3, seed=0, classes=table["label"])
        >>> sorted(parts["validation"]["label"])
        ['cat', 'cat', 'dog']
    """
    count = math.ceil(round(fraction * len(table), 6))
    if fraction * len(table) < 1 or count >= len(table):
        raise ValueError(
            f"--eval_fraction is {fraction}, but of {len(table):,} rows that is "
            f"{'less than one' if fraction * len(table) < 1 else 'all'}: choose another, or name an --eval_split"
        )
    if classes is None:
        parts = table.train_test_split(test_size=fraction, seed=seed)
        return datasets.DatasetDict(train=parts["train"], validation=parts["test"])
    held = _draw(classes, count, np.random.default_rng(seed))
    kept = np.setdiff1d(np.arange(len(table)), held)
    return datasets.DatasetDict(train=table.select(kept), validation=table.select(held))


def _draw(classes: Sequence[Hashable], count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of about `count` rows, in order: of each class its share, rounded up or down."""
    rows: dict[Hashable, list[int]] = {}
    for index, name in enumerate(classes):
        rows.setdefault(name, []).append(index)
    single = [name for name, own in rows.items() if len(own) == 1]
    if len(single) == len(rows):
        raise ValueError(
            f"--eval_fraction can't hold anything out: each of the {len(rows):,} classes has one row only, which is "
            "needed for training. Name an --eval_split"
        )
    if single:
        shown = with_more(map(repr, single[:5]), len(single))
        logger.warning(f"Classes with one row are trained on, but not evaluated: {shown}.")
    names = list(rows)
    sizes = np.array([len(rows[name]) for name in names])
    shares = sizes * (count / len(classes))
    taken = np.minimum(np.floor(shares + 1e-9), sizes - 1).astype(int)
    able = np.flatnonzero(taken < sizes - 1)
    lacking = np.argsort(taken[able] - shares[able], kind="stable")  # one more of those that lack most of their share
    taken[able[lacking[: count - taken.sum()]]] += 1
    drawn = [rng.permutation(rows[name])[:number] for name, number in zip(names, taken, strict=True)]
    return np.sort(np.concatenate(drawn))
