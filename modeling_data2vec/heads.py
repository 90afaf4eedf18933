"""Heads, from the student's states to predictions: linear layers (1.0), or a light convolutional decoder (2.0)."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .convolutions import channels_last_conv, init_as_pytorch
from .counter_rng import normal, uniform

NOISE_VECTORS = 4096
NOISE_STREAM = 3  # of `counter_rng`; masks have others


class RegressionHead(nn.Sequential):
    """Linear layers with GELU between them, of which the inner ones are twice as wide (data2vec 1.0).

    Args:
        dim: channels D of states and targets.
        num_layers: linear layers; 1 for speech, 2 for text.

    Example:
        >>> RegressionHead(16, 2)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, dim: int, num_layers: int):
        layers: list[nn.Module] = []
        for wide, narrow in pairwise([dim] + [2 * dim] * (num_layers - 1) + [dim]):
            layers += [nn.Linear(wide, narrow), nn.GELU()]
        super().__init__(*layers[:-1])


def at_positions(head: nn.Module, states: Tensor, where: Tensor) -> Tensor:
    """Apply a head that treats each position by itself to some positions; on a CPU, since a GPU would be waited for.

    Args:
        head: takes [N, D].
        states: [R, T, D].
        where: bool [R, T].

    Returns:
        [R, T, D'], 0 where `where` is False.

    Example:
        >>> at_positions(nn.Linear(4, 2), torch.ones(1, 3, 4), torch.tensor([[True, False, True]])).count_nonzero(2)
        tensor([[2, 0, 2]])
    """
    ids = where.flatten().nonzero().squeeze(1)  # [N]
    found = head(states.flatten(0, 1).index_select(0, ids))  # [N, D']
    return found.new_zeros(where.numel(), found.shape[1]).index_copy(0, ids, found).unflatten(0, where.shape)


class MaskNoise(nn.Module):
    """The decoder's input at hidden positions: N(0, std²), as a function of a row's key.

    Each position takes one of 4,096 fixed normal vectors, picked at random: drawing a new number for every channel is
    slow on a CPU, and the decoder only needs noise that differs from position to position.

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
        # A row's picks depend on its key alone, so its noise is the same in any batch, process or resumed run.
        picks = uniform(keys, length, NOISE_STREAM).mul_(NOISE_VECTORS).long()  # [R, T]
        return self.vectors(keys.device, dtype).index_select(0, picks.flatten())

    def vectors(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The fixed vectors [4096, D], computed once for each device and dtype."""
        if (device, dtype) not in self._vectors or torch.compiler.is_compiling():
            keys = torch.arange(NOISE_VECTORS, dtype=torch.int32, device=device)
            vectors = normal(keys, self.dim, NOISE_STREAM).mul_(self.std).to(dtype)
            if torch.compiler.is_compiling():  # what a traced program keeps would be a constant of its own
                return vectors
            self._vectors[device, dtype] = vectors
        return self._vectors[device, dtype]


class ConvDecoder(nn.Module):
    """Convolutions over the sequence or grid of positions, then a projection (arXiv 2212.07525 §3.2).

    A layer is convolution, norm over channels without parameters, GELU; it has a residual connection where
    `decoder_residual` is set and its input is as wide as its output. There is no mask token and no position: hidden
    positions come in as noise and are filled from their neighbours.

    Channels stay last throughout: nothing is copied, and the norm over channels needs no transposition.

    Args:
        config: reads `hidden_size` and the `decoder_*` fields.
        num_axes: 1 for sequences, 2 for grids, 3 for volumes.
    """

    def __init__(self, config: Data2Vec2PreTrainingConfig, num_axes: int):
        super().__init__()
        self.config = config
        widths = [config.hidden_size] + [config.decoder_dim] * config.decoder_layers
        self.residual = config.decoder_residual
        self.mask_noise = MaskNoise(config.hidden_size, config.mask_noise_std)
        convolution: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[num_axes]
        self.convs = nn.ModuleList(
            convolution(
                wide,
                narrow,
                kernel_size=config.decoder_kernel,
                padding=config.decoder_kernel // 2,
                groups=config.decoder_groups,
            )
            for wide, narrow in pairwise(widths)
        )
        middle = int(config.decoder_dim * config.decoder_projection_ratio)
        widths = [config.decoder_dim] + [middle] * (config.decoder_projection_layers - 1) + [config.hidden_size]
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.GELU()]
        self.proj = layers[0] if len(layers) == 2 else nn.Sequential(*layers[:-1])

    def init_weights(self) -> None:
        """Convolutions and projection as PyTorch has them."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                init_as_pytorch(layer)

    def forward(self, tokens: Tensor, grid: tuple[int, ...], valid: Tensor | None = None) -> Tensor:
        """Predict the targets of all positions.

        Args:
            tokens: [R, T, D], student states at visible positions, noise elsewhere.
            grid: (T,) or (h, w) with h * w = T.
            valid: bool [R, T], True at real positions: padding is then kept at 0, as beyond the end of a sequence.

        Returns:
            [R, T, D].
        """
        # Back to the grid, so that convolutions see a position's neighbors along every axis.
        x = tokens.unflatten(1, grid)  # [R, *grid, D]
        keep = None if valid is None else valid.unflatten(1, grid).unsqueeze(-1).to(x.dtype)  # [R, *grid, 1]
        for conv in self.convs:
            if keep is not None:  # before each layer: norms and biases of the last one have filled padding again
                x = x * keep
            y = channels_last_conv(conv, x)  # [R, *grid, D']
            for axis, size in enumerate(grid, start=1):
                y = y.narrow(axis, 0, size)  # an even kernel gives one position too many
            y = F.gelu(F.layer_norm(y, y.shape[-1:]))
            # There is no residual where the first layer changes the width from D to `decoder_dim`.
            x = x + y if self.residual and x.shape == y.shape else y
        return self.proj(x.flatten(1, -2))  # [R, T, D]
