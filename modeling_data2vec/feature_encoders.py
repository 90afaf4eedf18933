"""From raw input to the trunk's tokens: the part of data2vec 2.0 that differs between modalities."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .configuration_data2vec import Data2Vec2PreTrainingConfig, Data2Vec2VisionConfig
from .positions import sincos_positions_2d
from .trunk import Data2Vec2Layer


@dataclass
class Embedding:
    """A batch after the local feature encoder.

    Attributes:
        local_features: [B, T, D] before any position information; what the health metrics watch.
        tokens: [B, T, D] with positions.
        grid: the shape of the T positions: (rows, columns) for images.
    """

    local_features: Tensor
    tokens: Tensor
    grid: tuple[int, ...]


def gather_rows(x: Tensor, ids: Tensor) -> Tensor:
    """Pick positions of each sample for each of its masks: x [B, T, D], ids [B, M, V] to [B * M, V, D].

    The samples are never repeated M times: one flat index reads straight from x.
    """
    batch, length, dim = x.shape
    offsets = torch.arange(batch, device=ids.device).view(batch, 1, 1) * length
    return x.reshape(batch * length, dim).index_select(0, (ids + offsets).flatten()).view(-1, ids.shape[-1], dim)


class FeatureEncoder(nn.Module):
    """What every modality has before the trunk: extra tokens, a norm and its own first ("prenet") layers.

    Subclasses add the local encoder, which reads raw input.
    """

    def __init__(self, config: Data2Vec2PreTrainingConfig):
        super().__init__()
        self.extra_tokens = (
            nn.Parameter(torch.empty(1, config.num_extra_tokens, config.hidden_size))
            if config.num_extra_tokens
            else None
        )
        self.norm = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            if config.norm_position == "post"
            else nn.Identity()
        )
        self.prenet = nn.ModuleList(Data2Vec2Layer(config) for _ in range(config.num_prenet_layers))

    def embed(self, inputs: Tensor) -> Embedding:
        """Turn a batch of raw input into an `Embedding`."""
        raise NotImplementedError

    def drop_local_encoder(self) -> None:
        """Give up the part that reads raw input: a teacher of scope "encoder" reads the student's features."""
        raise NotImplementedError

    def contextualize(self, tokens: Tensor, **kwargs: object) -> Tensor:
        """Prepend the extra tokens and run norm and prenet: [R, S, D] to [R, E + S, D]."""
        if self.extra_tokens is not None:
            extra = self.extra_tokens.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([extra, tokens], dim=1)
        tokens = self.norm(tokens)
        for layer in self.prenet:
            tokens, _ = layer(tokens, None, **kwargs)
        return tokens


class ImageFeatureEncoder(FeatureEncoder):
    """Non-overlapping patches with sin-cos positions, for any image size that the patch size divides."""

    def __init__(self, config: Data2Vec2VisionConfig):
        super().__init__(config)
        self.patch_size = config.patch_size
        self.num_channels = config.num_channels
        self.patch_embed: nn.Conv2d | None = nn.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )
        self._positions: dict[tuple, Tensor] = {}

    def embed(self, pixel_values: Tensor) -> Embedding:
        """Cut images into patches.

        Args:
            pixel_values: [B, channels, height, width], normalised.

        Returns:
            `Embedding` with T = (height / patch) * (width / patch) patches, row by row.

        Raises:
            ValueError: for a wrong number of channels or a size that the patch size does not divide.
        """
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.num_channels:
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, but this model takes "
                f"[batch, {self.num_channels}, height, width]: convert the images to {self.num_channels} channel(s), "
                "or build the model with another num_channels"
            )
        height, width = pixel_values.shape[2:]
        if height < self.patch_size or width < self.patch_size:
            raise ValueError(
                f"images of {height} x {width} pixels are smaller than one patch of {self.patch_size} x "
                f"{self.patch_size}: resize them, or build the model with a smaller patch_size"
            )
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"images of {height} x {width} pixels can't be cut into patches of {self.patch_size} x "
                f"{self.patch_size}: resize or crop them to multiples of {self.patch_size}"
            )
        assert self.patch_embed is not None, "a teacher without its own patch embedding can't embed images"
        features = self.patch_embed(pixel_values.to(self.patch_embed.weight.dtype))  # [B, D, h, w]
        grid = (int(features.shape[2]), int(features.shape[3]))
        features = features.flatten(2).transpose(1, 2)  # [B, T, D]
        return Embedding(features, features + self.positions(grid, features), grid)

    def drop_local_encoder(self) -> None:
        self.patch_embed = None

    def positions(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        """Sin-cos positions [T, D] of a grid, computed once for each grid, device and dtype."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return sincos_positions_2d(*grid, like.shape[-1], device=like.device, dtype=like.dtype)
        key = (grid, like.device, like.dtype)
        if key not in self._positions:
            self._positions[key] = sincos_positions_2d(*grid, like.shape[-1], device=like.device, dtype=like.dtype)
        return self._positions[key]
