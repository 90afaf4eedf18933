"""Probes: they find what is there, nothing where there is nothing, and scale does not matter."""

import warnings

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split

from modeling_data2vec.trainers.evaluation import probes
from modeling_data2vec.trainers.evaluation.principal_axes import PrincipalAxes
from modeling_data2vec.trainers.evaluation.probe_labels import label_subset, mean_average_precision
from modeling_data2vec.trainers.evaluation.probes import (
    LOGISTIC_PENALTIES,
    PENALTIES,
    knn,
    knn_predictions,
    linear_predictions,
    linear_probe,
    ridge_predictions,
    ridge_probe,
)


@pytest.fixture(scope="module")
def blobs():
    """400 points of 4 classes, well apart, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    return (10 * np.eye(4)[labels] + rng.normal(size=(400, 4))).astype(np.float32), labels


@pytest.mark.parametrize("probe", [linear_probe, ridge_probe, knn])
def test_separable_features_give_one_and_shuffled_labels_chance(probe, blobs):
    x, y = blobs
    assert probe(x[:200], y[:200], x[200:], y[200:]) == 1.0
    shuffled = np.random.default_rng(1).permutation(y)
    assert 0.13 < probe(x[:200], shuffled[:200], x[200:], shuffled[200:]) < 0.37


@pytest.mark.parametrize("probe", [linear_probe, ridge_probe, knn])
def test_scale_and_offset_of_features_do_not_matter(probe, blobs):
    x, y = blobs
    x = x + 4 * np.random.default_rng(2).normal(size=x.shape).astype(np.float32)  # hard enough to be below 1
    plain = probe(x[:200], y[:200], x[200:], y[200:])
    x = x * np.array([1, 100, 0.01, 1], np.float32) + np.array([0, 5, 0, -3], np.float32)
    assert plain < 1.0 and probe(x[:200], y[:200], x[200:], y[200:]) == pytest.approx(plain, abs=0.011)


def test_no_warning_leaks():
    rng = np.random.default_rng(0)
    x, y = np.exp(3 * rng.normal(size=(300, 30))), rng.integers(0, 10, 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear_probe(x, y, x, y)


def test_labels_of_any_kind_and_few_neighbours(blobs):
    x, y = blobs
    expected = knn(x[:3], y[:3], x, y)
    assert knn(x[:3], list(y[:3]), x, torch.tensor(y)) == expected
    assert knn(x[:40], [f"class {n}" for n in y[:40]], x, [f"class {n}" for n in y]) == 1.0


@pytest.mark.parametrize("probe", [linear_probe, ridge_probe, knn])
def test_errors_of_probes(probe, blobs):
    x, y = blobs
    with pytest.raises(ValueError, match="at least 2 classes"):
        probe(x, y * 0, x, y)
    with pytest.raises(ValueError, match=r"train labels have shape \(399,\), but 400"):
        probe(x, y[1:], x, y)
    with pytest.raises(ValueError, match="test labels"):
        probe(x, y, x[:0], y[:0])


def test_label_subsets_are_stratified_reproducible_and_nested():
    labels = np.random.default_rng(0).permutation([0] * 600 + [1] * 300 + [2] * 97 + [3] * 3)
    chosen = label_subset(labels, 100, seed=0)
    assert len(set(chosen)) == 100
    assert np.abs(np.bincount(labels[chosen]) - [60, 30, 9.7, 0.3]).max() <= 1
    assert (np.bincount(labels[label_subset(labels, 4, seed=0)]) == 1).all()
    np.testing.assert_array_equal(chosen, label_subset(labels, 100, seed=0))
    assert set(chosen) != set(label_subset(labels, 100, seed=1))
    assert set(chosen) < set(label_subset(labels, 200, seed=0))
    np.testing.assert_array_equal(label_subset(labels, 1000, seed=0), np.arange(1000))
    with pytest.raises(ValueError, match="1001 labels.*there are 1000"):
        label_subset(labels, 1001, seed=0)
    with pytest.raises(ValueError, match="3 labels.*4 classes"):
        label_subset(labels, 3, seed=0)


@pytest.mark.parametrize("probe", [linear_probe, ridge_probe, knn])
def test_sparse_features_are_taken_as_they_are(probe):
    """Rows of counts, of which one column in 200 tells the class; none of it may become dense or be rescaled."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    counts = (rng.random((400, 200)) < 0.02).astype(np.float32)
    counts[np.arange(400), labels] = 3.0
    x = csr_matrix(counts)
    kept = x.copy()
    assert probe(x[:200], labels[:200], x[200:], labels[200:]) == 1.0
    assert (x != kept).nnz == 0
    with pytest.raises(ValueError, match=r"train labels have shape \(199,\), but 200 samples"):
        probe(x[:200], labels[:199], x[200:], labels[200:])


