"""Probes of features with labels: logistic regression, ridge regression and nearest neighbours."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

STRENGTHS = (0.01, 0.1, 1.0)  # inverse regularisation that the linear probe chooses from
SPARSE_STRENGTHS = (1.0, 10.0, 100.0)  # the same for sparse features, which are not standardised
# Penalties that the ridge probe chooses from, in mean eigenvalues of the features' Gram matrix.
PENALTIES = np.logspace(-5, 2, 15)
SPARSE_PENALTIES = (0.1, 1.0, 10.0)  # the same for sparse features, as they are
METRICS = {"euclid": "minkowski", "cosine": "cosine"}  # of neighbours, and scikit-learn's names
ROWS = 4_096  # that are multiplied at a time, which bounds memory
Features = Any  # [N, D] array or sparse matrix
Labels = np.ndarray | Tensor | Sequence[int]


class Predictions(NamedTuple):
    """What a linear probe says about test samples.

    Attributes:
        classes: [test samples].
        held_out: accuracy on the quarter of the training labels that its regularisation was chosen by; None where some
            class has fewer than 4 samples, and nothing could be held back. Choose layers by it, not by the test split.
    """

    classes: np.ndarray
    held_out: float | None


def linear_probe(train_x: Features, train_y: Labels, test_x: Features, test_y: Labels, seed: int = 0) -> float:
    """Accuracy of logistic regression on standardised features.

    Its regularisation is chosen for each kind of features alone, on a quarter of the training labels: a fixed one
    favours whichever features happen to have the number of dimensions that suits it.

    Args:
        train_x, test_x: [N, D] features. Sparse ones, such as TF-IDF, are taken as they are: standardised, their rarest
            dimensions would weigh most.
        train_y, test_y: N class labels.
        seed: decides the quarter, and `random_state` of the regression.

    Raises:
        ValueError: for fewer than 2 classes, or labels that don't match the features in number.

    Example:
        >>> linear_probe(np.array([[0.0], [1.0]]), [0, 1], np.array([[-1.0], [3.0]]), [0, 1])
        1.0
    """
    train_y, test_y = check_labels(train_x, train_y, test_x, test_y)
    return float(np.mean(linear_predictions(train_x, train_y, test_x, seed).classes == test_y))


def linear_predictions(train_x: Features, train_y: np.ndarray, test_x: Features, seed: int = 0) -> Predictions:
    """What the probe of `linear_probe` predicts for each test sample; arguments as there, labels an array."""
    train_x, test_x = _standardise(train_x, test_x)

    def fit(strength: float, x: Features, y: np.ndarray) -> LogisticRegression:
        probe = LogisticRegression(C=strength, max_iter=300, tol=1e-3, random_state=seed)
        with warnings.catch_warnings():  # few labels in many dimensions: the accuracy has long settled by then
            warnings.simplefilter("ignore", ConvergenceWarning)
            return probe.fit(x, y)

    strengths = SPARSE_STRENGTHS if issparse(train_x) else STRENGTHS
    strength, held_out = strengths[-1], None
    quarter = held_out_quarter(train_y, seed)
    if quarter is not None:
        kept, held = quarter
        scores = {c: fit(c, train_x[kept], train_y[kept]).score(train_x[held], train_y[held]) for c in strengths}
        strength = max(strengths, key=lambda candidate: scores[candidate])
        held_out = float(scores[strength])
    return Predictions(fit(strength, train_x, train_y).predict(test_x), held_out)


# ---- ridge regression ----


def ridge_probe(train_x: Features, train_y: Labels, test_x: Features, test_y: Labels) -> float:
    """Accuracy of a ridge regression onto the classes, in closed form.

    Each class is a target of 0 or 1, and the largest prediction is the answer. The penalty is the one of the best
    accuracy on training samples that are left out one by one, which a single eigendecomposition gives exactly for all
    penalties; of sparse features, on a quarter of the training labels. Nothing is random but that quarter.

    Args:
        train_x, test_x: [N, D] features, standardised here; sparse ones, such as TF-IDF, are taken as they are.
        train_y, test_y: N class labels.

    Raises:
        ValueError: as `linear_probe`.

    Example:
        >>> ridge_probe(np.array([[0.0], [1.0]]), [0, 1], np.array([[-1.0], [3.0]]), [0, 1])
        1.0
    """
    train_y, test_y = check_labels(train_x, train_y, test_x, test_y)
    return float(np.mean(ridge_predictions(train_x, train_y, test_x).classes == test_y))


def ridge_predictions(train_x: Features, train_y: np.ndarray, test_x: Features) -> Predictions:
    """What the probe of `ridge_probe` predicts for each test sample; arguments as there, labels an array."""
    if issparse(train_x):
        return _sparse_ridge(train_x, train_y, test_x)
    train_x, test_x = _standardise(np.asarray(train_x, dtype=np.float32), np.asarray(test_x, dtype=np.float32))
    names, codes = np.unique(train_y, return_inverse=True)
    targets = np.eye(len(names), dtype=np.float32)[codes]  # [N, C]
    offset = targets.mean(0)
    eigenvalues, axes = _principal_axes(train_x)  # [r], [D, r]
    shared = axes.T @ (train_x.T @ (targets - offset))  # [r, C]
    factors = 1 / (eigenvalues + (PENALTIES * eigenvalues.mean())[:, None]).astype(np.float32)  # [penalties, r]
    right = np.zeros(len(factors))
    for start in range(0, len(codes), ROWS):
        rows = slice(start, start + ROWS)
        projected, own = train_x[rows] @ axes, targets[rows] - offset  # [n, r], [n, C]
        for index, factor in enumerate(factors):
            leverage = 1 / len(codes) + projected**2 @ factor  # [n], of a sample on its own prediction
            residual = own - projected @ (factor[:, None] * shared)
            left_out = own - residual / np.maximum(1 - leverage, 1e-6)[:, None]  # predicted without the sample
            right[index] += np.sum((left_out + offset).argmax(1) == codes[rows])
    best = len(factors) - 1 - int(np.argmax(right[::-1]))  # of equally good ones the largest penalty
    weights = axes @ (factors[best][:, None] * shared)  # [D, C]
    held_out = float(right[best] / len(codes)) if np.bincount(codes).min() >= 4 else None
    return Predictions(names[(test_x @ weights + offset).argmax(1)], held_out)


def _principal_axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [r] of X'X that are no rounding, and their vectors [D, r], by the smaller of X'X and XX'."""
    dual = x.shape[0] <= x.shape[1]
    rows = x.T if dual else x
    gram = np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        gram += part.T @ part
    eigenvalues, axes = np.linalg.eigh(gram)
    kept = eigenvalues > 1e-6 * eigenvalues[-1]
    eigenvalues, axes = eigenvalues[kept].astype(np.float32), axes[:, kept].astype(np.float32)
    return eigenvalues, x.T @ (axes / np.sqrt(eigenvalues)) if dual else axes


