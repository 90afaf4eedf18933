"""Confidence intervals: they cover the truth as often as they say, and pairs are compared as pairs."""

import numpy as np
import pytest

from modeling_data2vec.trainers.evaluation.intervals import Interval, bootstrap, jackknife, jackknife_of


def coverage(intervals, truth):
    return np.mean([one.low <= truth <= one.high for one in intervals])


def test_bootstrap_of_a_mean_covers_the_truth():
    rng = np.random.default_rng(0)
    intervals = [bootstrap(rng.random(200) < 0.7, replicates=300) for _ in range(300)]
    assert 0.91 < coverage(intervals, 0.7) < 0.98
    widths = [one.high - one.low for one in intervals]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 200), rel=0.05)


def test_bootstrap_of_several_label_subsets_covers_both_sources_of_chance():
    """A sample is hard or not, and a label subset is lucky or not; samples alone would cover too rarely."""
    rng = np.random.default_rng(0)
    both, samples_alone = [], []
    for _ in range(150):
        scores = 0.6 + rng.normal(0, 0.08, (8, 1)) + rng.normal(0, 0.3, (1, 200)) + rng.normal(0, 0.1, (8, 200))
        both.append(bootstrap(scores, replicates=300))
        samples_alone.append(bootstrap(scores.mean(0), replicates=300))
    assert 0.9 < coverage(both, 0.6) < 0.99
    assert coverage(samples_alone, 0.6) < coverage(both, 0.6) - 0.1


def test_paired_differences_leave_out_what_is_hard_for_both():
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    first, second = (hard < 0.80).astype(float), (hard < 0.77).astype(float)  # right on the same samples, but for a few
    alone = [bootstrap(one) for one in (first, second)]
    difference = bootstrap(first - second)
    assert alone[0].low < alone[1].high  # overlapping intervals
    assert difference.excludes_zero and difference.value == pytest.approx(first.mean() - second.mean())
    assert not bootstrap(first - rng.permutation(first)).excludes_zero


def test_bootstrap_is_deterministic_and_the_same_in_pieces(monkeypatch):
    scores = np.random.default_rng(0).random((3, 50))
    whole = bootstrap(scores)
    assert bootstrap(scores) == whole and bootstrap(scores, seed=1) != whole
    monkeypatch.setattr("modeling_data2vec.trainers.evaluation.intervals.CHUNK", 50 * 700)
    pieces = bootstrap(scores)
    assert pieces.value == whole.value and pieces.low == pytest.approx(whole.low, abs=0.01)


def test_jackknife_of_several_label_subsets_covers_both_sources_of_chance():
    """As of the bootstrap above: a sample is hard or not, and a label subset is lucky or not."""
    rng = np.random.default_rng(0)
    both, samples_alone = [], []
    for _ in range(150):
        scores = 0.6 + rng.normal(0, 0.08, (8, 1)) + rng.normal(0, 0.3, (1, 200)) + rng.normal(0, 0.1, (8, 200))
        left_out = (scores.sum(1, keepdims=True) - scores.reshape(8, 20, 10).sum(2)) / 190
        figures = np.hstack([scores.mean(1, keepdims=True), left_out])
        both.append(jackknife_of(figures))
        samples_alone.append(jackknife_of(figures.mean(0, keepdims=True)))
    assert 0.9 < coverage(both, 0.6) < 0.99
    assert coverage(samples_alone, 0.6) < coverage(both, 0.6) - 0.1


def test_jackknife_of_single_samples_is_the_standard_error_of_a_mean():
    values = np.random.default_rng(0).normal(size=30)
    interval = jackknife(lambda chosen: values[chosen].mean(), 30, groups=30)
    reach = 2.0452 * values.std(ddof=1) / np.sqrt(30)  # Student's t with 29 degrees of freedom
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.value == pytest.approx(reach, rel=1e-4)


def test_jackknife_covers_the_truth_of_what_is_not_a_mean():
    rng = np.random.default_rng(0)
    intervals = []
    for _ in range(200):
        values = rng.normal(size=200)
        intervals.append(jackknife(lambda chosen, values=values: values[chosen].var(ddof=1), 200))
    assert 0.9 < coverage(intervals, 1.0) < 0.99


def test_no_interval_of_too_little():
    assert Interval(0.1, -0.1, 0.3).excludes_zero is False
    for scores in (np.ones(1), np.ones((2, 1)), np.ones((2, 2, 2))):
        with pytest.raises(ValueError, match="scores has shape"):
            bootstrap(scores)
    with pytest.raises(ValueError, match=r"1 sample\(s\)"):
        jackknife(lambda chosen: 0.0, 1)