def test_cosine_is_of_the_angle(blobs):
    x, y = blobs
    length = np.random.default_rng(0).uniform(0.1, 9, (400, 1))
    assert knn(x[:200] * length[:200], y[:200], x[200:], y[200:], metric="cosine") == 1.0
    assert knn(-x[:200], y[:200], x[200:], y[200:], metric="cosine") < 0.3
    with pytest.raises(ValueError, match="metric is 'manhattan', but must be one of euclid, cosine"):
        knn(x, y, x, y, metric="manhattan")


@pytest.fixture(params=[4, 300], ids="{} dimensions".format)
def few(request):
    """120 samples of 3 classes of unequal size, channels of unequal variance, and 200 to test."""
    rng = np.random.default_rng(0)
    y, test_y = rng.permutation([0] * 70 + [1] * 30 + [2] * 20), rng.integers(0, 3, 200)
    scale = rng.uniform(0.1, 10, request.param)
    x, test_x = (rng.normal(size=(len(one), request.param)) + 1.5 * np.eye(request.param)[one] for one in (y, test_y))
    return x * scale + 3, y, test_x * scale + 3, test_y


def scalings(x, test_x):
    """Each channel divided by its own deviation, and all by one number."""
    for deviation in (x.std(0), np.sqrt(x.var(0).mean())):
        yield (x - x.mean(0)) / deviation, (test_x - x.mean(0)) / deviation


def test_ridge_is_scikit_learns_with_the_penalty_and_scaling_that_leaving_one_out_chooses(few, monkeypatch):
    """By the smaller of two Gram matrices, whichever it is."""
    x, y, test_x, _ = few
    monkeypatch.setattr(probes, "PENALTIES", PENALTIES[2::6])
    best = (-1.0, None)
    for train, test in scalings(x, test_x):
        for penalty in PENALTIES[2::6]:
            fits = [Ridge(penalty * 120).fit(np.delete(train, i, 0), np.eye(3)[np.delete(y, i)]) for i in range(120)]
            right = np.mean([fit.predict(train[i : i + 1]).argmax() == y[i] for i, fit in enumerate(fits)])
            if right > best[0]:
                best = right, Ridge(penalty * 120).fit(train, np.eye(3)[y]).predict(test).argmax(1)
    found = ridge_predictions(x, y, test_x)
    assert found.held_out == pytest.approx(best[0], abs=1e-6)
    assert (found.answers == best[1]).mean() >= 0.99


def test_logistic_regression_is_scikit_learns_with_the_penalty_and_scaling_of_a_held_out_quarter(few):
    x, y, test_x, _ = few
    kept, held = train_test_split(np.arange(120), test_size=0.25, stratify=y, random_state=0)
    best = (-1.0, None)
    for train, test in scalings(x, test_x):
        for penalty in LOGISTIC_PENALTIES:
            of_all, of_kept = (
                LogisticRegression(C=1 / (0.1 * penalty * count), max_iter=10_000, tol=1e-8) for count in (120, 90)
            )
            right = of_kept.fit(train[kept], y[kept]).score(train[held], y[held])
            if right > best[0]:
                best = right, of_all.fit(train, y).predict(test)
    found = linear_predictions(x, y, test_x)
    assert found.held_out == pytest.approx(best[0], abs=0.04)  # one sample
    assert (found.answers == best[1]).mean() >= 0.9


