"""samplers.py: batches of similar lengths, bounded, and a function of seed and epoch."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_data2vec.trainers.data.samplers import LengthBatchSampler

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
