"""What turns the student's states into predictions: the light convolutional decoder of data2vec 2.0."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_data2vec import Data2Vec2PreTrainingConfig
from .counter_rng import normal, uniform
from .masking import NOISE_STREAM

NOISE_VECTORS = 4096


class MaskNoise(nn.Module):
    """The decoder's input at hidden positions: N(0, std²), as a function of a row's key.

    Each position takes one of 4,096 fixed normal vectors, picked at random: fresh numbers for every channel are dear on
    a CPU, for something whose only job is to say nothing.

    Args:
        dim: channels D.
        std: standard deviation.
    """

    def __init__(self, dim: int, std: float):
        super().__init__()
        self.dim, self.std = dim, std
        self._vectors: dict[tuple, Tensor] = {}

    def forward(self, keys: Tensor, length: int, dtype: torch.dtype) -> Tensor:
        """Noise for [R] int32 keys: [R * length, D]."""
        picks = uniform(keys, length, NOISE_STREAM).mul_(NOISE_VECTORS).long()  # [R, T]
        return self.vectors(keys.device, dtype).index_select(0, picks.flatten())

    def vectors(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The fixed vectors [4096, D], computed once for each device and dtype."""
        if (device, dtype) not in self._vectors or torch.compiler.is_compiling():
            keys = torch.arange(NOISE_VECTORS, dtype=torch.int32, device=device)
            vectors = normal(keys, self.dim, NOISE_STREAM).mul_(self.std).to(dtype)
            if torch.compiler.is_compiling():
                return vectors
            self._vectors[device, dtype] = vectors
        return self._vectors[device, dtype]


class ConvDecoder2d(nn.Module):
    """Convolutions over the grid of positions, then a projection (arXiv 2212.07525 §3.2).

    A layer is convolution, norm over channels without parameters, GELU; it has a residual connection where
    `decoder_residual` is set and its input is as wide as its output. There is no mask token and no position: hidden
    positions come in as noise and are filled from their neighbours.

    Tensors stay [R, h, w, D] between layers, which is a convolution's `channels_last` layout: nothing is copied, and
    the norm over channels needs no transposition.

    Args:
        config: reads `hidden_size` and the `decoder_*` fields.
    """

    def __init__(self, config: Data2Vec2PreTrainingConfig):
        super().__init__()
        widths = [config.hidden_size] + [config.decoder_dim] * config.decoder_layers
        self.residual = config.decoder_residual
        self.mask_noise = MaskNoise(config.hidden_size, config.mask_noise_std)
        self.convs = nn.ModuleList(
            nn.Conv2d(
                wide,
                narrow,
                kernel_size=config.decoder_kernel,
                padding=config.decoder_kernel // 2,
                groups=config.decoder_groups,
            )
            for wide, narrow in pairwise(widths)
        )
        self.proj = nn.Linear(widths[-1], config.hidden_size)

    def forward(self, tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Predict the targets of all positions.

        Args:
            tokens: [R, T, D], student states at visible positions, noise elsewhere.
            grid: (h, w) with h * w = T.

        Returns:
            [R, T, D].
        """
        height, width = grid
        x = tokens.unflatten(1, (height, width))  # [R, h, w, D]
        for conv in self.convs:
            y = conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # [R, h, w, D'], a view in channels_last
            y = y[:, :height, :width]  # an even kernel gives one row and column too many
            y = F.gelu(F.layer_norm(y, y.shape[-1:]))
            x = x + y if self.residual and x.shape == y.shape else y
        return self.proj(x).flatten(1, 2)  # [R, T, D]
