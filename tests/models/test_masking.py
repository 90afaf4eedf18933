"""masking.py: exact counts on any grid, and masks that depend on their key alone."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from modeling_data2vec.beit_masks import beit_block_mask
from modeling_data2vec.counter_rng import derive_keys
from modeling_data2vec.embedding import visible_ids
from modeling_data2vec.masking import (
    block_mask_1d,
    block_mask_2d,
    random_mask,
)
from modeling_data2vec.span_masks import span_mask


def keys(num: int, seed: int = 0) -> Tensor:
    return derive_keys(torch.tensor(seed, dtype=torch.int32), torch.arange(num))


def torch_generator(num: int, seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


GRIDS = st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda grid: grid[0] * grid[1] > 1)
PROBS = st.floats(0.02, 0.98)
quickly = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def check_counts(mask: Tensor, blocks: Tensor, share: float) -> None:
    """`blocks`, a view of `mask`, is True where blocks are: exactly int(T * share) positions, at least 1, not all."""
    length = mask.shape[1]
    assert set(blocks.sum(1).tolist()) == {min(max(1, int(length * share)), length - 1)}
    assert visible_ids(mask).shape[1] == int((~mask)[0].sum())  # raises where nothing is visible or nothing hidden


def test_the_largest_block_is_a_limit():
    """Of one patch each, blocks are nearly single random patches; without a limit they lie together."""
    grid, rows, prob = (14, 14), 400, 0.4
    shares = {}
    for largest in (None, 1, 12):
        mask = beit_block_mask(rows, grid, prob, generator=keys(rows), min_block=1, max_block=largest)
        shape = mask.unflatten(1, grid)
        shares[largest] = float((shape[..., 1:] & shape[..., :-1]).sum() / shape[..., :-1].sum())
    assert prob - 0.01 < shares[1] < prob + 0.05 < shares[12] - 0.1 < shares[None] - 0.15
    whole = beit_block_mask(rows, grid, prob, generator=keys(rows), max_block=196)
    assert torch.equal(whole, beit_block_mask(rows, grid, prob, generator=keys(rows)))


@pytest.mark.parametrize(("length", "prob", "size"), [(10, 0.3, 3), (10, 0.6, 3), (15, 0.6, 3), (17, 0.6, 3)])
def test_blocks_are_counted_in_the_order_of_the_authors(length, prob, size):
    """`int(T * (p / size))`, which is not always `int(T * p / size)`: of 500 masks some have no overlaps."""
    expected, other = int(length * (prob / size)), int(length * prob / size)
    together = {"exact_count": False, "generator": keys(500)}
    hidden = int(block_mask_1d(500, length, prob, size, **together).sum(1).max())
    in_a_batch = block_mask_1d(500, 2 * length, prob, size, lengths=torch.full((500,), length), **together)
    assert hidden == int(in_a_batch.sum(1).max()) == expected * size
    if expected != other:
        assert hidden != other * size


@quickly
@given(GRIDS, PROBS, st.integers(1, 5), st.floats(0.0, 0.2), st.booleans(), st.integers(0, 99))
@example((15, 20), 0.8, 3, 0.07, True, 0)  # in single precision 300 * (1 - 0.8) is 60, in double below it
def test_counts_of_2d_blocks_are_exact_on_any_grid(grid, mask_prob, mask_length, adjust, inverse, seed):
    mask = block_mask_2d(
        6, grid, mask_prob, mask_length, generator=keys(6, seed), mask_prob_adjust=adjust, inverse=inverse
    )
    check_counts(mask, *((~mask, 1 - mask_prob) if inverse else (mask, mask_prob)))


@quickly
@given(st.integers(2, 40), PROBS, st.integers(1, 7), st.floats(0.0, 0.2), st.booleans(), st.integers(0, 99))
@example(300, 0.8, 5, 0.05, True, 0)
def test_counts_of_1d_blocks_are_exact_at_any_length(length, mask_prob, mask_length, adjust, inverse, seed):
    generator = torch_generator(6, seed)
    mask = block_mask_1d(
        6, length, mask_prob, mask_length, generator=generator, mask_prob_adjust=adjust, inverse=inverse
    )
    check_counts(mask, *((~mask, 1 - mask_prob) if inverse else (mask, mask_prob)))


@quickly
@given(st.integers(2, 40), PROBS, st.integers(0, 99))
@example(300, 0.8, 0)
def test_counts_of_random_masks_are_exact_at_any_length(length, mask_prob, seed):
    mask = random_mask(6, length, mask_prob, generator=keys(6, seed))
    check_counts(mask, ~mask, 1 - mask_prob)


def test_one_block_is_a_square_of_patches_cut_at_the_edges():
    grid = (6, 11)  # int(66 * 0.2 / 9) = 1 block
    masks = block_mask_2d(50, grid, 0.8, 3, generator=keys(50), inverse=True, exact_count=False)
    for visible in (~masks).view(-1, *grid):
        rows, columns = (torch.unique(ids) for ids in visible.nonzero(as_tuple=True))
        assert visible[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 2 <= len(rows) <= 3
        assert 2 <= len(columns) <= 3


def test_a_block_is_no_wider_than_the_grid():
    """On one band of patches blocks are spans, as many as a sequence of that length has."""
    shape = {"mask_prob": 0.8, "mask_length": 5, "mask_prob_adjust": 0.07, "inverse": True, "exact_count": False}
    bands = block_mask_2d(20, (64, 1), generator=keys(20), **shape)
    assert torch.equal(bands, block_mask_1d(20, 64, generator=keys(20), **shape))


@quickly
@given(
    rows=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    columns=st.integers(1, 6),
    mask_prob=PROBS,
    mask_length=st.integers(1, 5),
    inverse=st.booleans(),
    seed=st.integers(0, 99),
)
def test_2d_blocks_depend_on_key_and_own_length_alone(rows, columns, mask_prob, mask_length, inverse, seed):
    rows = [max(number, 2 if columns == 1 else 1) for number in rows]
    some_keys, shape = keys(len(rows), seed), {"mask_prob": mask_prob, "mask_length": mask_length}
    shape |= {"mask_prob_adjust": 0.05, "inverse": inverse}
    sizes = torch.tensor(rows) * columns
    mask = block_mask_2d(len(rows), (14, columns), generator=some_keys, lengths=sizes, **shape)
    for row, key, number in zip(mask, some_keys, rows, strict=True):
        alone = block_mask_2d(1, (number, columns), generator=key[None], **shape)[0]
        assert torch.equal(row[: number * columns], alone)
        assert not row[number * columns :].any()


DRAWS = {
    "random": lambda num, generator: random_mask(num, 30, 0.5, generator=generator),
    "block 1-D": lambda num, generator: block_mask_1d(num, 30, 0.5, 3, generator=generator),
    "block 2-D": lambda num, generator: block_mask_2d(num, (5, 6), 0.7, 2, generator=generator, inverse=True),
}


@pytest.mark.parametrize("kind", DRAWS)
def test_a_key_gives_the_same_mask_in_any_batch(kind):
    all_keys = keys(64)
    masks = DRAWS[kind](64, all_keys)
    order = torch.randperm(64, generator=torch_generator(0, 1))[:7]
    assert torch.equal(DRAWS[kind](7, all_keys[order]), masks[order])
    assert torch.equal(DRAWS[kind](1, all_keys[5:6]), masks[5:6])
    assert len(torch.unique(masks, dim=0)) > 60


@pytest.mark.parametrize("kind", DRAWS)
def test_a_torch_generator_is_all_the_randomness(kind):
    state = torch.get_rng_state()
    first, again, other = (DRAWS[kind](8, torch_generator(0, seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", DRAWS)
def test_one_key_for_each_mask(kind):
    with pytest.raises(ValueError, match=r"shape \(3,\).*4 masks need \(4,\)"):
        DRAWS[kind](4, keys(3))


@pytest.mark.parametrize("mask_prob", [0, 1, -0.1, 1.5])
def test_mask_prob_must_be_a_proper_share(mask_prob):
    for mask in (random_mask, lambda *args, **options: block_mask_1d(*args, 3, **options)):
        with pytest.raises(ValueError, match=f"mask_prob is {mask_prob}.*between 0 and 1"):
            mask(2, 10, mask_prob, generator=keys(2))


def test_what_cannot_be_masked_is_an_error():
    with pytest.raises(ValueError, match=r"1 position"):
        block_mask_2d(2, (1, 1), 0.5, 1, generator=keys(2))
    with pytest.raises(ValueError, match="mask_length is 0"):
        block_mask_1d(2, 10, 0.5, 0, generator=keys(2))


def test_visible_ids_are_in_order_and_complete():
    mask = block_mask_2d(12, (4, 7), 0.6, 2, generator=keys(12)).view(3, 4, 28)
    ids = visible_ids(mask)
    assert ids.shape[:2] == (3, 4)
    assert (ids[..., 1:] > ids[..., :-1]).all()
    assert torch.equal(torch.ones_like(mask).scatter(-1, ids, False), mask)


def test_visible_ids_says_what_is_wrong():
    yes, no = [True], [False]
    with pytest.raises(ValueError, match=r"between 1 and 2 positions.*ids_keep"):
        visible_ids(torch.tensor([[yes + yes + no, yes + no + no]]))
    with pytest.raises(ValueError, match="nothing visible.*mask_prob"):
        visible_ids(torch.tensor([yes * 3, yes * 3]))
    with pytest.raises(ValueError, match="hides nothing.*mask_prob"):
        visible_ids(torch.tensor([no * 3, no * 3]))


# ---- data2vec 1.0 ----


@quickly
@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=5),
    mask_prob=PROBS,
    mask_length=st.integers(1, 12),
    fit=st.booleans(),
    seed=st.integers(0, 99),
)
def test_spans_depend_on_key_and_own_length_alone(lengths, mask_prob, mask_length, fit, seed):
    sizes, some_keys = torch.tensor(lengths), keys(len(lengths), seed)
    mask = span_mask(len(lengths), 64, mask_prob, mask_length, generator=some_keys, fit=fit, lengths=sizes)
    for row, key, size in zip(mask, some_keys, lengths, strict=True):
        alone = span_mask(1, size, mask_prob, mask_length, generator=key[None], fit=fit)[0]
        assert torch.equal(row[:size], alone)
        assert not row[size:].any()
        assert 0 < int(alone.sum()) < size


@quickly
@given(st.integers(20, 80), st.floats(0.1, 0.9), st.integers(2, 6), st.integers(0, 99))
def test_spans_that_fit_are_whole(length, mask_prob, mask_length, seed):
    mask = span_mask(4, length, mask_prob, mask_length, generator=keys(4, seed))
    edges = torch.nn.functional.pad(mask.int(), (1, 1)).diff()
    for row in edges:
        begins, ends = (row == 1).nonzero().flatten(), (row == -1).nonzero().flatten()
        assert int((ends - begins).min()) >= mask_length
    assert not mask[:, -1].any()


def test_spans_of_equal_counts_hide_as_few_as_the_shortest_row():
    sizes = torch.tensor([300, 100, 200])
    loose = span_mask(3, 300, 0.65, 10, generator=keys(3), lengths=sizes)
    equal = span_mask(3, 300, 0.65, 10, generator=keys(3), lengths=sizes, equal_counts=True)
    assert set(equal.sum(1).tolist()) == {int(loose.sum(1).min())}
    assert not (equal & ~loose).any()  # positions are only shown


@quickly
@given(GRIDS, PROBS, st.integers(1, 20), st.integers(0, 99))
def test_beit_blocks_depend_on_the_key_alone_and_hide_something(grid, mask_prob, min_block, seed):
    some_keys = keys(4, seed)
    mask = beit_block_mask(4, grid, mask_prob, generator=some_keys, min_block=min_block)
    length = grid[0] * grid[1]
    for row, key in zip(mask, some_keys, strict=True):
        assert torch.equal(row, beit_block_mask(1, grid, mask_prob, generator=key[None], min_block=min_block)[0])
        assert 0 < int(row.sum()) <= min(max(1, round(length * mask_prob)), length - 1)


def test_bad_arguments_of_spans_and_beit_blocks_are_named():
    generator = torch_generator(1)
    with pytest.raises(ValueError, match=r"mask_prob is 1\.0.*strictly between 0 and 1"):
        span_mask(1, 20, 1.0, 4, generator=generator)
    with pytest.raises(ValueError, match=r"mask_length is 0\b.*at least 1"):
        span_mask(1, 20, 0.5, 0, generator=generator)
    with pytest.raises(ValueError, match="lengths has shape.*from 2 to 20"):
        span_mask(2, 20, 0.5, 4, generator=generator, lengths=torch.tensor([21, 5]))
    with pytest.raises(ValueError, match="at least one must be hidden and one visible"):
        beit_block_mask(1, (1, 1), 0.5, generator=generator)
