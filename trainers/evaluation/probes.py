"""Probes of features with labels: logistic regression, ridge regression and nearest neighbours.

Letters: N samples, D channels, r principal axes of the training features, C classes.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from .principal_axes import PrincipalAxes

# What both linear probes choose from, in units of a channel's variance. Smaller penalties would read differences that
# features in half precision do not have (docs/decisions.md).
PENALTIES = 10.0 ** np.arange(2, -5.5, -0.5)
LOGISTIC_PENALTIES = PENALTIES[::2]
UNCHOSEN_PENALTY = 0.1  # of the logistic regression, where a class has too few samples to hold one back
CURVATURE = 0.1  # of the logistic loss, about: makes penalties of both probes comparable
STEPS = 100  # of L-BFGS for each penalty
SPARSE_STRENGTHS = (1.0, 10.0, 100.0)  # inverse penalties for sparse features, which are not scaled
METRICS = {"euclid": "minkowski", "cosine": "cosine"}  # of neighbours, and scikit-learn's names
MOST_HELD_OUT = 2_000  # samples that neighbours' scaling is chosen by
Features = Any  # [N, D] array or sparse matrix
Labels = np.ndarray | Tensor | Sequence[int]


class Predictions(NamedTuple):
    """What a linear probe says about test samples.

    Attributes:
        classes: [test samples].
        held_out: accuracy on training labels that were held back, by which penalty and scaling were chosen; None where
            a class has fewer than 4 samples. Choose layers by it, not by the test split.
    """

    classes: np.ndarray
    held_out: float | None


# ---- logistic regression ----


def linear_probe(train_x: Features, train_y: Labels, test_x: Features, test_y: Labels, seed: int = 0) -> float:
    """Accuracy of logistic regression with an L2 penalty.

    Penalty, and whether each channel is scaled by its own deviation or all by one, are chosen for each kind of features
    alone, on a quarter of the training labels: a fixed choice favours whichever features it happens to suit.

    Args:
        train_x, test_x: [N, D] features. Sparse ones, such as TF-IDF, are taken as they are: standardised, their rarest
            dimensions would weigh most.
        train_y, test_y: N class labels.
        seed: decides the quarter.

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
    quarter = held_out_quarter(train_y, seed)
    if issparse(train_x):
        probes = [LogisticRegression(C=strength, max_iter=300, tol=1e-3) for strength in SPARSE_STRENGTHS]
        return _sparse_predictions(probes, train_x, train_y, test_x, quarter)
    names, codes = np.unique(train_y, return_inverse=True)
    held_out, best = -1.0, (True, UNCHOSEN_PENALTY)
    for each in (True, False) if quarter else ():
        assert quarter is not None
        kept, held = quarter
        axes = PrincipalAxes(train_x, each=each)
        projected, falls = axes.project(train_x), 0
        for penalty in LOGISTIC_PENALTIES:
            fit = _fit_logistic(projected[kept], codes[kept], axes.variances, penalty)
            accuracy = float(np.mean(_logits(projected[held], fit).argmax(1) == codes[held]))
            clearly = np.sqrt(held_out * (1 - held_out) / len(held)) if held_out >= 0 else 0.0  # a standard error
            falls = falls + 1 if accuracy < held_out - clearly else 0
            if accuracy > held_out:
                held_out, best = accuracy, (each, penalty)
            if falls == 2:  # weaker penalties take longest, and would be worse still
                break
    axes = PrincipalAxes(train_x, each=best[0])
    fit = _fit_logistic(axes.project(train_x), codes, axes.variances, best[1])
    return Predictions(names[_logits(axes.project(test_x), fit).argmax(1)], held_out if quarter else None)


class _Logistic(NamedTuple):
    weights: np.ndarray  # [r, C]
    bias: np.ndarray  # [C]


def _logits(projected: np.ndarray, fit: _Logistic) -> np.ndarray:
    """[N, r] to [N, C]."""
    return projected @ fit.weights + fit.bias


