"""The attentive probe: it finds the one position that tells, does not depend on padding, and repeats itself."""

import numpy as np
import pytest

from modeling_data2vec.trainers.evaluation.attentive_probe import attentive_predictions, attentive_probe
from modeling_data2vec.trainers.evaluation.probes import linear_probe


def hidden_signs(count, seed, channels=16):
    """Sequences of 3 to 30 noisy positions: one of them, marked by its first channel, tells the class by its second."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    lengths = rng.integers(3, 31, count)
    samples = np.repeat(np.arange(count), lengths)
    features = rng.normal(size=(len(samples), channels)).astype(np.float32)
    telling = np.cumsum(lengths) - lengths + rng.integers(0, lengths)
    features[:, 0] -= 3
    features[telling, 0] = 6
    features[telling, 1] = 3 * (2 * labels - 1)
    return (features, samples), labels


@pytest.fixture(scope="module")
def sets():
    return hidden_signs(300, seed=0), hidden_signs(200, seed=1)


def means(frames):
    features, samples = frames
    return np.stack([features[samples == sample].mean(0) for sample in np.unique(samples)])


def test_it_beats_the_mean_where_one_position_tells(sets):
    (train_x, train_y), (test_x, test_y) = sets
    attentive = attentive_probe(train_x, train_y, test_x, test_y)
    linear = linear_probe(means(train_x), train_y, means(test_x), test_y)
    assert attentive > 0.95 and linear < attentive - 0.1


def test_several_classes_by_the_same_positions(sets):
    """One class by the marked position's sign, one that all samples lack but one, one that is only tested."""
    (train_x, train_y), (test_x, test_y) = sets
    lists = [["yes"] * int(y) + ["rare"] * (n == 3) for n, y in enumerate(train_y)]
    tested = [["yes"] * int(y) + ["new"] * (n % 2) for n, y in enumerate(test_y)]
    assert attentive_probe(train_x, lists, test_x, tested) > (0.95 + 0.45) / 2
    scores = attentive_predictions(train_x, np.array([[True, False]] * 150 + [[False, False]] * 150), test_x)
    assert scores.shape == (200, 2) and np.ptp(scores[:, 1]) == 0


def test_it_finds_nothing_where_there_is_nothing():
    noise = np.random.default_rng(0).normal(size=(2, 400 * 5, 8))
    samples, labels = np.repeat(np.arange(400), 5), np.arange(400) % 4
    assert 0.17 < attentive_probe((noise[0], samples), labels, (noise[1], samples), labels) < 0.33


def test_it_repeats_itself_whatever_the_global_seed(sets):
    import torch

    (train_x, train_y), (test_x, _) = sets
    train_x = train_x[0][train_x[1] < 60], train_x[1][train_x[1] < 60]
    torch.manual_seed(0)
    first = attentive_predictions(train_x, train_y[:60], test_x, seed=3)
    before = torch.get_rng_state()
    np.testing.assert_array_equal(attentive_predictions(train_x, train_y[:60], test_x, seed=3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sample_is_predicted_alike_alone_and_among_longer_ones(sets):
    (train_x, train_y), (test_x, _) = sets
    train_x = train_x[0][train_x[1] < 60], train_x[1][train_x[1] < 60]
    together = attentive_predictions(train_x, train_y[:60], test_x)
    shortest = int(np.argmin(np.bincount(test_x[1])))
    own = test_x[1] == shortest
    alone = attentive_predictions(train_x, train_y[:60], (test_x[0][own], np.zeros(own.sum(), int)))
    assert alone[0] == together[shortest]


def test_few_labels_and_named_classes():
    features = np.array([[0.0, 1], [0, 1], [1, 0], [1, 0]], np.float32)
    frames = features, np.arange(4)
    predicted = attentive_predictions(frames, np.array(["cat", "cat", "dog", "dog"]), frames)
    assert predicted.tolist() == ["cat", "cat", "dog", "dog"]


def test_errors_of_the_attentive_probe(sets):
    (train_x, train_y), (test_x, test_y) = sets
    with pytest.raises(ValueError, match=r"train labels have shape \(299,\), but 300"):
        attentive_probe(train_x, train_y[1:], test_x, test_y)
    with pytest.raises(ValueError, match="at least 2 classes"):
        attentive_probe(train_x, train_y * 0, test_x, test_y)
