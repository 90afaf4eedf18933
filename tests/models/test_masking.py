"""masking.py: the authors' mask statistics, exact counts on any grid, and masks that depend on their key alone."""

import math
from collections.abc import Callable

import differences
import numpy as np
import pytest
import reference_cases
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor

from modeling_data2vec import Data2Vec2SpectrogramConfig
from modeling_data2vec.beit_masks import beit_block_mask
from modeling_data2vec.counter_rng import derive_keys
from modeling_data2vec.drawn_masks import draw_views
from modeling_data2vec.embedding import visible_ids
from modeling_data2vec.flexible_masks import SHAPES, flexible_block_mask
from modeling_data2vec.masking import (
    block_mask_1d,
    block_mask_2d,
    random_mask,
    span_mask,
)

ENTRIES = [
    (name, entry)
    for name in (*reference_cases.others("mask_statistics*"), *reference_cases.others("eat_mask_statistics*"))
    for entry in reference_cases.load(name).info["statistics"]
]
FALSE_ALARM = 1e-4
# EAT's figures that were taken over fewer rows.
OF_COMPONENTS = {
    "visible_components_per_row_mean",
    "largest_visible_component_mean",
    "single_visible_patches_per_row_mean",
}


def keys(num: int, seed: int = 0) -> Tensor:
    return derive_keys(torch.tensor(seed, dtype=torch.int32), torch.arange(num))


