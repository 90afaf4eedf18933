"""EAT's blocks of several shapes (its `flexible_mask`): long in time, long over mel bands, or square."""

from typing import Any

import torch
from torch import Tensor

from .masking import SHAPE_STREAM, Generator, block_mask, one_number_each

SHAPES = ((6, 4), (5, 5), (8, 3))  # patches along the first and the second axis


def flexible_block_mask(
    num_masks: int,
    grid: tuple[int, ...],
    mask_prob: float,
    mask_length: int,
    *,
    generator: Generator,
    sample_keys: Tensor | None = None,
    lengths: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Hide (or with `inverse` show) blocks of one of three shapes, the same one for all masks of a sample.

    As many blocks are drawn as their own area asks for. The authors place them as squares of `mask_length`: each begins
    `mask_length // 2` patches before its centre along both axes.

    Args:
        num_masks: number of masks N.
        grid: (h, w) patches.
        mask_prob, mask_length, generator, lengths: as in `block_mask`.
        sample_keys: int32 [B], one for the N / B masks in a row of each sample, which get the same shape; default: each
            mask has its own.
        options: the other arguments of `block_mask`.

    Returns:
        bool [N, h * w].

    Raises:
        ValueError: the grid has not two axes.

    Example:
        >>> keys = torch.arange(4, dtype=torch.int32)
        >>> masks = flexible_block_mask(4, (64, 8), 0.8, 5, generator=keys, inverse=True, mask_prob_adjust=0.07)
        >>> masks.sum(1)
        tensor([410, 410, 410, 410])
    """
    if len(grid) != 2:
        raise ValueError(f"flexible_mask has blocks along two axes, but the grid is {grid}: set it to False")
    shared = generator if sample_keys is None else sample_keys.repeat_interleave(num_masks // len(sample_keys))
    numbers = one_number_each(num_masks, shared, SHAPE_STREAM)
    chosen = torch.tensor([int(number * len(SHAPES)) for number in numbers])
    masks = torch.zeros(num_masks, grid[0] * grid[1], dtype=torch.bool, device=generator.device)
    for index, shape in enumerate(SHAPES):
        rows = (chosen == index).nonzero().flatten().to(generator.device)
        if len(rows):
            masks[rows] = block_mask(
                len(rows),
                grid,
                mask_prob,
                mask_length,
                generator=generator[rows] if isinstance(generator, Tensor) else generator,
                block_shape=shape,
                lengths=None if lengths is None else lengths[rows],
                **options,
            )
    return masks
