"""Masks of rectangles of random size and shape, as BEiT draws them; those of data2vec 1.0 for images."""

import math

import torch
from torch import Tensor

from .counter_rng import derive_keys
from .masking import BEIT_STREAM, Generator, check_mask, uniform_numbers

MAX_ATTEMPTS = 10  # for one block


def beit_block_mask(
    num_masks: int,
    grid: tuple[int, int],
    mask_prob: float,
    *,
    generator: Generator,
    min_block: int = 16,
    max_block: int | None = None,
) -> Tensor:
    """Hide rectangles of random size and shape, as BEiT does (arXiv 2106.08254 algorithm 1; data2vec 1.0 images).

    Blocks are drawn until enough patches are hidden. A mask for which ten blocks in a row don't do (too large, or
    nothing new) hides fewer; one for which none did hides a single patch.

    Args:
        num_masks: number of masks N.
        grid: rows and columns (h, w) of patches; need not be square.
        mask_prob: share of patches to hide, in (0, 1): `round(h * w * mask_prob)` at most.
        generator: `torch.Generator` or [N] int32 keys.
        min_block: patches of the smallest block, while as many are missing.
        max_block: patches of the largest block; None for as many as are missing.

    Returns:
        bool [N, h * w], patches row by row.

    Example:
        >>> beit_block_mask(2, (14, 14), 0.6, generator=torch.Generator().manual_seed(0)).sum(1)
        tensor([118, 118])
    """
    height, width = grid
    check_mask(height * width, mask_prob)
    device = generator.device
    goal = min(max(1, round(height * width * mask_prob)), height * width - 1)
    covered = torch.zeros(num_masks, height, width, dtype=torch.bool, device=device)
    missing = torch.full((num_masks,), goal, device=device)
    largest = height * width if max_block is None else max_block
    failures = torch.zeros_like(missing)
    rows, columns = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    # All masks draw a block at the same time, and each accepts its own or not. So a round of the loop is a few tensor
    # operations whatever N is, and a mask that has enough ignores what it draws.
    attempt = 0
    while bool(((missing > 0) & (failures < MAX_ATTEMPTS)).any()):
        # With keys, round i draws from keys derived by i: a mask is the same in any batch.
        keys = generator if isinstance(generator, torch.Generator) else derive_keys(generator, attempt)
        draws = uniform_numbers(num_masks, 4, keys, BEIT_STREAM).double().T  # four times [N]
        allowed = missing.clamp(max=largest)
        area = min_block + draws[0] * (allowed - min_block)
        aspect = torch.exp((2 * draws[1] - 1) * math.log(1 / 0.3))  # from .3 to 1 / .3
        # area = high * wide and aspect = high / wide give the two edges.
        high, wide = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()  # [N]
        top, left = (draws[2] * (height - high + 1)).long(), (draws[3] * (width - wide + 1)).long()
        block = _between(rows, top, high) & _between(columns, left, wide)  # [N, h, w]
        # A block must fit into the grid, hide something new, and no more than is missing.
        new = (block & ~covered).sum((1, 2))  # [N]
        accepted = (failures < MAX_ATTEMPTS) & (high < height) & (wide < width) & (new > 0) & (new <= allowed)
        covered |= block & accepted[:, None, None]
        missing = missing - new * accepted
        failures = torch.where(accepted, 0, failures + 1)
        attempt += 1
    # A mask without any block, as on a grid smaller than the smallest one, hides one patch: without any, no loss.
    mask = covered.flatten(1)  # [N, T]
    anywhere = (uniform_numbers(num_masks, 1, generator, BEIT_STREAM) * height * width).long()  # [N, 1]
    return mask.scatter(1, anywhere, mask.gather(1, anywhere) | ~mask.any(1, keepdim=True))


def _between(coordinates: Tensor, first: Tensor, count: Tensor) -> Tensor:
    """True where `first` <= coordinate < `first + count`: [h, 1] or [w], and [N], to bool [N, h, 1] or [N, 1, w]."""
    first, count = first[:, None, None], count[:, None, None]
    return (coordinates >= first) & (coordinates < first + count)
