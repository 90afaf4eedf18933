"""From an input with two axes to patches with sin-cos positions: what images and spectrograms have in common."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .embedding import Embedding, real_positions
from .feature_encoder import FeatureEncoder


def sincos_positions_2d(
    height: int, width: int, dim: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Sin-cos embedding of a grid of patches, for any height and width.

    The first half of the channels encodes the column, the second half the row; each half is [sin | cos] at frequencies
    10000^(-i / (dim / 4)).

    Args:
        height: rows of patches.
        width: columns of patches.
        dim: channels D, a multiple of 4.

    Returns:
        [height * width, D], patches row by row. Computed in fp64.

    Example:
        >>> sincos_positions_2d(2, 3, 8).shape
        torch.Size([6, 8])
    """
    if dim % 4:
        raise ValueError(f"dim is {dim}, but 2-D sin-cos positions need a multiple of 4")
    exponents = torch.arange(dim // 4, dtype=torch.float64, device=device) / (dim / 4)
    frequencies = 10000**-exponents  # [D/4]
    rows = torch.arange(height, dtype=torch.float64, device=device)[:, None].expand(-1, width).flatten()  # [h*w]
    columns = torch.arange(width, dtype=torch.float64, device=device)[None].expand(height, -1).flatten()  # [h*w]
    angles = [coordinate[:, None] * frequencies for coordinate in (columns, rows)]  # 2 x [h*w, D/4]
    return torch.cat([half for angle in angles for half in (angle.sin(), angle.cos())], dim=1).to(dtype)


class PatchFeatureEncoder(FeatureEncoder):
    """Non-overlapping patches of an input with two axes, with sin-cos positions: images and spectrograms."""

    config: Any

    def __init__(self, config: Any, num_channels: int):
        super().__init__(config)
        patch = config.patch_shape
        self.patch_embed: nn.Conv2d | None = nn.Conv2d(
            num_channels, config.hidden_size, kernel_size=patch, stride=patch
        )
        self._positions: dict[tuple, Tensor] = {}

    def init_weights(self) -> None:
        """The patch embedding is Xavier uniform of the flattened kernel, bias 0."""
        super().init_weights()
        if self.patch_embed is not None:
            weight = self.patch_embed.weight
            bound = math.sqrt(6 / (weight.shape[0] + weight[0].numel()))
            init.uniform_(weight, -bound, bound)
            init.zeros_(self.patch_embed.bias)

    def embed_patches(self, inputs: Tensor, num_rows: Tensor | None = None) -> Embedding:
        """Cut [B, channels, height, width] into patches, T = h * w of them, row by row.

        Args:
            inputs: what is cut; a remainder that does not fill a patch is left out.
            num_rows: int [B], rows of patches that are real; None where all are.
        """
        assert self.patch_embed is not None, "a teacher without its own patch embedding can't embed raw input"
        features = self.patch_embed(inputs.to(self.patch_embed.weight.dtype))  # [B, D, h, w]
        grid = (features.shape[2], features.shape[3])
        features = features.flatten(2).transpose(1, 2)  # [B, T, D]
        valid = None if num_rows is None else real_positions(num_rows * grid[1], features.shape[1])  # [B, T]
        return Embedding(features, features + self.positions(grid, features), grid, valid)

    def drop_local_encoder(self) -> None:
        self.patch_embed = None

    def coordinates(self, ids: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Cells of the grid, or with `alibi_dims` 1 places in the sequence of patches."""
        if self.config.alibi_dims == 1:
            return super().coordinates(ids, grid)
        return torch.stack([ids % grid[1], ids // grid[1]], dim=-1)

    def positions(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        """Sin-cos positions [T, D] of a grid, computed once for each grid, device and dtype."""
        if torch.compiler.is_compiling():  # exporting is compiling, too
            return sincos_positions_2d(*grid, like.shape[-1], device=like.device, dtype=like.dtype)
        key = (grid, like.device, like.dtype)
        if key not in self._positions:
            self._positions[key] = sincos_positions_2d(*grid, like.shape[-1], device=like.device, dtype=like.dtype)
        return self._positions[key]
