"""Masks of rectangles of random size and shape, as BEiT draws them; those of data2vec 1.0 for images."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from .counter_rng import derive_key, uniform_of_key
from .masking import BEIT_STREAM, Generator, check_mask, from_bits, one_number_each, uniform_numbers

MAX_ATTEMPTS = 10  # for one block
LOG_LONGEST = math.log(1 / 0.3)  # of a block's height to its width, or width to height


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
    goal = min(max(1, round(height * width * mask_prob)), height * width - 1)
    draws, largest = _Draws(generator, num_masks), max_block or height * width
    masks = [_one_mask(grid, goal, min_block, largest, partial(draws, row)) for row in range(num_masks)]
    if not all(masks):
        # A mask without any block, as on a grid smaller than the smallest one, hides one patch: without any, no loss.
        anywhere = one_number_each(num_masks, generator, BEIT_STREAM)
        masks = [mask or 1 << int(chance * height * width) for mask, chance in zip(masks, anywhere, strict=True)]
    return from_bits(masks, height * width).to(generator.device)


def _one_mask(
    grid: tuple[int, int], goal: int, min_block: int, max_block: int, draw: Callable[[int], Sequence[float]]
) -> int:
    """Hide blocks; patches are bits of a number, row by row, since few Python steps cost less than calls of tensors."""
    height, width = grid
    columns = _columns(height, width)
    covered, missing, failures, attempt = 0, goal, 0, 0
    while missing > 0 and failures < MAX_ATTEMPTS:
        chance, shape, down, right = draw(attempt)
        attempt += 1
        failures += 1
        allowed = min(missing, max_block)
        area = min_block + chance * (allowed - min_block)
        aspect = math.exp((2 * shape - 1) * LOG_LONGEST)  # from .3 to 1 / .3
        # area = high * wide and aspect = high / wide give the two edges.
        high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if high >= height or wide >= width:
            continue
        top, left = int(down * (height - high + 1)), int(right * (width - wide + 1))
        block = columns[high] * ((1 << wide) - 1) << top * width + left
        new = (block & ~covered).bit_count()
        # A block must hide something new, and no more than is missing.
        if 0 < new <= allowed:
            covered |= block
            missing -= new
            failures = 0
    return covered


@lru_cache(32)
def _columns(height: int, width: int) -> list[int]:
    """Blocks of one patch's width and of each height below that of the grid."""
    return [sum(1 << row * width for row in range(high)) for high in range(height)]


class _Draws:
    """The numbers of each attempt of each mask.

    Of keys each mask has its own, so that it is the same in any batch; a generator gives all masks theirs at once.
    """

    def __init__(self, generator: Generator, num_masks: int) -> None:
        self.generator, self.num_masks = generator, num_masks
        self.keys: list[int] = [] if isinstance(generator, torch.Generator) else generator.tolist()
        self.rounds: list[list[list[float]]] = []  # of a generator

    def __call__(self, row: int, attempt: int) -> Sequence[float]:
        if self.keys:
            return uniform_of_key(derive_key(self.keys[row], attempt), 4, BEIT_STREAM)
        if attempt == len(self.rounds):
            self.rounds.append(uniform_numbers(self.num_masks, 4, self.generator, BEIT_STREAM).tolist())
        return self.rounds[attempt][row]
