"""Masks of the positions that the student may not see.

data2vec 2.0: random masks and (inverse) block masks over any grid, with exact counts. data2vec 1.0: spans; its masks of
images are in `beit_masks.py`.

Every function draws all masks of a batch at once and takes its randomness from an explicit `generator`: either a
`torch.Generator`, or an int32 tensor of N keys (see `counter_rng`), one for each mask; equal keys give equal masks.
A mask is a bool tensor in which True marks a position that is hidden from the student.
"""

import math

import torch
from torch import Tensor

from .counter_rng import uniform

Generator = torch.Generator | Tensor

# Streams of `counter_rng` in use: one for block centres, one for the fill-up to the exact count; the decoder's noise
# (heads.py) has a third, random crops (trainers/modalities/speech.py) a fourth. Number and starts of spans, their
# thinning out to equal counts, and BEiT's blocks have the others.
CENTRE_STREAM, FILL_STREAM = 1, 2
SPAN_STREAM, START_STREAM, THIN_STREAM, BEIT_STREAM = 5, 6, 7, 8


def uniform_numbers(num: int, count: int, generator: Generator, stream: int) -> Tensor:
    """[num, count] uniform numbers in [0, 1) from either kind of generator."""
    if isinstance(generator, torch.Generator):
        return torch.rand(num, count, generator=generator, device=generator.device)
    if generator.shape != (num,):
        raise ValueError(f"generator holds keys of shape {tuple(generator.shape)}, but {num} masks need ({num},)")
    return uniform(generator, count, stream)


def _row_lengths(num_masks: int, length: int, lengths: Tensor | None, device: torch.device) -> Tensor:
    """Positions of each mask, int64 [N, 1]."""
    if lengths is None:
        return torch.full((num_masks, 1), length, device=device)
    if lengths.shape != (num_masks,) or int(lengths.max()) > length or int(lengths.min()) < 2:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)} and values from {int(lengths.min())} to {int(lengths.max())}, "
            f"but {num_masks} masks of {length} positions need ({num_masks},) values from 2 to {length}"
        )
    return lengths.to(device, torch.int64)[:, None]


def _whole_part(rows: Tensor, share: float, size: int = 1, plus: Tensor | float = 0.0) -> Tensor:
    """`int(T * share / size + plus)` of the authors' Python, for each of `rows` [N, 1]: int64 [N, 1].

    In double and in this order: 300 * (1 - 0.8) is below 60 there, and 60 in single precision; 10 * 0.3 / 3 is 1, and
    10 * (0.3 / 3) is below 1.
    """
    return (rows.double() * share / size + plus).long()


def check_mask(length: int, mask_prob: float, mask_length: int = 1) -> None:
    """Raise a ValueError for a share that is none, or for too few positions."""
    if not 0.0 < mask_prob < 1.0:
        raise ValueError(f"mask_prob is {mask_prob}, but must lie strictly between 0 and 1")
    if length < 2:
        raise ValueError(f"{length} position(s) can't be masked: at least one must be hidden and one visible")
    if mask_length < 1:
        raise ValueError(f"mask_length is {mask_length}, but must be at least 1")


def _choose(
    covered: Tensor, counts: Tensor, lengths: Tensor, generator: Generator, stream: int = FILL_STREAM
) -> Tensor:
    """Exactly `counts` [N, 1] of the first `lengths` [N, 1] positions, covered ones first; bool [N, T] to [N, T].

    Too many covered positions are thinned out, too few are filled up, both at random.
    """
    num_masks, length = covered.shape
    positions = torch.arange(length, device=covered.device)
    # One ranking both thins out and fills up: covered positions score in [1, 2), others in [0, 1), so the best `counts`
    # are random ones of the covered, then of the others. Equal numbers are told apart by position, in bits below those
    # of the random numbers: otherwise ties would depend on how long other rows are.
    scores = covered + uniform_numbers(num_masks, length, generator, stream).double() - positions * 2.0**-44
    scores.masked_fill_(positions >= lengths, -1.0)  # [N, T]; padding comes last
    most = int(counts.max())  # rows may take different numbers: rank as many as any of them, then cut off each row
    best = scores.topk(most, dim=1).indices  # [N, most], from the highest score down
    taken = torch.arange(most, device=covered.device) < counts  # [N, most]
    return torch.zeros_like(covered).scatter_(1, best, taken)


def random_mask(
    num_masks: int, length: int, mask_prob: float, *, generator: Generator, lengths: Tensor | None = None
) -> Tensor:
    """Hide single positions uniformly at random (data2vec 2.0 text).

    Args:
        num_masks: number of masks N.
        length: number of positions T.
        mask_prob: share of positions to hide, in (0, 1); exactly `T - int(T * (1 - mask_prob))` are hidden.
        generator: `torch.Generator` or [N] int32 keys.
        lengths: int [N], real positions of each mask where some have fewer than T; the rest is not hidden. With keys, a
            mask does not depend on T then.

    Returns:
        bool [N, T].

    Example:
        >>> random_mask(2, 10, 0.5, generator=torch.Generator().manual_seed(0)).sum(1)
        tensor([5, 5])
    """
    check_mask(length, mask_prob)
    rows = _row_lengths(num_masks, length, lengths, generator.device)
    visible = _whole_part(rows, 1 - mask_prob).clamp_(min=1).minimum(rows - 1)
    nothing = torch.zeros(num_masks, length, dtype=torch.bool, device=rows.device)
    return _choose(nothing, rows - visible, rows, generator)


