"""CKA against its definition and its limits; alignment and uniformity by hand."""

import itertools

import numpy as np
import pytest

from modeling_data2vec.trainers.monitoring.similarity import alignment, cka, class_alignment, uniformity


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def hsic(k, l):  # noqa: E741
    """The unbiased estimator as Song et al. (2012, eq. 5) write it."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    ones = np.ones(n)
    middle = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return (np.trace(k @ l) + middle - 2 / (n - 2) * ones @ k @ l @ ones) / (n * (n - 3))


def test_cka_is_the_published_estimator(rng):
    x, y = rng.normal(size=(3, 60, 5)), rng.normal(size=(2, 60, 9))
    y[1] += x[2] @ rng.normal(size=(5, 9))
    found = cka(x, y)
    for i, j in itertools.product(range(3), range(2)):
        k, l = x[i] @ x[i].T, y[j] @ y[j].T  # noqa: E741
        assert found[i, j] == pytest.approx(hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l)), abs=1e-9)
    assert found[2, 1] > 0.5 > abs(found[0, 1])


def test_cka_of_batches_averages_before_the_ratio(rng):
    x, y = rng.normal(size=(1, 60, 5)), rng.normal(size=(1, 60, 4))
    y[0, :, :3] += x[0, :, :3]
    parts = np.zeros(3)
    for batch in np.array_split(np.arange(60), 3):
        k, l = x[0, batch] @ x[0, batch].T, y[0, batch] @ y[0, batch].T  # noqa: E741
        parts += hsic(k, l), hsic(k, k), hsic(l, l)
    assert cka(x, y, batch_size=20)[0, 0] == pytest.approx(parts[0] / np.sqrt(parts[1] * parts[2]))
    assert cka(x, y, batch_size=20)[0, 0] == pytest.approx(cka(x, y)[0, 0], abs=0.1)


@pytest.mark.parametrize("batch_size", [512, 50])
def test_cka_of_a_rotation_is_one_and_of_another_map_is_not(rng, batch_size):
    x = rng.normal(size=(1, 200, 10)) * np.arange(1, 11)
    rotation = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    assert cka(x, 3 * x @ rotation + 7, batch_size=batch_size)[0, 0] == pytest.approx(1.0)
    assert cka(x, x @ np.diag(1 / np.arange(1, 11)) ** 2, batch_size=batch_size)[0, 0] < 0.9


@pytest.mark.parametrize("channels", [5, 500])
def test_cka_of_independent_noise_is_near_zero_in_any_number_of_dimensions(rng, channels):
    x, y = rng.normal(size=(2, 4, 100, channels))
    assert np.abs(cka(x, y)).max() < 0.05
    assert abs(cka(x, y, batch_size=25).mean()) < 0.04
    k, l = ((one - one.mean(0)) @ (one - one.mean(0)).T for one in (x[0], y[0]))  # noqa: E741
    usual = (k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum())
    assert usual == pytest.approx({5: 0.05, 500: 0.83}[channels], abs=0.04)  # what the bias would be


def test_cka_of_constant_features_is_not_a_number(rng):
    x = np.concatenate([np.full((1, 20, 3), 0.1), rng.normal(size=(1, 20, 3))])
    np.testing.assert_array_equal(np.isnan(cka(x, x)), [[True, True], [True, False]])


def test_errors_of_cka(rng):
    x = rng.normal(size=(2, 20, 3))
    with pytest.raises(ValueError, match=r"\(2, 20, 3\) and \(2, 19, 3\)"):
        cka(x, x[:, 1:])
    with pytest.raises(ValueError, match=r"\[layers, samples, channels\]"):
        cka(x[0], x[0])
    with pytest.raises(ValueError, match="at least 4 samples"):
        cka(x[:, :3], x[:, :3])


def test_alignment_by_hand():
    first = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    second = np.array([[5.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(alignment(first, second), [0.0, 2.0, 4.0])


def test_class_alignment_is_the_mean_over_pairs(rng):
    x, labels = rng.normal(size=(30, 4)), np.arange(30) % 4
    pairs = [(i, j) for i, j in itertools.combinations(range(30), 2) if labels[i] == labels[j]]
    expected = np.mean([alignment(x[[i]], x[[j]])[0] for i, j in pairs])
    assert class_alignment(x, labels) == pytest.approx(expected)
    assert np.isnan(class_alignment(x[:3], np.arange(3)))


def test_uniformity_by_hand(rng):
    corners = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # squared distances: four of 2, two of 4
    assert uniformity(5 * corners) == pytest.approx(np.log((4 * np.exp(-4) + 2 * np.exp(-8)) / 6))
    assert uniformity(np.ones((5, 3))) == pytest.approx(0.0)
    even, cone = rng.normal(size=(300, 256)), rng.normal(size=(300, 256)) + 2
    assert -4.05 < uniformity(even) < -3.9 < uniformity(cone)
