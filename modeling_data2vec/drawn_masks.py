"""The masks that a config asks for: which of the functions in `masking.py`, with which numbers."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from .beit_masks import beit_block_mask
from .configuration_data2vec import Data2VecTextPreTrainingConfig, Data2VecVisionPreTrainingConfig
from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .counter_rng import derive_key, derive_keys, to_int32
from .flexible_masks import flexible_block_mask
from .masking import block_mask, random_mask
from .span_masks import span_mask

FEW = 128  # keys that are derived faster one by one than by calls of tensors


def draw_masks(
    config: Any,
    keys: Tensor,
    grid: tuple[int, ...],
    lengths: Tensor | None = None,
    sample_keys: Tensor | None = None,
) -> Tensor:
    """Masks by a pretraining config; equal keys give equal masks.

    Args:
        config: of data2vec 1.0 or 2.0, for one modality.
        keys: int32 [N], one for each mask.
        grid: shape of the positions, T in all.
        lengths: int [N], real positions of each mask where not all T are; None for all.
        sample_keys: int32 [B], of samples of N / B masks in a row, for what these share; default: `keys`.

    Returns:
        bool [N, T], True at hidden positions.

    Example:
        >>> from modeling_data2vec import Data2Vec2VisionConfig
        >>> keys = torch.arange(2, dtype=torch.int32)
        >>> draw_masks(Data2Vec2VisionConfig(image_size=64), keys, (4, 4)).sum(1)
        tensor([13, 13])
    """
    if isinstance(config, Data2Vec2PreTrainingConfig):
        if config.mask_length == 1:
            return random_mask(len(keys), prod(grid), config.mask_prob, generator=keys, lengths=lengths)
        shape: dict[str, Any] = {
            "mask_prob": config.mask_prob,
            "mask_length": config.mask_length,
            "generator": keys,
            "mask_prob_adjust": config.mask_prob_adjust,
            "inverse": config.inverse_mask,
        }
        if getattr(config, "flexible_mask", False):
            return flexible_block_mask(len(keys), grid, lengths=lengths, sample_keys=sample_keys, **shape)
        return block_mask(len(keys), grid, lengths=lengths, **shape)
    if isinstance(config, Data2VecVisionPreTrainingConfig):
        sizes: dict[str, Any] = {"min_block": config.min_mask_block, "max_block": config.max_mask_block}
        return beit_block_mask(len(keys), (grid[0], grid[1]), config.mask_prob, generator=keys, **sizes)
    spans = (len(keys), grid[0], config.mask_prob, config.mask_length)
    if isinstance(config, Data2VecTextPreTrainingConfig):
        return span_mask(*spans, generator=keys, lengths=lengths, fit=False)
    return span_mask(*spans, generator=keys, lengths=lengths, equal_counts=config.equal_mask_counts)


def draw_views(
    config: Any, keys: Tensor, grid: tuple[int, ...], lengths: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The M masks of each sample, and the keys that they come from.

    Args:
        config, grid: as for `draw_masks`.
        keys: int32 [B], one for each sample.
        lengths: int [B], real positions of each sample; None for all.

    Returns:
        (bool [B, M, T] masks; int32 [B, M] keys, of the decoder's noise as well; bool [B, 1, T], True at the positions
        that masks take for real ones, None for all of them).
    """
    sample_keys, keys = keys, _keys_of_views(keys, config.num_masks)  # [B], [B, M]
    if lengths is not None and config.masks_reach_padding:
        lengths = None
    of_rows = None if lengths is None else lengths.repeat_interleave(keys.shape[1])  # [B * M]
    mask = draw_masks(config, keys.view(-1), grid, of_rows, sample_keys).view(*keys.shape, -1)  # [B, M, T]
    valid = None if lengths is None else torch.arange(prod(grid), device=keys.device) < lengths[:, None, None]
    return mask, keys, valid


def _keys_of_views(keys: Tensor, num_masks: int) -> Tensor:
    """A key for each of the M masks of a sample: [B] to [B, M]."""
    if keys.device.type != "cpu" or len(keys) * num_masks > FEW:
        return derive_keys(keys[:, None], torch.arange(num_masks, device=keys.device))
    derived = [[to_int32(derive_key(key, mask)) for mask in range(num_masks)] for key in keys.tolist()]
    return torch.tensor(derived, dtype=torch.int32)
