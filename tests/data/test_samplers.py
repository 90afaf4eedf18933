"""samplers.py: batches of similar lengths, bounded, and a function of seed and epoch."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_data2vec.trainers.data.samplers import LengthBatchSampler, WeightedBatchSampler

LENGTHS = st.lists(st.integers(1, 100), min_size=4, max_size=60)


@settings(max_examples=50, deadline=None)
@given(lengths=LENGTHS, bound=st.integers(100, 400), epoch=st.integers(0, 5))
def test_batches_stay_within_the_bound_and_hold_each_sample_once(lengths, bound, epoch):
    sampler = LengthBatchSampler(lengths, bound, seed=3)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert all(len(batch) * max(lengths[i] for i in batch) <= bound for batch in batches)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert batches == list(sampler)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(50, 100), min_size=8, max_size=60), processes=st.integers(2, 4))
def test_processes_get_equally_many_different_batches(lengths, processes):
    samplers = [LengthBatchSampler(lengths, 100, num_processes=processes, process=p) for p in range(processes)]
    shares = [list(sampler) for sampler in samplers]
    assert len({len(share) for share in shares}) == 1
    seen = [i for share in shares for batch in share for i in batch]
    assert len(seen) == len(set(seen))


def test_each_epoch_has_its_own_order_and_batches():
    sampler = LengthBatchSampler([10] * 40, 50, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first != second and {tuple(sorted(b)) for b in first} != {tuple(sorted(b)) for b in second}


def test_batches_hold_similar_lengths():
    lengths = [1, 100] * 50
    assert all(len({lengths[i] for i in batch}) == 1 for batch in LengthBatchSampler(lengths, 100))


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([5, 30], {}, "longest of 2 samples has length 30"),
        ([], {}, "longest of 0 samples"),
        ([5, 5], {"num_processes": 2}, "make 1 batch(es) of length 20, but each of 2 process"),
    ],
)
def test_what_can_not_be_batched_is_refused(lengths, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LengthBatchSampler(lengths, 20, **options)


def test_samples_are_drawn_by_their_weights_and_none_twice():
    """The first that is drawn follows the weights; of two, the second follows those that are left."""
    weights = [0.0, 1.0, 3.0, 6.0]
    sampler = WeightedBatchSampler(weights, 2, batch_size=2, seed=1)
    draws = np.array([sampler.of_epoch(epoch)[0] for epoch in range(4_000)])
    assert (draws[:, 0] != draws[:, 1]).all() and 0 not in draws
    np.testing.assert_allclose(np.bincount(draws[:, 0]) / 4_000, np.array(weights) / 10, atol=0.03)
    after_the_last = draws[draws[:, 0] == 3, 1]
    np.testing.assert_allclose(np.bincount(after_the_last)[1:3] / len(after_the_last), [1 / 4, 3 / 4], atol=0.03)


def test_processes_share_a_weighted_draw():
    weights = np.arange(1, 101)
    (whole,) = [list(WeightedBatchSampler(weights, 60, 5, seed=2))]
    shares = [list(WeightedBatchSampler(weights, 60, 5, seed=2, num_processes=3, process=p)) for p in range(3)]
    assert [batch for turn in zip(*shares, strict=True) for batch in turn] == whole
    assert len({i for batch in whole for i in batch}) == 60
    sampler = WeightedBatchSampler(weights, 60, 5, seed=2)
    sampler.set_epoch(1)
    assert {i for batch in sampler for i in batch} != {i for batch in whole for i in batch}


@pytest.mark.parametrize(
    ("num", "size", "message"),
    [
        (4, 2, "4 samples are to be drawn for an epoch, but only 3 of 4 can be: draw fewer"),
        (3, 4, "3 drawn samples make 0 batch(es) of 4, but each of 1 process(es) needs one"),
    ],
)
def test_draws_that_can_not_be(num, size, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        WeightedBatchSampler([1.0, 2.0, 0.0, 3.0], num, size)