def _fit_logistic(projected: np.ndarray, codes: np.ndarray, variances: np.ndarray, penalty: float) -> _Logistic:
    """Minimize the mean cross-entropy plus CURVATURE * penalty * |weights|² / 2 by L-BFGS.

    Each axis is scaled by the root of the loss's curvature along it. Without that, hundreds of steps leave the axes of
    small variance where they were, which then looks as if they held nothing.
    """
    count, classes = len(codes), int(codes.max()) + 1
    scale = np.sqrt(CURVATURE * (variances + penalty)).astype(np.float32)  # [r]
    scaled = projected / scale
    decay = (penalty / (variances + penalty)).astype(np.float32)[:, None]  # [r, 1], the penalty of scaled weights
    rows = np.arange(count)

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        fit = flat.reshape(-1, classes).astype(np.float32)
        weights, bias = fit[:-1], fit[-1]
        logits = scaled @ weights + bias  # [N, C]
        logits -= logits.max(1, keepdims=True)
        shares = np.exp(logits)
        sums = shares.sum(1, keepdims=True)
        loss = np.mean(np.log(sums[:, 0]) - logits[rows, codes]) + (decay * weights**2).sum() / 2
        shares /= sums
        shares[rows, codes] -= 1
        shares /= count
        gradient = np.concatenate([scaled.T @ shares + decay * weights, shares.sum(0, keepdims=True)])
        return float(loss), gradient.ravel().astype(np.float64)

    start = np.zeros((len(variances) + 1) * classes)
    options = {"maxiter": STEPS, "ftol": 1e-6, "gtol": 1e-5}
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x.reshape(-1, classes)
    return _Logistic((found[:-1] / scale[:, None]).astype(np.float32), found[-1].astype(np.float32))


# ---- ridge regression ----


def ridge_probe(train_x: Features, train_y: Labels, test_x: Features, test_y: Labels) -> float:
    """Accuracy of a ridge regression onto the classes, in closed form.

    Each class is a target of 0 or 1, and the largest prediction is the answer. Penalty and scaling are those of the
    best accuracy on training samples that are left out one by one, which one eigendecomposition gives exactly for all
    penalties. Nothing is random, except that sparse features leave out a quarter instead.

    Args:
        train_x, test_x, train_y, test_y: as in `linear_probe`.

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
        probes = [RidgeClassifier(10 / strength, solver="sparse_cg", tol=1e-3) for strength in SPARSE_STRENGTHS]
        return _sparse_predictions(probes, train_x, train_y, test_x, held_out_quarter(train_y, seed=0))
    names, codes = np.unique(train_y, return_inverse=True)
    targets = np.eye(len(names), dtype=np.float32)[codes]  # [N, C]
    offset = targets.mean(0)
    best: tuple[float, np.ndarray] | None = None
    for each in (True, False):
        axes = PrincipalAxes(train_x, each=each)
        accuracy, weights = _fit_ridge(axes.project(train_x), axes.variances, targets - offset, offset)
        if best is None or accuracy > best[0]:
            best = accuracy, axes.project(test_x) @ weights + offset
    assert best is not None
    return Predictions(names[best[1].argmax(1)], best[0] if np.bincount(codes).min() >= 4 else None)


def leave_one_out(x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy of the ridge regression on standardised features of samples that are left out one by one, at its best.

    Args:
        x: [N, D].
        y: N class labels.
    """
    names, codes = np.unique(y, return_inverse=True)
    targets = np.eye(len(names), dtype=np.float32)[codes]  # [N, C]
    axes = PrincipalAxes(x, each=True)
    return _fit_ridge(axes.project(x), axes.variances, targets - targets.mean(0), targets.mean(0))[0]


def _fit_ridge(
    projected: np.ndarray, variances: np.ndarray, centred: np.ndarray, offset: np.ndarray
) -> tuple[float, np.ndarray]:
    """The best accuracy on samples that are left out one by one, and its weights [r, C]."""
    count, codes = len(projected), centred.argmax(1)
    shared = projected.T @ centred / count  # [r, C]
    factors = (1 / (variances + PENALTIES[:, None])).astype(np.float32)  # [penalties, r]
    # Of each sample on its own prediction, [penalties, N]; 1 / N of it by the mean.
    leverages = 1 / count + factors @ (projected**2).T / count
    accuracies = []
    for factor, leverage in zip(factors, leverages, strict=True):
        residual = centred - projected @ (factor[:, None] * shared)
        left_out = centred - residual / np.maximum(1 - leverage, 1e-6)[:, None]
        accuracies.append(float(np.mean((left_out + offset).argmax(1) == codes)))
    best = int(np.argmax(accuracies))  # of equally good ones the largest penalty
    return accuracies[best], factors[best][:, None] * shared