def torch_generator(num: int, seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(args: dict, rows: int, length: int, generator: torch.Generator | Tensor) -> Tensor:
    """Masks [rows, length] by the reference's arguments."""
    if "num_masks" in args:  # BEiT
        grid, prob = (args["grid"], args["grid"]), args["num_masks"] / length
        sizes = {"min_block": args["min_masks"], "max_block": args["max_masks"]}
        return beit_block_mask(rows, grid, prob, generator=generator, **sizes)
    if "mask_multiple_length" in args:  # text of 1.0
        return span_mask(rows, length, args["mask_prob"], args["mask_multiple_length"], generator=generator, fit=False)
    if "min_masks" in args:  # speech of 1.0
        return draw_calls(args, rows, length, generator)
    if args.get("function") == "random_masking":
        return random_mask(rows, length, args["mask_ratio"], generator=generator)
    options = {
        "mask_prob_adjust": args.get("mask_prob_adjust", 0.0),
        "inverse": args.get("inverse_mask", False),
        "exact_count": args.get("require_same_masks", True),
    }
    if args.get("function") == "compute_block_mask_1d":
        return block_mask_1d(rows, length, args["mask_prob"], args["mask_length"], generator=generator, **options)
    grid = grid_of(args, length)
    if args.get("flexible_mask"):
        return flexible_block_mask(rows, grid, args["mask_prob"], args["mask_length"], generator=generator, **options)
    return block_mask_2d(rows, grid, args["mask_prob"], args["mask_length"], generator=generator, **options)


def grid_of(args: dict, length: int) -> tuple[int, int]:
    """Rows and columns of patches: EAT says them, other grids are square."""
    rows, columns = args.get("img_shape") or (math.isqrt(length), math.isqrt(length))
    return rows, columns


def rows_of_a_call(args: dict) -> int:
    """How many rows of the reference's figures were drawn together, and so depend on each other."""
    if args.get("flexible_mask"):  # whose shape is one for a call
        return args.get("shape", [1])[0]
    return args["shape"][0] if args.get("require_same_masks") and args.get("min_masks") == 1 else 1


def draw_calls(args: dict, rows: int, length: int, generator: torch.Generator | Tensor) -> Tensor:
    """Spans of speech; where the reference makes the rows of a call equal, as many calls as it made."""
    assert args.get("mask_type", "static") == "static" and not args.get("no_overlap") and not args.get("mask_other")
    together = rows_of_a_call(args)
    lengths = torch.tensor(args["lens"]) if "lens" in args else None
    shape = {"mask_prob": args["mask_prob"], "mask_length": args["mask_length"]}
    if together == 1:
        return span_mask(rows, length, generator=generator, lengths=lengths, **shape)
    calls = [generator] * (rows // together) if isinstance(generator, torch.Generator) else generator.split(together)
    return torch.cat(
        [span_mask(together, length, generator=one, lengths=lengths, equal_counts=True, **shape) for one in calls]
    )


def p_value(difference: float, standard_error: float) -> float:
    """Two-sided, under a normal distribution; a figure that does not vary must be equal."""
    if standard_error < 1e-9:
        return float(abs(difference) < 1e-6)
    return float(2 * stats.norm.sf(abs(difference) / standard_error))


def p_of_ratio(numerator: Tensor, denominator: Tensor, expected: float, rows: float) -> float:
    """Ratio of two totals over rows, against the same ratio over `rows` other rows (delta method)."""
    ratio = numerator.sum() / denominator.sum()
    spread = (numerator - ratio * denominator).std() / denominator.mean()
    return p_value(float(ratio) - expected, float(spread) * math.sqrt(1 / len(numerator) + 1 / rows))


def p_of_std(values: Tensor, expected: float, rows: float, together: int) -> float:
    """Standard deviation over rows; the variance of a variance is (fourth moment - variance²) / rows."""
    variance = values.var()
    of_variance = ((values - values.mean()) ** 4).mean() - variance**2
    error = math.sqrt(max(float(of_variance), 0.0) * together * (1 / len(values) + 1 / rows))
    return p_value(float(variance) - expected**2, error)


def p_of_positions(mask: Tensor, expected: Tensor, rows: int, together: int) -> dict[str, float]:
    """How often each position is hidden: the largest |z|, and the sum of z².

    z of a position is the difference of both frequencies over its pooled binomial error. Positions of a mask are
    correlated. The largest |z| takes that as it comes (Bonferroni over positions). The sum is a quadratic form of
    normal variables with the positions' correlation matrix R; its distribution is close to a shifted and scaled
    chi-square of the same mean (tr R), variance (2 tr R²) and third cumulant (8 tr R³), after Hall, Buckley and
    Eagleson. R is taken from our rows.
    """
    values = mask.double()
    frequency = values.mean(0)
    pooled = (len(values) * frequency + rows * expected) / (len(values) + rows)
    error = (pooled * (1 - pooled) * together * (1 / len(values) + 1 / rows)).sqrt()
    varies = error > 1e-9
    torch.testing.assert_close(frequency[~varies], expected[~varies], rtol=0, atol=1e-6)
    if not varies.any():
        return {}
    z = ((frequency - expected) / error)[varies]
    correlation = torch.corrcoef(values[:, varies].T).view(len(z), len(z)).nan_to_num().fill_diagonal_(1.0)
    square = correlation @ correlation
    second, third = float(square.trace()), float((square * correlation).sum())
    freedom = second**3 / third**2
    scaled = freedom + (float((z**2).sum()) - len(z)) * math.sqrt(freedom / second)
    return {
        "position_frequency, largest |z|": min(1.0, len(z) * p_value(float(z.abs().max()), 1.0)),
        "position_frequency, sum of z²": float(stats.chi2.sf(scaled, freedom)),
    }


def runs(mask: Tensor) -> Tensor:
    """Number of runs of True in each row."""
    return mask[:, 0] + (mask[:, 1:] & ~mask[:, :-1]).sum(1)


def components(visible: Tensor) -> tuple[Tensor, Tensor]:
    """4-connected groups of True in each grid of [N, h, w]: which grid each belongs to, and its size."""
    within_a_grid = ndimage.generate_binary_structure(3, 1)
    within_a_grid[[0, 2]] = False
    groups, _ = ndimage.label(visible.numpy(), within_a_grid)
    _, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    return torch.from_numpy(first[1:] // visible[0].numel()), torch.from_numpy(sizes[1:])  # group 0: hidden ones


def figures_of_components(visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each grid of [N, h, w]: how many groups it has, how large the largest is, and how many are single patches."""
    owners, sizes = components(visible)
    num = len(visible)
    largest = torch.zeros(num, dtype=sizes.dtype).scatter_reduce(0, owners, sizes, "amax")
    return owners.bincount(minlength=num), largest, owners[sizes == 1].bincount(minlength=num)


def p_of_figures(mask: Tensor, figures: dict, two_dimensional: bool, together: int) -> dict[str, float]:
    """A p-value for each figure of the reference's statistics that we can compute.

    Of rows that were drawn `together`, a ratio takes the sums; elsewhere they count as one row (the safe side).
    """
    rows, args = figures["rows"], figures["args"]
    lengths = torch.tensor(args.get("lens", [figures["length"]])).repeat(len(mask) // len(args.get("lens", [0])))
    visible = ~mask & (torch.arange(figures["length"]) < lengths[:, None])
    ones, hidden, shown = torch.ones(len(mask)), mask.sum(1), visible.sum(1)

    def following(x: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs of neighbours that are both True, and all that could be."""
        return (x[..., 1:] & x[..., :-1]).flatten(1).sum(1), x[..., :-1].flatten(1).sum(1)

    ratios: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {"masked_fraction_mean": lambda: (hidden / lengths, ones)}
    spreads: dict[str, Callable[[], Tensor]] = {"masked_fraction_std": lambda: hidden / lengths}
    if two_dimensional:
        grid = mask.unflatten(1, grid_of(args, figures["length"]))
        ratios |= {
            "P_right_masked_given_masked": lambda: following(grid),
            "P_right_visible_given_visible": lambda: following(~grid),
            "visible_4connected_components_mean_of_first_500": lambda: (figures_of_components(~grid)[0], ones),
            # EAT's, over time and over mel bands
            "p_next_in_time_visible_given_visible": lambda: following(~grid.transpose(1, 2)),
            "p_next_in_time_masked_given_masked": lambda: following(grid.transpose(1, 2)),
            "p_next_in_mel_visible_given_visible": lambda: following(~grid),
            "visible_components_per_row_mean": lambda: (figures_of_components(~grid)[0], ones),
            "largest_visible_component_mean": lambda: (figures_of_components(~grid)[1], ones),
            "single_visible_patches_per_row_mean": lambda: (figures_of_components(~grid)[2], ones),
        }
    else:
        ratios |= {
            "P_next_masked_given_masked": lambda: following(mask),
            "masked_span_length_mean": lambda: (hidden, runs(mask)),
            "masked_spans_per_row_mean": lambda: (runs(mask), ones),
            "visible_run_length_mean": lambda: (shown, runs(visible)),
            "visible_runs_per_row_mean": lambda: (runs(visible), ones),
        }
        spreads |= {
            "masked_spans_per_row_std": lambda: runs(mask),
            "visible_runs_per_row_std": lambda: runs(visible),
        }
    p_values = {}
    for name in figures.keys() & ratios.keys():
        numerator, denominator = ratios[name]()
        counted = rows
        if name.endswith("first_500"):
            counted = min(rows, 500)
        elif name in OF_COMPONENTS:
            counted = figures["components_over_first_rows"]
        numerator, denominator = (x.double().view(-1, together).sum(1) for x in (numerator, denominator))
        p_values[name] = p_of_ratio(numerator, denominator, figures[name], counted / together)
    for name in figures.keys() & spreads.keys():
        p_values[name] = p_of_std(spreads[name]().double(), figures[name], rows, together)
    return p_values


@pytest.mark.parametrize("generator", [torch_generator, keys])
@pytest.mark.parametrize(("name", "entry"), ENTRIES)
def test_reference_mask_statistics(name, entry, generator):
    """As many rows as the reference drew have the same statistics, from either kind of generator.

    Counts are compared exactly where the reference makes them equal. Every other figure gives a p-value (two samples of
    independent rows, see the `p_of_*` functions): means, standard deviations, neighbours, spans, groups, and how often
    each position is hidden. The smallest, times their number (Bonferroni), must exceed `FALSE_ALARM`: that is how often
    a correct generator fails on an entry. Seeds are fixed, so a result does not change from run to run.
    """
    case = reference_cases.load(name)
    figures = case.info["statistics"][entry]
    args, rows = figures["args"], figures["rows"]
    length = figures.setdefault("length", math.prod(args.get("img_shape", ())))
    if used := differences.left_out_of(args):
        pytest.skip(f"docs/differences.md leaves out {used}")

    mask = draw(args, rows, length, generator(rows))
    assert mask.shape == (rows, length)
    hidden = mask.sum(1)
    if figures["masked_count_min"] == figures["masked_count_max"]:
        assert int(hidden.min()) == figures["masked_count_min"]
        assert int(hidden.max()) == figures["masked_count_max"]
    two_dimensional = "P_right_masked_given_masked" in figures or "img_shape" in args
    together = rows_of_a_call(args)
    p_values = p_of_figures(mask, figures, two_dimensional, together)
    p_values |= p_of_positions(mask, case.tensors[f"{entry}.position_frequency"].double(), rows, together)
    worst = min(p_values, key=p_values.__getitem__)
    assert p_values[worst] * len(p_values) > FALSE_ALARM, f"{worst} has p = {p_values[worst]:.1e} of {p_values}"


def test_masks_of_a_sample_have_blocks_of_one_shape():
    """Of one block each: where it is not cut off at an edge, its extents are those of a shape."""
    samples, views, grid = 60, 4, (40, 30)
    of_samples = keys(samples).repeat_interleave(views)
    options = {"generator": keys(samples * views, 1), "sample_keys": of_samples, "exact_count": False}
    masks = flexible_block_mask(samples * views, grid, 30 / 1_200, 5, **options).unflatten(1, grid)
    extents = torch.stack([masks.any(2).sum(1), masks.any(1).sum(1)], 1)  # [samples * views, 2]
    assert torch.equal(extents.prod(1), masks.sum((1, 2)))
    found = [{tuple(one) for one in of_sample.tolist() if math.prod(one) >= 24} for of_sample in extents.split(views)]
    assert all(len(shapes) <= 1 for shapes in found) and set().union(*found) == set(SHAPES)


def test_flexible_blocks_come_by_the_config():
    config = Data2Vec2SpectrogramConfig(flexible_mask=True)
    mask, _, _ = draw_views(config, keys(3), (64, 8))
    assert mask.shape == (3, 16, 512) and bool((mask.sum(2) == 410).all())
    alone, _, _ = draw_views(config, keys(3)[1:2], (64, 8))
    assert torch.equal(mask[1], alone[0]), "a sample's masks don't depend on the batch"
    plain, _, _ = draw_views(Data2Vec2SpectrogramConfig(), keys(3), (64, 8))
    assert not torch.equal(mask, plain)
    with pytest.raises(ValueError, match=r"blocks along two axes, but the grid is \(4, 6, 6\)"):
        flexible_block_mask(1, (4, 6, 6), 0.8, 5, generator=keys(1))


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
