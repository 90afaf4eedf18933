"""Probes of features with labels: logistic regression, ridge regression and nearest neighbours.

Letters: N samples, D channels, r principal axes of the training features, C classes. Labels are one class a sample, or
any number of classes, each learned by itself (`probe_labels.py`).
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from .principal_axes import PrincipalAxes
from .probe_labels import Labels, Targets, check_labels, held_out_quarter, score, varied

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


class Predictions(NamedTuple):
    """What a linear probe says about test samples.

    Attributes:
        answers: classes [test samples]; where samples have several, scores [test samples, C].
        held_out: `score` on training labels that were held back, by which penalty and scaling were chosen; None where a
            class has too few samples. Choose layers by it, not by the test split.
    """

    answers: np.ndarray
    held_out: float | None


# ---- logistic regression ----


def linear_probe(train_x: Features, train_y: Labels, test_x: Features, test_y: Labels, seed: int = 0) -> float:
    """Accuracy of logistic regression with an L2 penalty; of several classes a sample, mean average precision of one
    for each class.

    Penalty, and whether each channel is scaled by its own deviation or all by one, are chosen for each kind of features
    alone, on a quarter of the training labels: a fixed choice favours whichever features it happens to suit.

    Args:
        train_x, test_x: [N, D] features. Sparse ones, such as TF-IDF, are taken as they are: standardised, their rarest
            dimensions would weigh most.
        train_y, test_y: N classes, or N lists of them.
        seed: decides the quarter.

    Raises:
        ValueError: as `check_labels`: for fewer than 2 classes, or labels that don't match the features in number.

    Example:
        >>> linear_probe(np.array([[0.0], [1.0]]), [0, 1], np.array([[-1.0], [3.0]]), [0, 1])
        1.0
    """
    train_y, test_y = check_labels(train_x, train_y, test_x, test_y)
    return score(linear_predictions(train_x, train_y, test_x, seed).answers, test_y)


def linear_predictions(train_x: Features, train_y: np.ndarray, test_x: Features, seed: int = 0) -> Predictions:
    """What the probe of `linear_probe` predicts for each test sample; arguments as there, labels an array."""
    quarter = held_out_quarter(train_y, seed)
    if issparse(train_x):
        probes: list[Any] = [LogisticRegression(C=strength, max_iter=300, tol=1e-3) for strength in SPARSE_STRENGTHS]
        if train_y.ndim == 2:
            probes = [OneVsRestClassifier(probe) for probe in probes]
        return _sparse_predictions(probes, train_x, train_y, test_x, quarter)
    targets = Targets(train_y)
    held_out, best = -1.0, (True, UNCHOSEN_PENALTY)
    for each in (True, False) if quarter else ():
        assert quarter is not None
        kept, held = quarter
        axes = PrincipalAxes(train_x, each=each)
        projected, falls = axes.train, 0
        for penalty in LOGISTIC_PENALTIES:
            fit = _fit_logistic(projected[kept], targets, kept, axes.variances, penalty)
            figure = score(targets.answers(_logits(projected[held], fit)), train_y[held])
            clearly = np.sqrt(held_out * (1 - held_out) / len(held)) if held_out >= 0 else 0.0  # a standard error
            falls = falls + 1 if figure < held_out - clearly else 0
            if figure > held_out:
                held_out, best = figure, (each, penalty)
            if falls == 2:  # weaker penalties take longest, and would be worse still
                break
    axes = PrincipalAxes(train_x, each=best[0])
    fit = _fit_logistic(axes.train, targets, np.arange(len(train_y)), axes.variances, best[1])
    return Predictions(targets.answers(_logits(axes.project(test_x), fit)), held_out if quarter else None)


class _Logistic(NamedTuple):
    weights: np.ndarray  # [r, C]
    bias: np.ndarray  # [C]


def _logits(projected: np.ndarray, fit: _Logistic) -> np.ndarray:
    """[N, r] to [N, C]."""
    return projected @ fit.weights + fit.bias


def _fit_logistic(
    projected: np.ndarray, targets: Targets, chosen: np.ndarray, variances: np.ndarray, penalty: float
) -> _Logistic:
    """Minimize the mean cross-entropy plus CURVATURE * penalty * |weights|² / 2 by L-BFGS; `chosen` are the samples.

    Where samples have several classes it is the binary cross-entropy, summed over them: each class is fitted by itself.

    Each axis is scaled by the root of the loss's curvature along it. Without that, hundreds of steps leave the axes of
    small variance where they were, which then looks as if they held nothing.
    """
    wanted = targets.values[chosen]  # [N, C]
    count, classes = wanted.shape
    scale = np.sqrt(CURVATURE * (variances + penalty)).astype(np.float32)  # [r]
    scaled = projected / scale
    decay = (penalty / (variances + penalty)).astype(np.float32)[:, None]  # [r, 1], the penalty of scaled weights
    data_loss = _softmax_loss if targets.exclusive else _sigmoid_loss

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        fit = flat.reshape(-1, classes).astype(np.float32)
        weights, bias = fit[:-1], fit[-1]
        loss, slopes = data_loss(scaled @ weights + bias, wanted)
        slopes /= count
        gradient = np.concatenate([scaled.T @ slopes + decay * weights, slopes.sum(0, keepdims=True)])
        return float(loss + (decay * weights**2).sum() / 2), gradient.ravel().astype(np.float64)

    start = np.zeros((len(variances) + 1) * classes)
    options = {"maxiter": STEPS, "ftol": 1e-6, "gtol": 1e-5}
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x.reshape(-1, classes)
    if not targets.exclusive:
        found[:-1, ~varied(wanted > 0)] = 0.0  # nothing can be said of them: the same score for all samples
    return _Logistic((found[:-1] / scale[:, None]).astype(np.float32), found[-1].astype(np.float32))


def _softmax_loss(logits: np.ndarray, wanted: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of logits [N, C], which are overwritten, and its slopes times N."""
    logits -= logits.max(1, keepdims=True)
    shares = np.exp(logits)
    sums = shares.sum(1, keepdims=True)
    loss = np.mean(np.log(sums[:, 0]) - (logits * wanted).sum(1))
    return loss, shares / sums - wanted