def _sparse_ridge(train_x: Features, train_y: np.ndarray, test_x: Features) -> Predictions:
    def fit(penalty: float, x: Features, y: np.ndarray) -> RidgeClassifier:
        return RidgeClassifier(penalty, solver="sparse_cg", tol=1e-3).fit(x, y)

    penalty, held_out, quarter = 1.0, None, held_out_quarter(train_y, seed=0)
    if quarter is not None:
        kept, held = quarter
        scores = {a: fit(a, train_x[kept], train_y[kept]).score(train_x[held], train_y[held]) for a in SPARSE_PENALTIES}
        penalty = max(scores, key=lambda candidate: scores[candidate])
        held_out = float(scores[penalty])
    return Predictions(fit(penalty, train_x, train_y).predict(test_x), held_out)


def held_out_quarter(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Indices (kept, held back), classes in proportion; None where a class has fewer than 4 samples."""
    if np.unique(labels, return_counts=True)[1].min() < 4:
        return None
    return tuple(train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=seed))


# ---- nearest neighbours ----


def knn(
    train_x: Features, train_y: Labels, test_x: Features, test_y: Labels, k: int = 5, metric: str = "euclid"
) -> float:
    """Accuracy of a vote of the `k` nearest neighbours.

    Arguments and errors are those of `linear_probe`; of fewer than `k` neighbours all vote.

    Args:
        metric: "euclid" for the distance of standardised features: without standardising, a few channels of large
            variance decide which transformer features are near. "cosine" for the angle of features as they are.

    Raises:
        ValueError: also for another metric.
    """
    train_y, test_y = check_labels(train_x, train_y, test_x, test_y)
    return float(np.mean(knn_predictions(train_x, train_y, test_x, k, metric) == test_y))


def knn_predictions(
    train_x: Features, train_y: np.ndarray, test_x: Features, k: int = 5, metric: str = "euclid"
) -> np.ndarray:
    """What the vote of `knn` predicts for each test sample; arguments as there, labels an array."""
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}, but must be one of {', '.join(METRICS)}")
    if metric == "euclid":
        train_x, test_x = _standardise(train_x, test_x)
    voters = KNeighborsClassifier(n_neighbors=min(k, len(train_y)), metric=METRICS[metric])
    return voters.fit(train_x, train_y).predict(test_x)


def _standardise(train_x: Features, test_x: Features) -> tuple[Features, Features]:
    if issparse(train_x):
        return train_x, test_x
    scaler = StandardScaler().fit(train_x)
    return scaler.transform(train_x), scaler.transform(test_x)


def check_labels(train_x: Any, train_y: Labels, test_x: Any, test_y: Labels) -> tuple[np.ndarray, np.ndarray]:
    """The labels as arrays; `train_x` and `test_x` are features, or the inputs that they will be taken of."""
    train_y, test_y = np.asarray(train_y), np.asarray(test_y)
    for name, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        count = x.shape[0] if issparse(x) else len(x)
        if y.shape != (count,) or not count:
            raise ValueError(f"the {name} labels have shape {y.shape}, but {count} samples need ({count},)")
    if len(np.unique(train_y)) < 2:
        raise ValueError(f"the train labels hold only {np.unique(train_y)}, but a probe needs at least 2 classes")
    return train_y, test_y


def label_subset(labels: Labels, count: int, seed: int) -> np.ndarray:
    """Indices of `count` random samples, classes in proportion and none left out; int64 [count], in order.

    Raises:
        ValueError: if `count` exceeds the samples or falls below the number of classes.

    Example:
        >>> np.bincount(np.array([0] * 90 + [1] * 10)[label_subset([0] * 90 + [1] * 10, 20, seed=0)])
        array([18,  2])
    """
    labels = np.asarray(labels)
    classes = np.unique(labels)
    if count > len(labels):
        raise ValueError(f"{count} labels are asked for, but there are {len(labels)}: choose fewer, or None for all")
    if count < len(classes):
        raise ValueError(f"{count} labels are asked for, but there are {len(classes)} classes: choose at least as many")
    order = np.random.default_rng(seed).permutation(len(labels))
    # A sample's place within its class as a share of that class: the `count` smallest take all classes in proportion,
    # and everyone's first before any second.
    place = np.empty(len(labels))
    for name in classes:
        members = labels[order] == name
        place[members] = np.arange(members.sum()) / members.sum()
    return np.sort(order[np.argsort(place, kind="stable")[:count]])
