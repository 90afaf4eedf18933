"""Masks have the distribution of the authors' ones: counts, places, lengths and components, by recorded figures."""

import math
from collections.abc import Callable

import differences
import numpy as np
import pytest
import reference_cases
import torch
from scipy import ndimage, stats
from test_masking import keys, torch_generator
from torch import Tensor

from modeling_data2vec import Data2Vec2SpectrogramConfig
from modeling_data2vec.beit_masks import beit_block_mask
from modeling_data2vec.drawn_masks import draw_views
from modeling_data2vec.flexible_masks import SHAPES, flexible_block_mask
from modeling_data2vec.masking import (
    block_mask_1d,
    block_mask_2d,
    random_mask,
)
from modeling_data2vec.span_masks import span_mask

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