def block_mask_1d(
    num_masks: int,
    length: int,
    mask_prob: float,
    mask_length: int,
    *,
    generator: Generator,
    mask_prob_adjust: float = 0.0,
    inverse: bool = False,
    exact_count: bool = True,
    lengths: Tensor | None = None,
) -> Tensor:
    """Hide (or with `inverse` show) spans of `mask_length` positions (data2vec 2.0 speech, arXiv 2212.07525 §3.3).

    Span centres are drawn uniformly with replacement; spans that reach over an end are clamped to it.

    Args:
        num_masks: number of masks N.
        length: number of positions T.
        mask_prob: share of positions to hide, in (0, 1).
        mask_length: positions a span covers.
        generator: `torch.Generator` or [N] int32 keys.
        mask_prob_adjust: added to the share that spans should cover when their number is computed, to make up for
            overlaps. With `inverse` it is added to the visible share.
        inverse: the spans are what stays visible.
        exact_count: afterwards hide or show random single positions, so that all masks of a length hide equally many.
        lengths: as in `random_mask`.

    Returns:
        bool [N, T].

    Example:
        >>> block_mask_1d(2, 100, 0.5, 5, generator=torch.Generator().manual_seed(0)).sum(1)
        tensor([50, 50])
    """
    return block_mask(
        num_masks,
        (length,),
        mask_prob,
        mask_length,
        generator=generator,
        mask_prob_adjust=mask_prob_adjust,
        inverse=inverse,
        exact_count=exact_count,
        lengths=lengths,
    )


def block_mask_2d(
    num_masks: int,
    grid: tuple[int, int],
    mask_prob: float,
    mask_length: int,
    *,
    generator: Generator,
    mask_prob_adjust: float = 0.0,
    inverse: bool = False,
    exact_count: bool = True,
    lengths: Tensor | None = None,
) -> Tensor:
    """Hide (or with `inverse` show) squares of `mask_length` x `mask_length` patches (data2vec 2.0 images, EAT).

    On a grid that is narrower than that they are as wide as the grid.

    Args:
        num_masks: number of masks N.
        grid: rows and columns (h, w) of patches; need not be square.
        mask_prob, mask_length, generator, mask_prob_adjust, inverse, exact_count: as in `block_mask_1d`.
        lengths: as in `random_mask`, where some grids have fewer rows than h: w patches for each row that is real.

    Returns:
        bool [N, h * w], patches row by row.

    Example:
        >>> masks = block_mask_2d(2, (14, 14), 0.8, 3, inverse=True, mask_prob_adjust=0.07,
        ...                       generator=torch.Generator().manual_seed(0))
        >>> (~masks).sum(1)
        tensor([39, 39])
    """
    return block_mask(
        num_masks,
        grid,
        mask_prob,
        mask_length,
        generator=generator,
        mask_prob_adjust=mask_prob_adjust,
        inverse=inverse,
        exact_count=exact_count,
        lengths=lengths,
    )