# ---- what both linear probes share ----


def _sparse_predictions(
    probes: Sequence[Any], x: Features, y: np.ndarray, test_x: Features, quarter: tuple[np.ndarray, np.ndarray] | None
) -> Predictions:
    """Of the probes, from weak to strong, that which does best on the held-out quarter; else the last."""
    probe, held_out = probes[-1], None
    if quarter is not None:
        kept, held = quarter
        scores = [float(one.fit(x[kept], y[kept]).score(x[held], y[held])) for one in probes]
        held_out = max(scores)
        probe = probes[scores.index(held_out)]
    with warnings.catch_warnings():  # few labels in many dimensions: the accuracy has long settled by then
        warnings.simplefilter("ignore", ConvergenceWarning)
        return Predictions(probe.fit(x, y).predict(test_x), held_out)


def held_out_quarter(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Indices (kept, held back), classes in proportion; None where a class has fewer than 4 samples."""
    if np.unique(labels, return_counts=True)[1].min() < 4:
        return None
    return tuple(train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=seed))


# ---- nearest neighbours ----


def knn(
    train_x: Features,
    train_y: Labels,
    test_x: Features,
    test_y: Labels,
    k: int = 5,
    metric: str = "euclid",
    seed: int = 0,
) -> float:
    """Accuracy of a vote of the `k` nearest neighbours, each with the weight 1 / distance; of fewer all vote.

    Whether features are standardised or taken as they are is chosen on a quarter of the training labels. Where a class
    has too few for that, they are standardised: without it, a few channels of large variance decide which transformer
    features are near.

    Args:
        train_x, test_x, train_y, test_y: as in `linear_probe`.
        metric: "euclid" or "cosine".
        seed: decides the quarter.

    Raises:
        ValueError: as `linear_probe`, and for another metric.
    """
    train_y, test_y = check_labels(train_x, train_y, test_x, test_y)
    return float(np.mean(knn_predictions(train_x, train_y, test_x, k, metric, seed) == test_y))


def knn_predictions(
    train_x: Features, train_y: np.ndarray, test_x: Features, k: int = 5, metric: str = "euclid", seed: int = 0
) -> np.ndarray:
    """What the vote of `knn` predicts for each test sample; arguments as there, labels an array."""
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}, but must be one of {', '.join(METRICS)}")

    def fit(x: Features, y: np.ndarray) -> KNeighborsClassifier:
        # Votes of one weight would leave ties, of which with few labels there are many, to the order of classes.
        return KNeighborsClassifier(min(k, len(y)), metric=METRICS[metric], weights="distance").fit(x, y)

    standardised, quarter = not issparse(train_x), held_out_quarter(train_y, seed)
    if standardised and quarter is not None:
        kept, held = quarter[0], quarter[1][:MOST_HELD_OUT]
        scores = [
            fit(train[kept], train_y[kept]).score(train[held], train_y[held])
            for train in (train_x, StandardScaler().fit_transform(train_x))
        ]
        standardised = scores[1] >= scores[0]
    if standardised:
        scaler = StandardScaler().fit(train_x)
        train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)
    return fit(train_x, train_y).predict(test_x)


# ---- all of them ----


def all_predictions(
    train_x: Features, train_y: np.ndarray, test_x: Features, *, k: int = 5, seed: int = 0
) -> dict[str, np.ndarray]:
    """What each probe of a table predicts for the test samples, by its name there; arguments as for each of them."""
    return {
        "linear": linear_predictions(train_x, train_y, test_x, seed).classes,
        "ridge": ridge_predictions(train_x, train_y, test_x).classes,
        "kNN": knn_predictions(train_x, train_y, test_x, k, "euclid", seed),
        "kNN, cosine": knn_predictions(train_x, train_y, test_x, k, "cosine", seed),
    }


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
