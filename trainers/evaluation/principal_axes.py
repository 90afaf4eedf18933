"""Scaled features in their principal axes, where a ridge penalty is a matter of one number for each axis.

Letters: N samples, D channels, r principal axes.
"""

from collections.abc import Iterator

import numpy as np

BLOCK = 4_096  # rows or columns that are held in double precision at a time, which bounds memory
ROUNDING = 1e-12  # share of the largest eigenvalue below which there is nothing but rounding


class PrincipalAxes:
    """Centers and scales features, and turns them to the axes of the training features' covariance.

    The eigenvectors are those of X'X, or of XX' where samples are fewer than channels. In double precision: of a
    transformer's features variances differ by a factor of a million, and the small ones matter. Where samples are
    fewer, the eigenvectors of X'X are never made: products with the training features do for them.

    Args:
        train_x: [N, D].
        each: whether each channel is divided by its own standard deviation, or all of them by one number.

    Attributes:
        variances: fp64 [r], of the scaled training features along each axis, the largest last. Their mean over all
            channels that vary is 1.
        train: fp32 [N, r], the training features in these axes, as `project` gives them.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3)) * [1, 10, 0]
        >>> axes = PrincipalAxes(x, each=True)
        >>> axes.project(x).shape, round(float(axes.variances.sum()), 6)
        ((100, 2), 2.0)
    """

    def __init__(self, train_x: np.ndarray, *, each: bool) -> None:
        self.mean = train_x.mean(0, dtype=np.float64)
        std = train_x.std(0, dtype=np.float64)
        varies = std > 1e-6 * np.maximum(np.abs(self.mean), 1e-30)  # else it is rounding
        typical = np.sqrt(np.mean(std[varies] ** 2)) if varies.any() else 1.0
        self.scale = np.where(varies, std if each else typical, np.inf)  # of what does not vary nothing is left
        if len(train_x) > train_x.shape[1]:
            gram = sum(part.T @ part for part in self._rows(train_x))
            values, self._axes = _eigenvectors(gram)  # [D, r]
            self._wide_x: np.ndarray | None = None
            self.train = self.project(train_x)
        else:
            gram = sum(part @ part.T for part in self._columns(train_x))
            values, vectors = _eigenvectors(gram)
            self._wide_x, self._axes = train_x, vectors / np.sqrt(values)  # [N, r]
            self.train = (vectors * np.sqrt(values)).astype(np.float32)
        self.variances = values / len(train_x)  # [r]

    def _rows(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Scaled features, fp64 [n, D] of some samples after the others."""
        for start in range(0, len(x), BLOCK):
            yield (x[start : start + BLOCK] - self.mean) / self.scale

    def _columns(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Scaled features, fp64 [N, d] of some channels after the others."""
        for start in range(0, x.shape[1], BLOCK):
            some = slice(start, start + BLOCK)
            yield (x[:, some] - self.mean[some]) / self.scale[some]

    def project(self, x: np.ndarray) -> np.ndarray:
        """Turn [N, D] features, of any samples, to fp32 [N, r]."""
        if self._wide_x is None:
            return np.concatenate([(part @ self._axes).astype(np.float32) for part in self._rows(x)])
        projected = []
        for start in range(0, len(x), BLOCK):
            pairs = zip(self._columns(x[start : start + BLOCK]), self._columns(self._wide_x), strict=True)
            projected.append((sum(part @ train.T for part, train in pairs) @ self._axes).astype(np.float32))
        return np.concatenate(projected)


def _eigenvectors(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(gram)
    kept = values > max(ROUNDING * values[-1], 1e-30)
    return values[kept], vectors[:, kept]
