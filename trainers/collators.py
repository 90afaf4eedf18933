"""Batches for pretraining: inputs, and the masks that the collator draws for them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from modeling_data2vec import Data2Vec2VisionConfig
from modeling_data2vec.counter_rng import derive_keys
from modeling_data2vec.masking import block_mask_2d, random_mask, visible_ids


class ImageMaskCollator:
    """Stacks images and draws M masks for each.

    Masks and the decoder's noise depend on a sample's `key` alone (which `PretrainingImages` derives from seed, epoch
    and sample), not on the batch: accumulation, the number of workers and processes, and resuming don't change them.
    Samples without a key get one from torch's global generator.

    Args:
        config: reads `num_masks`, the mask fields and `patch_size`.

    Example:
        >>> collator = ImageMaskCollator(Data2Vec2VisionConfig(image_size=64, num_masks=4))
        >>> batch = collator([{"pixel_values": torch.zeros(3, 64, 64), "key": i} for i in range(2)])
        >>> {name: tuple(value.shape) for name, value in batch.items()}["mask"]
        (2, 4, 16)
    """

    def __init__(self, config: Data2Vec2VisionConfig) -> None:
        self.config = config

    def draw(self, keys: Tensor, grid: tuple[int, int]) -> Tensor:
        """Masks for [N] int32 keys: bool [N, T]."""
        config = self.config
        if config.mask_length == 1:
            return random_mask(len(keys), grid[0] * grid[1], config.mask_prob, generator=keys)
        return block_mask_2d(
            len(keys),
            grid,
            config.mask_prob,
            config.mask_length,
            generator=keys,
            mask_prob_adjust=config.mask_prob_adjust,
            inverse=config.inverse_mask,
        )

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        pixel_values = torch.stack([example["pixel_values"] for example in examples])  # [B, channels, H, W]
        height, width = pixel_values.shape[2:]
        grid = (height // self.config.patch_size, width // self.config.patch_size)
        if "key" in examples[0]:
            keys = torch.tensor([int(example["key"]) for example in examples], dtype=torch.int32)
        else:
            keys = torch.randint(-(2**31), 2**31, (len(examples),), dtype=torch.int32)
        keys = derive_keys(keys[:, None], torch.arange(self.config.num_masks))  # [B, M]
        mask = self.draw(keys.flatten(), grid).unflatten(0, keys.shape)  # [B, M, T]
        return {"pixel_values": pixel_values, "mask": mask, "ids_keep": visible_ids(mask), "noise_keys": keys}
