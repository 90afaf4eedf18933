"""Masks of the positions that the student may not see.

data2vec 2.0: random masks and (inverse) block masks over any grid, with exact counts. Those of data2vec 1.0 are in
`span_masks.py` (speech, text) and `beit_masks.py` (images).

Every function draws all masks of a batch at once and takes its randomness from an explicit `generator`: either a
`torch.Generator`, or an int32 tensor of N keys (see `counter_rng`), one for each mask; equal keys give equal masks.
A mask is a bool tensor in which True marks a position that is hidden from the student.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .counter_rng import random_bits, uniform, uniform_of_key

Generator = torch.Generator | Tensor

# Streams of `counter_rng` in use: block centres, the fill-up to the exact count, the decoder's noise (heads.py), random
# crops (trainers/modalities/speech.py) and dropout, which share the fourth, since keys of dropout are of torch's
# generator. Number and starts of spans, their thinning out, BEiT's blocks and the shapes of EAT's have the others.
CENTRE_STREAM, FILL_STREAM = 1, 2
SPAN_STREAM, START_STREAM, THIN_STREAM, BEIT_STREAM, SHAPE_STREAM = 5, 6, 7, 8, 9
BITS = bytes.maketrans(b"01", b"\0\1")  # of digits


def uniform_numbers(num: int, count: int, generator: Generator, stream: int) -> Tensor:
    """[num, count] uniform numbers in [0, 1) from either kind of generator."""
    if isinstance(generator, torch.Generator):
        return torch.rand(num, count, generator=generator, device=generator.device)
    return uniform(_checked(generator, num), count, stream)


def one_number_each(num: int, generator: Generator, stream: int) -> list[float]:
    """The first of `uniform_numbers` of each mask, which costs less for a few of them."""
    if isinstance(generator, torch.Generator):
        return uniform_numbers(num, 1, generator, stream).flatten().tolist()
    keys: list[int] = _checked(generator, num).tolist()
    return [uniform_of_key(key, 1, stream)[0] for key in keys]


def _checked(keys: Tensor, num: int) -> Tensor:
    if keys.shape != (num,):
        raise ValueError(f"generator holds keys of shape {tuple(keys.shape)}, but {num} masks need ({num},)")
    return keys


def row_lengths(num_masks: int, length: int, lengths: Tensor | None) -> list[int]:
    """Positions of each of N masks."""
    if lengths is None:
        return [length] * num_masks
    rows: list[int] = lengths.tolist()
    if lengths.shape != (num_masks,) or max(rows) > length or min(rows) < 2:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)} and values from {int(lengths.min())} to {int(lengths.max())}, "
            f"but {num_masks} masks of {length} positions need ({num_masks},) values from 2 to {length}"
        )
    return rows


def whole_part(row: int, share: float, size: int = 1, plus: float = 0.0) -> int:
    """`int(T * share / size + plus)` of the authors' code, in this order.

    10 * 0.3 / 3 is 1, and 10 * (0.3 / 3) is below 1.
    """
    return int(row * share / size + plus)


def check_mask(length: int, mask_prob: float, mask_length: int = 1) -> None:
    """Raise a ValueError for a share that is none, or for too few positions."""
    if not 0.0 < mask_prob < 1.0:
        raise ValueError(f"mask_prob is {mask_prob}, but must lie strictly between 0 and 1")
    if length < 2:
        raise ValueError(f"{length} position(s) can't be masked: at least one must be hidden and one visible")
    if mask_length < 1:
        raise ValueError(f"mask_length is {mask_length}, but must be at least 1")


def ranked(
    counts: Sequence[int],
    length: int,
    rows: Sequence[int],
    generator: Generator,
    stream: int,
    first: Tensor | None = None,
) -> Tensor:
    """`counts` random positions of each mask, in random order where counts differ: int64 [N, most], to be cut off.

    Only the first `rows` of a mask's positions take part, and those where `first`, bool [N, T], is True come first.
    """
    num_masks, most = len(counts), max(counts)
    whole, length = length, max(rows)  # what is padded in all rows, or has no place, takes no part
    if isinstance(generator, torch.Generator):
        bits = uniform_numbers(num_masks, whole, generator, stream)[:, :length].mul(2**24).long().mul_(2**8)  # [N, T]
    else:
        bits = random_bits(_checked(generator, num_masks), length, stream).long().bitwise_and_(0xFFFFFF00)
    # 24 random bits, and equal numbers told apart by position: else ties would depend on how long other rows are.
    places = torch.arange(0, -length, -1, device=bits.device)
    scores = torch.add(places, bits, alpha=2**24)  # [N, T], from -T to 2^56
    if first is not None:
        scores += first[:, :length] * 2**56
    if min(rows) < length:
        scores.masked_fill_(places <= -torch.tensor(rows, device=bits.device)[:, None], -(2**56))
    return scores.topk(most, dim=1, sorted=min(counts) < most).indices


def choose(
    covered: Tensor | None,
    counts: Sequence[int],
    length: int,
    rows: Sequence[int],
    generator: Generator,
    stream: int = FILL_STREAM,
) -> Tensor:
    """Exactly `counts` of each mask's first `rows` positions, covered ones first; bool [N, T].

    Too many covered positions are thinned out, too few are filled up, both at random.
    """
    best = ranked(counts, length, rows, generator, stream, covered)  # [N, most]
    chosen = torch.zeros(len(counts), length, dtype=torch.bool, device=best.device)
    most = best.shape[1]
    if min(counts) == most:
        return chosen.scatter_(1, best, True)
    taken = torch.arange(most, device=best.device) < torch.tensor(counts, device=best.device)[:, None]  # [N, most]
    return chosen.scatter_(1, best, taken)


def from_bits(masks: Sequence[int], length: int) -> Tensor:
    """Masks as numbers, whose bit i says whether position i is hidden, as bool [N, T]."""
    # The lowest bit is the first position: the digits of each number, from right to left.
    digits = "".join(f"{mask:0{length}b}"[::-1] for mask in masks).encode()
    return torch.frombuffer(bytearray(digits.translate(BITS)), dtype=torch.bool).view(len(masks), length)


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
    rows = row_lengths(num_masks, length, lengths)
    counts = [row - min(max(1, whole_part(row, 1 - mask_prob)), row - 1) for row in rows]
    return choose(None, counts, length, rows, generator)


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
    block_shape: tuple[int, ...] | None = None,
) -> Tensor:
    """Hide (or with `inverse` show) blocks on a grid of any number of axes: spans, squares, cubes.

    The arguments are those of `block_mask_1d` and `block_mask_2d`. Masks may differ in the extent of the first axis,
    time, along which batches are padded. The result is flattened, [N, T]. `block_shape` is a block's extent along each
    axis, by default `mask_length`; in any case it begins `mask_length // 2` cells before its centre.

    Example:
        >>> block_mask(2, (4, 6, 6), 0.75, 2, inverse=True, generator=torch.Generator().manual_seed(0)).sum(1)
        tensor([108, 108])
    """
    length, in_a_row = math.prod(grid), math.prod(grid[1:])
    check_mask(length, mask_prob, mask_length)
    rows = row_lengths(num_masks, length, lengths)
    block_prob = 1 - mask_prob if inverse else mask_prob
    # As many blocks are drawn as would cover the share if none overlapped or reached over the edge. Only the axes after
    # the first limit a block's size: that of one sample must not depend on how far others are padded.
    blocks = block_shape or (mask_length,) * len(grid)
    size = blocks[0] * math.prod(min(block, extent) for block, extent in zip(blocks[1:], grid[1:], strict=True))
    share = (block_prob + mask_prob_adjust) / size  # blocks per position
    num_blocks = int(length * share)

    # Centres are drawn from each row's real positions, as numbers of flattened cells.
    extents = torch.tensor(rows, device=generator.device)[:, None]  # [N, 1]
    centres = uniform_numbers(num_masks, num_blocks, generator, CENTRE_STREAM).mul(extents).long()  # [N, blocks]
    centres = centres.minimum(extents - 1)  # u * length can round up to length
    positions = _block_cells(centres, grid, blocks, [extents // in_a_row, *grid[1:]], mask_length // 2)
    covered = torch.zeros(num_masks, length + 1, dtype=torch.bool, device=centres.device)
    # Shorter rows have fewer blocks: the others go to an extra column, which is cut off.
    if min(rows) < length:
        used = torch.tensor([whole_part(row, share) for row in rows], device=centres.device)[:, None]  # [N, 1]
        in_use = torch.arange(num_blocks, device=centres.device) < used  # [N, blocks]
        positions = torch.where(in_use[..., None], positions, length)
    covered.scatter_(1, positions.flatten(1), True)
    covered = covered[:, :length]

    if exact_count:
        # Blocks overlap, so masks cover unequal numbers; but the student's visible positions are one tensor [R, V, D].
        # The bounds keep a tiny grid trainable: something is always visible and something always hidden.
        counts = [min(max(1, whole_part(row, block_prob)), row - 1) for row in rows]
        covered = choose(covered, counts, length, rows, generator)
    # What lies outside of inverse blocks is hidden, but never padding.
    return (~covered & (torch.arange(length, device=extents.device) < extents)) if inverse else covered


def _block_cells(
    centres: Tensor, grid: tuple[int, ...], blocks: tuple[int, ...], real: list[Tensor | int], before: int
) -> Tensor:
    """Flattened cells of the blocks around `centres` [N, blocks]: [N, blocks, cells], clamped to the real extents.

    One axis at a time: the coordinates along an axis are the centre's and its neighbours, from `before` cells before it
    on, and each is combined with all cells of the axes before.
    """
    cells = torch.zeros_like(centres)[..., None]  # [N, blocks, 1]
    stride = math.prod(grid)  # flattened cells from one coordinate of an axis to the next
    for extent, end, block in zip(grid, real, blocks, strict=True):
        stride //= extent
        offsets = torch.arange(block, device=centres.device) - before  # [len]
        coordinate = (centres // stride % extent)[..., None] + offsets  # [N, blocks, len]
        last = torch.as_tensor(end, device=coordinate.device)[..., None] - 1  # [N, 1, 1] or [1]
        coordinate = coordinate.clamp(min=0).minimum(last)
        # [N, blocks, cells so far, 1] + [N, blocks, 1, len] -> [N, blocks, cells]
        cells = (cells[..., :, None] + stride * coordinate[..., None, :]).flatten(2)
    return cells