def _sigmoid_loss(logits: np.ndarray, wanted: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over samples of the binary cross-entropies of logits [N, C], summed over classes; its slopes times N."""
    loss = (np.logaddexp(0, logits) - logits * wanted).sum() / len(logits)
    return loss, expit(logits) - wanted


# ---- ridge regression ----


def ridge_probe(train_x: Features, train_y: Labels, test_x: Features, test_y: Labels) -> float:
    """Accuracy of a ridge regression onto the classes, in closed form; of several a sample, mean average precision.

    Each class is a target of 0 or 1, and the largest prediction is the answer. Penalty and scaling are those of the
    best figure on training samples that are left out one by one, which one eigendecomposition gives exactly for all
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
    return score(ridge_predictions(train_x, train_y, test_x).answers, test_y)


def ridge_predictions(train_x: Features, train_y: np.ndarray, test_x: Features) -> Predictions:
    """What the probe of `ridge_probe` predicts for each test sample; arguments as there, labels an array."""
    if issparse(train_x):
        kind = RidgeClassifier if train_y.ndim == 1 else Ridge
        probes = [kind(10 / strength, solver="sparse_cg", tol=1e-3) for strength in SPARSE_STRENGTHS]
        return _sparse_predictions(probes, train_x, train_y, test_x, held_out_quarter(train_y, seed=0))
    targets = Targets(train_y)
    offset = targets.values.mean(0)
    best: tuple[float, np.ndarray] | None = None
    for each in (True, False):
        axes = PrincipalAxes(train_x, each=each)
        figure, weights = _fit_ridge(axes.train, axes.variances, targets, train_y)
        if best is None or figure > best[0]:
            best = figure, axes.project(test_x) @ weights + offset
    assert best is not None
    rarest = targets.values.sum(0).min() if targets.exclusive else np.inf
    return Predictions(targets.answers(best[1]), best[0] if rarest >= 4 else None)


def leave_one_out(x: np.ndarray, y: np.ndarray) -> float:
    """`score` of the ridge regression on standardised features of samples that are left out one by one, at its best.

    Args:
        x: [N, D].
        y: [N] classes, or bool [N, C].
    """
    axes = PrincipalAxes(x, each=True)
    return _fit_ridge(axes.train, axes.variances, Targets(y), y)[0]


def _fit_ridge(
    projected: np.ndarray, variances: np.ndarray, targets: Targets, y: np.ndarray
) -> tuple[float, np.ndarray]:
    """The best figure on samples that are left out one by one, and its weights [r, C]."""
    count, offset = len(projected), targets.values.mean(0)
    centred = targets.values - offset  # [N, C]
    shared = projected.T @ centred / count  # [r, C]
    factors = (1 / (variances + PENALTIES[:, None])).astype(np.float32)  # [penalties, r]
    # Of each sample on its own prediction, [penalties, N]; 1 / N of it by the mean.
    leverages = 1 / count + factors @ (projected**2).T / count
    figures = []
    for factor, leverage in zip(factors, leverages, strict=True):
        residual = centred - projected @ (factor[:, None] * shared)
        left_out = centred - residual / np.maximum(1 - leverage, 1e-6)[:, None]
        if not targets.exclusive:
            # The mean of the others is lower in a sample's own classes, which would rank it last in each.
            left_out += centred / (count - 1)
        figures.append(score(targets.answers(left_out + offset), y))
    best = int(np.argmax(figures))  # of equally good ones the largest penalty
    return figures[best], factors[best][:, None] * shared


# ---- what both linear probes share ----


def _sparse_predictions(
    probes: Sequence[Any], x: Features, y: np.ndarray, test_x: Features, quarter: tuple[np.ndarray, np.ndarray] | None
) -> Predictions:
    """Of the probes, from weak to strong, that which does best on the held-out quarter; else the last."""
    probe, held_out = probes[-1], None
    with warnings.catch_warnings():  # few labels in many dimensions: the figure has long settled by then
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Label .* is present in all training examples")
        if quarter is not None:
            kept, held = quarter
            scores = [score(_answers(one.fit(x[kept], y[kept]), x[held]), y[held]) for one in probes]
            held_out = max(scores)
            probe = probes[scores.index(held_out)]
        return Predictions(_answers(probe.fit(x, y), test_x), held_out)


def _answers(probe: Any, x: Features) -> np.ndarray:
    """What `score` takes, of a probe of scikit-learn."""
    return probe.decision_function(x) if isinstance(probe, OneVsRestClassifier) else probe.predict(x)


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

    Of several classes a sample, the mean average precision of each class's share of the votes.

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
    return score(knn_predictions(train_x, train_y, test_x, k, metric, seed), test_y)


def knn_predictions(
    train_x: Features, train_y: np.ndarray, test_x: Features, k: int = 5, metric: str = "euclid", seed: int = 0
) -> np.ndarray:
    """What the vote of `knn` predicts for each test sample; arguments as there, labels an array."""
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}, but must be one of {', '.join(METRICS)}")

    def answers(x: Features, y: np.ndarray, others: Features) -> np.ndarray:
        # Votes of one weight would leave ties, of which with few labels there are many, to the order of classes.
        kind = KNeighborsClassifier if y.ndim == 1 else KNeighborsRegressor
        voters = kind(min(k, len(y)), metric=METRICS[metric], weights="distance")
        return voters.fit(x, y if y.ndim == 1 else y.astype(np.float32)).predict(others)

    standardised, quarter = not issparse(train_x), held_out_quarter(train_y, seed)
    if standardised and quarter is not None:
        kept, held = quarter[0], quarter[1][:MOST_HELD_OUT]
        scores = [
            score(answers(train[kept], train_y[kept], train[held]), train_y[held])
            for train in (train_x, StandardScaler().fit_transform(train_x))
        ]
        standardised = scores[1] >= scores[0]
    if standardised:
        scaler = StandardScaler().fit(train_x)
        train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)
    return answers(train_x, train_y, test_x)


# ---- all of them ----


def all_predictions(
    train_x: Features, train_y: np.ndarray, test_x: Features, *, k: int = 5, seed: int = 0
) -> dict[str, np.ndarray]:
    """What each probe of a table predicts for the test samples, by its name there; arguments as for each of them."""
    return {
        "linear": linear_predictions(train_x, train_y, test_x, seed).answers,
        "ridge": ridge_predictions(train_x, train_y, test_x).answers,
        "kNN": knn_predictions(train_x, train_y, test_x, k, "euclid", seed),
        "kNN, cosine": knn_predictions(train_x, train_y, test_x, k, "cosine", seed),
    }
