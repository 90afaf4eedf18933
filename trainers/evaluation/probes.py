"""Two probes of features with labels: logistic regression and nearest neighbours."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

STRENGTHS = (0.01, 0.1, 1.0)  # inverse regularisation that the linear probe chooses from
SPARSE_STRENGTHS = (1.0, 10.0, 100.0)  # the same for sparse features, which are not standardised
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


def held_out_quarter(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Indices (kept, held back), classes in proportion; None where a class has fewer than 4 samples."""
    if np.unique(labels, return_counts=True)[1].min() < 4:
        return None
    return tuple(train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=seed))


def knn(train_x: Features, train_y: Labels, test_x: Features, test_y: Labels, k: int = 5) -> float:
    """Accuracy of a vote of the `k` nearest neighbours by Euclidean distance of standardised features.

    Without standardising, a few channels of large variance decide which transformer features are near. Not the cosine:
    once features are centred, those of a typical image have no sure direction, and on the digits it was the worse of
    the two for raw pixels and pooled features. Arguments and errors are those of `linear_probe`; of fewer than `k`
    neighbours all vote.
    """
    train_y, test_y = check_labels(train_x, train_y, test_x, test_y)
    return float(np.mean(knn_predictions(train_x, train_y, test_x, k) == test_y))


def knn_predictions(train_x: Features, train_y: np.ndarray, test_x: Features, k: int = 5) -> np.ndarray:
    """What the vote of `knn` predicts for each test sample; arguments as there, labels an array."""
    train_x, test_x = _standardise(train_x, test_x)
    return KNeighborsClassifier(n_neighbors=min(k, len(train_y))).fit(train_x, train_y).predict(test_x)


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
