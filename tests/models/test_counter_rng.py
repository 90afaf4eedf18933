"""counter_rng.py: numbers that are as good as random, and a function of their key alone."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from modeling_data2vec.counter_rng import SMALL, derive_keys, normal, random_bits, uniform

SEED = torch.tensor(17, dtype=torch.int32)


def keys(num: int) -> Tensor:
    return derive_keys(SEED, torch.arange(num))


def assert_uncorrelated(a: Tensor, b: Tensor) -> None:
    """Rows of `a` against the same rows of `b`, [N, count]: no correlation that chance (p < 1e-4 in all) excludes."""
    standardised = [(x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True) for x in (a.double(), b.double())]
    z = (standardised[0] * standardised[1]).mean(1) * math.sqrt(a.shape[1])
    assert 2 * stats.norm.sf(float(z.abs().max())) * len(z) > 1e-4


@pytest.mark.parametrize(("draw", "distribution"), [(uniform, "uniform"), (normal, "norm")])
def test_distribution(draw, distribution):
    rows = draw(keys(50), 4001)
    assert rows.shape == (50, 4001)
    assert rows.dtype == torch.float32
    p_values = [stats.kstest(numbers, distribution).pvalue for numbers in (*rows.numpy(), rows[:, 0], rows.flatten())]
    assert min(p_values) * len(p_values) > 1e-4
    assert max(p_values) > 0.5  # not too even either


def test_uniform_is_below_one():
    numbers = uniform(keys(400), 4096)
    assert float(numbers.min()) >= 0.0
    assert float(numbers.max()) < 1.0
    assert float(numbers.max()) > 1 - 1e-5


def test_normal_is_finite_and_has_tails():
    numbers = normal(keys(400), 4096)
    assert numbers.isfinite().all()
    assert 4.5 < float(numbers.abs().max()) < 6.0


@pytest.mark.parametrize("draw", [uniform, normal])
@pytest.mark.parametrize("distance", [1, 2, 256, 2**16])
def test_keys_that_are_close_give_unrelated_rows(draw, distance):
    near = torch.arange(-32, 32, dtype=torch.int32)
    assert_uncorrelated(draw(near, 4096), draw(near + distance, 4096))
    assert_uncorrelated(draw(keys(64), 4096), draw(keys(64 + distance)[distance:], 4096))


@pytest.mark.parametrize("draw", [uniform, normal])
def test_streams_and_neighbours_are_unrelated(draw):
    numbers = draw(keys(64), 4096)
    for stream in (1, 2, 3):
        assert_uncorrelated(numbers, draw(keys(64), 4096, stream))
    assert_uncorrelated(numbers[:, 1:], numbers[:, :-1])
    assert_uncorrelated(numbers[:, :2048], numbers[:, 2048:])  # the halves that Box-Muller pairs


@pytest.mark.parametrize("draw", [uniform, normal])
@pytest.mark.parametrize("count", [1, 7, 8])
def test_a_row_depends_on_its_key_alone(draw, count):
    all_keys = keys(9)
    rows = draw(all_keys, count, 2)
    assert rows.shape == (9, count)
    assert torch.equal(draw(all_keys, count, 2), rows)
    for i in range(9):
        assert torch.equal(draw(all_keys[i : i + 1], count, 2)[0], rows[i])


def test_many_numbers_at_once_are_those_of_few():
    count = SMALL // 4  # mixed by torch for nine rows, by numpy for one
    rows = random_bits(keys(9), count)
    for i in (0, 4, 8):
        assert torch.equal(random_bits(keys(9)[i : i + 1], count)[0], rows[i])


def test_an_odd_count_of_normals_is_the_even_one_cut_short():
    assert torch.equal(normal(keys(3), 7), normal(keys(3), 8)[:, :7])


def test_global_generators_are_left_alone():
    state = torch.get_rng_state()
    normal(derive_keys(SEED, 3).reshape(1), 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_derived_keys_are_distinct():
    keys = SEED
    for values in (torch.arange(20).view(-1, 1, 1), torch.arange(1000).view(-1, 1), torch.arange(16)):
        keys = derive_keys(keys, values)  # epoch, sample, mask
    assert keys.shape == (20, 1000, 16)
    assert keys.dtype == torch.int32
    # Chance alone makes n²/2/2³² = 12 of these 320,000 keys equal to another.
    assert keys.numel() - len(keys.unique()) < 40
    assert len(keys[0, 0].unique()) == 16


def test_derived_keys_depend_on_the_order_of_values():
    assert derive_keys(derive_keys(SEED, 1), 2) != derive_keys(derive_keys(SEED, 2), 1)


def test_derived_keys_use_all_bits_of_large_numbers():
    values = torch.tensor([5, 5 + 2**32, 5 + 2**40, -5, 2**62])
    assert len(derive_keys(SEED, values).unique()) == 5
    assert len({int(derive_keys(SEED, int(value))) for value in values}) == 5


def test_an_int_and_a_tensor_derive_the_same_key():
    assert int(derive_keys(SEED, 3)) == int(derive_keys(SEED, torch.tensor(3)))


def test_derive_keys_leaves_its_arguments_alone():
    before, values = keys(4), torch.arange(4)
    copy = before.clone()
    derive_keys(before, values)
    uniform(before, 3)
    assert torch.equal(before, copy)
    assert torch.equal(values, torch.arange(4))
