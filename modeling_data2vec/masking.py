"""Which positions the student may not see: random, 1-D block and (inverse) 2-D block masks with exact counts.

Every function draws all masks of a batch at once and takes its randomness from an explicit `generator`: either a
`torch.Generator`, or an int32 tensor of N keys (see `counter_rng`), one for each mask; equal keys give equal masks.
A mask is a bool tensor in which True marks a position that is hidden from the student.
"""

import torch
from torch import Tensor

from .counter_rng import uniform

Generator = torch.Generator | Tensor

# Streams of `counter_rng` in use: one for block centres, one for the fill-up to the exact count; the decoder's noise
# (heads.py) has a third.
CENTRE_STREAM, FILL_STREAM, NOISE_STREAM = 1, 2, 3


def _uniform(num: int, count: int, generator: Generator, stream: int) -> Tensor:
    """[num, count] uniform numbers in [0, 1) from either kind of generator."""
    if isinstance(generator, torch.Generator):
        return torch.rand(num, count, generator=generator, device=generator.device)
    if generator.shape != (num,):
        raise ValueError(f"generator holds keys of shape {tuple(generator.shape)}, but {num} masks need ({num},)")
    return uniform(generator, count, stream)


def _check(length: int, mask_prob: float, mask_length: int = 1) -> None:
    if not 0.0 < mask_prob < 1.0:
        raise ValueError(f"mask_prob is {mask_prob}, but must lie strictly between 0 and 1")
    if length < 2:
        raise ValueError(f"{length} position(s) can't be masked: at least one must be hidden and one visible")
    if mask_length < 1:
        raise ValueError(f"mask_length is {mask_length}, but must be at least 1")


def _with_exact_count(covered: Tensor, count: int, generator: Generator) -> Tensor:
    """Add or remove random single positions of a [N, T] bool mask until each row has `count` True ones."""
    noise = _uniform(covered.shape[0], covered.shape[1], generator, FILL_STREAM)
    # Covered positions score in [1, 2), the others in [0, 1): the top `count` are a random subset of the covered ones
    # when those are too many, and all of them with random others when they are too few.
    chosen = (covered + noise).topk(count, dim=1).indices  # [N, count]
    return torch.zeros_like(covered).scatter_(1, chosen, True)


def random_mask(num_masks: int, length: int, mask_prob: float, *, generator: Generator) -> Tensor:
    """Hide single positions uniformly at random (data2vec 2.0 text).

    Args:
        num_masks: number of masks N.
        length: number of positions T.
        mask_prob: share of positions to hide, in (0, 1); exactly `T - int(T * (1 - mask_prob))` are hidden.
        generator: `torch.Generator` or [N] int32 keys.

    Returns:
        bool [N, T].

    Example:
        >>> random_mask(2, 10, 0.5, generator=torch.Generator().manual_seed(0)).sum(1)
        tensor([5, 5])
    """
    _check(length, mask_prob)
    visible = min(max(1, int(length * (1 - mask_prob))), length - 1)
    noise = _uniform(num_masks, length, generator, FILL_STREAM)
    chosen = noise.topk(length - visible, dim=1).indices
    return torch.zeros_like(noise, dtype=torch.bool).scatter_(1, chosen, True)


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
        exact_count: afterwards hide or show random single positions, so that every mask hides equally many.

    Returns:
        bool [N, T].

    Example:
        >>> block_mask_1d(2, 100, 0.5, 5, generator=torch.Generator().manual_seed(0)).sum(1)
        tensor([50, 50])
    """
    return _block_mask(num_masks, (length,), mask_prob, mask_length, generator, mask_prob_adjust, inverse, exact_count)


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
) -> Tensor:
    """Hide (or with `inverse` show) squares of `mask_length` x `mask_length` patches (data2vec 2.0 images).

    Args:
        num_masks: number of masks N.
        grid: rows and columns (h, w) of patches; need not be square.
        mask_prob, mask_length, generator, mask_prob_adjust, inverse, exact_count: as in `block_mask_1d`.

    Returns:
        bool [N, h * w], patches row by row.

    Example:
        >>> masks = block_mask_2d(2, (14, 14), 0.8, 3, inverse=True, mask_prob_adjust=0.07,
        ...                       generator=torch.Generator().manual_seed(0))
        >>> (~masks).sum(1)
        tensor([39, 39])
    """
    return _block_mask(num_masks, grid, mask_prob, mask_length, generator, mask_prob_adjust, inverse, exact_count)


def _block_mask(
    num_masks: int,
    grid: tuple[int, ...],
    mask_prob: float,
    mask_length: int,
    generator: Generator,
    mask_prob_adjust: float,
    inverse: bool,
    exact_count: bool,
) -> Tensor:
    """Blocks on a grid of one or two dimensions; the result is flattened, [N, T]."""
    length = 1
    for size in grid:
        length *= size
    _check(length, mask_prob, mask_length)
    block_prob = 1 - mask_prob if inverse else mask_prob
    num_blocks = int(length * ((block_prob + mask_prob_adjust) / mask_length ** len(grid)))

    centres = _uniform(num_masks, num_blocks, generator, CENTRE_STREAM).mul(length).long()  # [N, blocks]
    centres = centres.clamp_(max=length - 1)  # u * length can round up to length
    offsets = torch.arange(mask_length, device=centres.device) - mask_length // 2  # [len]
    positions = torch.zeros_like(centres)[..., None]  # [N, blocks, 1]
    stride = length
    for size in grid:
        stride //= size
        coordinate = (centres // stride % size)[..., None] + offsets  # [N, blocks, len]
        coordinate = coordinate.clamp_(0, size - 1)
        # [N, blocks, cells so far, 1] + [N, blocks, 1, len] -> [N, blocks, cells]
        positions = (positions[..., :, None] + stride * coordinate[..., None, :]).flatten(2)
    covered = torch.zeros(num_masks, length, dtype=torch.bool, device=centres.device)
    covered.scatter_(1, positions.flatten(1), True)  # [N, T]

    if exact_count:
        # The bounds keep a tiny grid trainable: something is always visible and something always hidden.
        covered = _with_exact_count(covered, min(max(1, int(length * block_prob)), length - 1), generator)
    return ~covered if inverse else covered


def visible_ids(mask: Tensor) -> Tensor:
    """Positions that the student sees, in order.

    Args:
        mask: bool [..., T]; all rows must hide equally many positions.

    Returns:
        int64 [..., V] with V = T - hidden positions of a row.

    Raises:
        ValueError: if rows differ, or nothing is visible, or nothing is hidden.

    Example:
        >>> visible_ids(torch.tensor([[True, False, False], [False, True, False]]))
        tensor([[1, 2],
                [0, 2]])
    """
    visible = (~mask).sum(-1)
    fewest, most = int(visible.min()), int(visible.max())
    if fewest != most:
        raise ValueError(
            f"mask leaves between {fewest} and {most} positions visible in different rows, but all rows must leave "
            "equally many: draw masks with exact_count=True, or pass ids_keep, which says what each row keeps"
        )
    if most == 0:
        raise ValueError("mask leaves nothing visible to the student: lower mask_prob, or use larger inputs")
    if most == mask.shape[-1]:
        raise ValueError("mask hides nothing, so there is nothing to predict: raise mask_prob")
    return torch.argsort(mask.to(torch.uint8), dim=-1, stable=True)[..., :most]