def test_small_variances_are_not_overlooked():
    """What tells the classes varies little beside what does not, across channels that all hold both."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 4
    parts = np.hstack([0.02 * (np.eye(4)[y] + 0.1 * rng.normal(size=(400, 4))), rng.normal(size=(400, 12))])
    x = (parts @ np.linalg.qr(rng.normal(size=(16, 16)))[0]).astype(np.float32)
    for probe in (linear_probe, ridge_probe):
        assert probe(x[:300], y[:300], x[300:], y[300:]) > 0.95
    assert knn(x[:300], y[:300], x[300:], y[300:]) < 0.5


@pytest.mark.parametrize("probe", [linear_probe, ridge_probe, knn])
def test_constant_channels_and_one_label_of_a_class(probe, blobs):
    x, y = blobs
    x = np.hstack([x, np.full((400, 2), 1e6, np.float32)])
    assert probe(x[:4], y[:4], x[200:], y[200:]) > 0.95
    assert probe(x[:200], y[:200], x[200:], y[200:]) == 1.0


# ---- any number of classes ----


@pytest.fixture(scope="module")
def lists():
    """400 points of which each of 3 classes, any number of which a point may have, shifts one channel."""
    rng = np.random.default_rng(0)
    marks = rng.random((400, 3)) < [0.5, 0.3, 0.1]
    x = np.hstack([8.0 * marks, np.zeros((400, 2))]) + rng.normal(size=(400, 5))
    names = [[f"class {n}" for n in np.flatnonzero(row)] for row in marks]
    return x.astype(np.float32), names, marks


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("probe", [linear_probe, ridge_probe, knn])
def test_lists_of_classes_are_told_apart_one_by_one(probe, sparse, lists):
    x, names, _ = lists
    x = csr_matrix(np.maximum(x - 3, 0)) if sparse else x
    assert probe(x[:200], names[:200], x[200:], names[200:]) > 0.97
    shuffled = [names[i] for i in np.random.default_rng(1).permutation(200)]
    assert 0.2 < probe(x[:200], shuffled, x[200:], names[200:]) < 0.45  # the classes' shares: 0.3
    # A class that is never trained on is found as often as by equal scores, in half of the samples.
    more = [[*row, "new"] if i % 2 else row for i, row in enumerate(names[200:])]
    assert probe(x[:200], names[:200], x[200:], more) == pytest.approx((3 + 0.5) / 4, abs=0.03)


def test_scores_of_several_classes_are_scikit_learns_one_versus_rest(lists, monkeypatch):
    x, _, marks = lists
    monkeypatch.setattr(probes, "LOGISTIC_PENALTIES", np.array([0.3]))
    x = x + 4 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    found = linear_predictions(x[:200], marks[:200], x[200:])
    answers = []
    for train, test in scalings(x[:200], x[200:]):
        fits = [LogisticRegression(C=1 / (0.1 * 0.3 * 200), tol=1e-8).fit(train, one) for one in marks[:200].T]
        answers.append(np.stack([fit.decision_function(test) for fit in fits], 1))
    assert min(np.abs(found.answers - one).max() for one in answers) < 0.05
    monkeypatch.setattr(probes, "PENALTIES", np.array([0.3]))
    ridge = ridge_predictions(x[:200], marks[:200], x[200:]).answers
    fits = [Ridge(0.3 * 200).fit(train, marks[:200]).predict(test) for train, test in scalings(x[:200], x[200:])]
    assert min(np.abs(ridge - one).max() for one in fits) < 1e-3


def test_leaving_one_out_ranks_no_class_below_chance():
    """Without a sample the mean of its classes is lower, which must not rank it last."""
    rng = np.random.default_rng(0)
    marks = rng.random((60, 5)) < 0.2
    found = ridge_predictions(rng.normal(size=(60, 3)).astype(np.float32), marks, np.zeros((1, 3), np.float32))
    assert found.held_out > marks.mean() - 0.02


def test_ridge_of_lists_leaves_samples_out_one_by_one(few, monkeypatch):
    """As many fits as samples, each scored without the mean of its training samples; by both Gram matrices."""
    monkeypatch.setattr(probes, "PENALTIES", PENALTIES[2::6])
    x, y, test_x, _ = few
    marks = np.stack([y == 1, y == 2, y != 0], axis=1)
    figures = []
    for train, _ in scalings(x, test_x):
        for penalty in PENALTIES[2::6]:
            scores = np.empty((120, 3))
            for i in range(120):
                others, own = np.delete(train, i, 0), np.delete(marks, i, 0)
                scores[i] = Ridge(penalty * 120).fit(others, own).predict(train[i : i + 1])[0] - own.mean(0)
            figures.append(mean_average_precision(scores, marks))
    assert ridge_predictions(x, marks, test_x).held_out == pytest.approx(max(figures), abs=1e-3)


def test_neighbours_vote_by_their_shares():
    x = np.array([[0.0], [2.0], [5.0]])
    answers = knn_predictions(x, np.array([[1, 0], [1, 1], [0, 1]], bool), np.array([[1.0]]), k=2)
    np.testing.assert_allclose(answers, [[1.0, 0.5]])


@pytest.mark.parametrize("count", [40, 12])
def test_principal_axes_of_many_and_few_samples(count):
    """Products of samples are those of the scaled features, in the axes and out of them."""
    rng = np.random.default_rng(0)
    x, other = (rng.normal(size=(size, 15)) * np.arange(15) for size in (count, 5))
    axes = PrincipalAxes(x, each=True)
    scaled = (np.concatenate([x, other])[:, 1:] - x[:, 1:].mean(0)) / x[:, 1:].std(0)  # channel 0 does not vary
    np.testing.assert_allclose(axes.train, axes.project(x), atol=1e-5)
    np.testing.assert_allclose(axes.project(other) @ axes.train.T, scaled[count:] @ scaled[:count].T, atol=1e-4)