def block_mask(
    num_masks: int,
    grid: tuple[int, ...],
    mask_prob: float,
    mask_length: int,
    *,
    generator: Generator,
    mask_prob_adjust: float = 0.0,
    inverse: bool = False,
    exact_count: bool = True,
    lengths: Tensor | None = None,
) -> Tensor:
    """Hide (or with `inverse` show) blocks on a grid of any number of axes: spans, squares, cubes.

    The arguments are those of `block_mask_1d` and `block_mask_2d`. Masks may differ in the extent of the first axis,
    time, along which batches are padded. The result is flattened, [N, T].

    Example:
        >>> block_mask(2, (4, 6, 6), 0.75, 2, inverse=True, generator=torch.Generator().manual_seed(0)).sum(1)
        tensor([108, 108])
    """
    length, in_a_row = math.prod(grid), math.prod(grid[1:])
    check_mask(length, mask_prob, mask_length)
    rows = _row_lengths(num_masks, length, lengths, generator.device)  # [N, 1]
    block_prob = 1 - mask_prob if inverse else mask_prob
    # As many blocks are drawn as would cover the share if none overlapped or reached over the edge. Only the axes after
    # the first limit a block's size: that of one sample must not depend on how far others are padded.
    size = mask_length * math.prod(min(mask_length, extent) for extent in grid[1:])
    share = (block_prob + mask_prob_adjust) / size  # blocks per position
    num_blocks = int(length * share)

    # Centres are drawn from each row's real positions, as numbers of flattened cells.
    centres = uniform_numbers(num_masks, num_blocks, generator, CENTRE_STREAM).mul(rows).long()  # [N, blocks]
    centres = centres.minimum(rows - 1)  # u * length can round up to length
    # From centres to the cells of their blocks, one axis at a time: the coordinates along an axis are the centre's and
    # its neighbours, clamped to the grid, and each is combined with all cells of the axes before.
    offsets = torch.arange(mask_length, device=centres.device) - mask_length // 2  # [len]
    positions = torch.zeros_like(centres)[..., None]  # [N, blocks, 1]
    stride = length  # flattened cells from one coordinate of an axis to the next
    for extent, real in zip(grid, [rows // in_a_row, *grid[1:]], strict=True):
        stride //= extent
        coordinate = (centres // stride % extent)[..., None] + offsets  # [N, blocks, len]
        last = torch.as_tensor(real, device=coordinate.device)[..., None] - 1  # [N, 1, 1] or [1]
        coordinate = coordinate.clamp(min=0).minimum(last)
        # [N, blocks, cells so far, 1] + [N, blocks, 1, len] -> [N, blocks, cells]
        positions = (positions[..., :, None] + stride * coordinate[..., None, :]).flatten(2)
    covered = torch.zeros(num_masks, length + 1, dtype=torch.bool, device=centres.device)
    # Shorter rows have fewer blocks: the others go to an extra column, which is cut off.
    in_use = torch.arange(num_blocks, device=centres.device) < _whole_part(rows, share)  # [N, blocks]
    covered.scatter_(1, torch.where(in_use[..., None], positions, length).flatten(1), True)
    covered = covered[:, :length]

    if exact_count:
        # Blocks overlap, so masks cover unequal numbers; but the student's visible positions are one tensor [R, V, D].
        # The bounds keep a tiny grid trainable: something is always visible and something always hidden.
        counts = _whole_part(rows, block_prob).clamp_(min=1).minimum(rows - 1)
        covered = _choose(covered, counts, rows, generator)
    # What lies outside of inverse blocks is hidden, but never padding.
    return (~covered & (torch.arange(length, device=rows.device) < rows)) if inverse else covered


def span_mask(
    num_masks: int,
    length: int,
    mask_prob: float,
    mask_length: int,
    *,
    generator: Generator,
    fit: bool = True,
    equal_counts: bool = False,
    lengths: Tensor | None = None,
) -> Tensor:
    """Hide spans of `mask_length` positions that may overlap (data2vec 1.0 speech and text, arXiv 2202.03555 §4).

    A mask has `mask_prob * T / mask_length` spans, rounded up or down at random, at least one; no two begin at the same
    place. At least one position stays visible, where the authors' code raises an error or masks nothing.

    Args:
        num_masks: number of masks N.
        length: number of positions T.
        mask_prob: share of positions that spans would hide if none overlapped, in (0, 1).
        mask_length: positions a span covers.
        generator: `torch.Generator` or [N] int32 keys.
        fit: spans lie wholly within the sequence (speech), so that its last position is never hidden; otherwise they
            begin anywhere and are cut off at its end (text).
        equal_counts: afterwards show random single positions, so that all masks hide as few as the one that hides
            fewest: masks then depend on each other.
        lengths: as in `random_mask`.

    Returns:
        bool [N, T].

    Example:
        >>> masks = span_mask(2, 100, 0.65, 10, generator=torch.Generator().manual_seed(0), equal_counts=True)
        >>> masks.sum(1)
        tensor([42, 42])
    """
    check_mask(length, mask_prob, mask_length)
    rows = _row_lengths(num_masks, length, lengths, generator.device)  # [N, 1]
    # Rounded up with the probability of the fraction, so that the share is right on average.
    chance = uniform_numbers(num_masks, 1, generator, SPAN_STREAM).double()  # [N, 1]
    num_spans = _whole_part(rows, mask_prob, mask_length, chance).clamp_(min=1)
    places = rows
    if fit:
        room = rows - mask_length
        places = torch.where(room <= num_spans, num_spans + 1, room).minimum(rows)  # as the authors count them
    nothing = torch.zeros(num_masks, length, dtype=torch.bool, device=rows.device)
    starts = _choose(nothing, num_spans.minimum(places), places, generator, START_STREAM)
    # A position is covered where more spans have begun than ended, which are those that began `mask_length` earlier.
    begun = starts.cumsum(1)  # [N, T], spans that have begun
    ended = torch.nn.functional.pad(begun, (mask_length, 0))[:, :length]
    covered = (begun > ended) & (torch.arange(length, device=rows.device) < rows)

    # Where spans cover all, one random position is shown: a student that sees nothing can't predict.
    shown = (chance * rows).long().minimum(rows - 1)  # [N, 1], a random position
    all_hidden = covered.sum(1, keepdim=True) == rows
    covered.scatter_(1, shown, covered.gather(1, shown) & ~all_hidden)
    if equal_counts:
        fewest = covered.sum(1, keepdim=True).amin(0, keepdim=True).expand(num_masks, 1)
        covered = _choose(covered, fewest, rows, generator, THIN_STREAM)
    return covered
