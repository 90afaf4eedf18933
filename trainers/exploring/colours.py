"""Colours of positions that show what is there, rather than where it is.

Letters: F positions of all samples together, T positions of one, D channels.
"""

import numpy as np

from ..evaluation.pictures import content_axes, place_in_sample, require_positions, stretched


class ContentColours:
    """Colours of any sample's positions, from some samples' features: equal colours mean alike contents.

    Numbers along the axes of `content_axes` lose the mean of their position over the samples, and are stretched from
    the 2nd to the 98th percentile. A mean is taken out as far as it is one of the position, and not of what happens to
    be there in few samples: n / (n + variance at a position / variance of positions) of it, where n samples have the
    position, which is the best guess if both are normally distributed (a random effect).

    Args:
        features: [F, D] of all positions, sample after sample.
        samples: [F], whose they are, as `frame_features` gives them.

    Raises:
        ValueError: for fewer than 3 positions.

    Example: the position, large as it is, does not matter for the colour.
        >>> content, position = np.random.default_rng(0).normal(size=(30, 4, 3)), np.arange(4.0)[:, None] * [9, 0, 0]
        >>> colours = ContentColours((content + position).reshape(-1, 3), np.repeat(np.arange(30), 4))
        >>> found = colours(np.ones((4, 3)) + position)
        >>> found.shape, bool(np.ptp(found, axis=0).max() < 0.3)
        ((4, 3), True)
    """

    def __init__(self, features: np.ndarray, samples: np.ndarray) -> None:
        require_positions(features)
        self._mean, self._axes = content_axes(features, samples)
        positions = place_in_sample(samples)
        having = np.bincount(positions)[:, None]  # [T, 1], how many samples have each position
        components = (features - self._mean) @ self._axes  # [F, 3]
        sums = np.zeros((len(having), 3))
        np.add.at(sums, positions, components)
        means = sums / having  # [T, 3]
        within = np.square(components - means[positions]).sum(0) / max(1, len(features) - len(having))
        between = np.square(means[positions]).mean(0) - within * len(having) / len(features)
        self._place = means * having / (having + within / np.maximum(between, 1e-12))
        self._low, self._high = np.percentile(self._components(features, positions), [2, 98], axis=0)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """RGB [T, 3] of a sample's features [T, D]."""
        components = self._components(features, np.arange(len(features)))
        return stretched(components, self._low, self._high)

    def _components(self, features: np.ndarray, positions: np.ndarray) -> np.ndarray:
        known = positions < len(self._place)
        place = np.where(known[:, None], self._place[np.where(known, positions, 0)], 0.0)
        return (features - self._mean) @ self._axes - place
