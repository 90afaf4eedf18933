"""Images: the feature encoder of data2vec 2.0, and the model."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec2_vision import Data2Vec2VisionConfig
from .embedding import Embedding, check_patches, check_tensor, mean_over_positions, real_positions
from .feature_encoder import FeatureEncoder
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2PreTrainedModel, encode

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}  # by the number of axes


def sincos_positions(
    grid: Sequence[int], dim: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Sin-cos embedding of a grid of patches, of any extent along any number of axes.

    Each axis has an equal part of the channels, the last axis (columns of an image) the first part; a part is
    [sin | cos] at frequencies 10000^(-i / (part / 2)).

    Args:
        grid: patches along each axis, e.g. rows and columns.
        dim: channels D, a multiple of twice the number of axes.

    Returns:
        [T, D], the patches of the last axis one after the other: those of an image row by row. Computed in fp64.

    Example:
        >>> sincos_positions((2, 3), 8).shape
        torch.Size([6, 8])
    """
    if dim % (2 * len(grid)):
        raise ValueError(f"dim is {dim}, but {len(grid)}-D sin-cos positions need a multiple of {2 * len(grid)}")
    exponents = torch.arange(dim // (2 * len(grid)), dtype=torch.float64, device=device) / (dim / (2 * len(grid)))
    frequencies = 10000**-exponents  # [D / 2 axes]
    axes = [torch.arange(extent, dtype=torch.float64, device=device) for extent in grid]
    coordinates = reversed(torch.meshgrid(*axes, indexing="ij"))  # columns first
    angles = [coordinate.flatten()[:, None] * frequencies for coordinate in coordinates]  # axes x [T, D / 2 axes]
    return torch.cat([half for angle in angles for half in (angle.sin(), angle.cos())], dim=1).to(dtype)


class PatchFeatureEncoder(FeatureEncoder):
    """Non-overlapping patches of an input with one to three axes, with sin-cos positions: images, spectrograms, ...

    Args:
        config: a `PatchShape`, with `num_channels` where there is more than one.
        local_encoder: whether to embed patches; False for a teacher that reads the student's.
    """

    config: Any

    def __init__(self, config: Any, local_encoder: bool = True):
        super().__init__(config)
        patch, channels = config.patch_shape, getattr(config, "num_channels", 1)
        width = getattr(config, "patch_embed_dim", None) or config.hidden_size
        # Drawn in any case: the initial weights that a seed gives must not depend on what the teacher reads.
        patch_embed = CONVOLUTIONS[len(patch)](channels, width, kernel_size=patch, stride=patch)
        projection = nn.Linear(width, config.hidden_size) if width != config.hidden_size else None
        self.patch_embed: nn.Module | None = patch_embed if local_encoder else None
        self.patch_projection: nn.Module | None = projection if local_encoder else None
        self._positions: dict[tuple, Tensor] = {}

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Cut inputs into patches.

        Args:
            inputs: [B, channels, ...], normalised; any extents from one patch on.
            attention_mask: must be None: the inputs of a batch are of one size.

        Raises:
            ValueError: for another number of axes or channels, or less than one patch.
        """
        check_patches(inputs, self.config.num_channels, self.config.patch_shape)
        return self.embed_patches(inputs)

    def init_weights(self) -> None:
        """The patch embedding is Xavier uniform of the flattened kernel, bias 0."""
        super().init_weights()
        if self.patch_embed is not None:
            weight: Any = self.patch_embed.weight
            bound = math.sqrt(6 / (weight.shape[0] + weight[0].numel()))
            init.uniform_(weight, -bound, bound)
            init.zeros_(cast(Tensor, self.patch_embed.bias))

    def embed_patches(self, inputs: Tensor, num_rows: Tensor | None = None) -> Embedding:
        """Cut [B, channels, height, width] into patches, T = h * w of them, row by row; or an input of other axes.

        Args:
            inputs: what is cut; a remainder that does not fill a patch is left out.
            num_rows: int [B], rows of patches that are real; None where all are.
        """
        assert self.patch_embed is not None, "a teacher without its own patch embedding can't embed raw input"
        weight = cast(Tensor, self.patch_embed.weight)
        features = self.patch_embed(inputs.to(weight.dtype))  # [B, D, *grid]
        grid = tuple(features.shape[2:])
        features = features.flatten(2).transpose(1, 2)  # [B, T, D]
        if self.patch_projection is not None:
            features = self.patch_projection(features)
        in_a_row = math.prod(grid[1:])
        valid = None if num_rows is None else real_positions(num_rows * in_a_row, features.shape[1])  # [B, T]
        return Embedding(features, features + self.positions(grid, features), grid, valid)

    def coordinates(self, ids: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Cells of the grid, or with `alibi_dims` 1 places in the sequence of patches."""
        if getattr(self.config, "alibi_dims", len(grid)) == 1:
            return super().coordinates(ids, grid)
        coordinates = []
        for extent in reversed(grid):  # columns first
            coordinates.append(ids % extent)
            ids = ids // extent
        return torch.stack(coordinates, dim=-1)

    def positions(self, grid: tuple[int, ...], like: Tensor) -> Tensor:
        """Sin-cos positions [T, D] of a grid, computed once for each grid, device and dtype."""
        if torch.compiler.is_compiling():  # exporting is compiling, too
            return sincos_positions(grid, like.shape[-1], device=like.device, dtype=like.dtype)
        key = (grid, like.device, like.dtype)
        if key not in self._positions:
            self._positions[key] = sincos_positions(grid, like.shape[-1], device=like.device, dtype=like.dtype)
        return self._positions[key]


def check_images(pixel_values: Tensor, num_channels: int, patch_size: int) -> None:
    """Raise a ValueError for a wrong number of channels, or a size that the patch size does not divide."""
    check_tensor("pixel_values", pixel_values)
    if pixel_values.ndim != 4 or pixel_values.shape[1] != num_channels:
        raise ValueError(
            f"pixel_values has shape {tuple(pixel_values.shape)}, but this model takes "
            f"[batch, {num_channels}, height, width]: convert the images to {num_channels} channel(s), "
            "or build the model with another num_channels"
        )
    height, width = pixel_values.shape[2:]
    if height < patch_size or width < patch_size:
        raise ValueError(
            f"images of {height} x {width} pixels are smaller than one patch of {patch_size} x {patch_size}: resize "
            "them, or build the model with a smaller patch_size"
        )
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"images of {height} x {width} pixels can't be cut into patches of {patch_size} x {patch_size}: resize or "
            f"crop them to multiples of {patch_size}"
        )


class ImageFeatureEncoder(PatchFeatureEncoder):
    """Patches of an image, for any size that the patch size divides."""

    def __init__(self, config: Data2Vec2VisionConfig, local_encoder: bool = True):
        super().__init__(config, local_encoder)
        self.config: Data2Vec2VisionConfig = config

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Cut images into patches.

        Args:
            inputs: [B, channels, height, width], normalised pixels.
            attention_mask: must be None: the images of a batch are of one size.

        Raises:
            ValueError: for a wrong number of channels or a size that the patch size does not divide.
        """
        check_images(inputs, self.config.num_channels, self.config.patch_size)
        return self.embed_patches(inputs)


class Data2Vec2VisionPreTrainedModel(Data2Vec2PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 image models."""

    config: Data2Vec2VisionConfig
    config_class = Data2Vec2VisionConfig
    base_model_prefix = "data2vec2_vision"
    modality = "vision"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    feature_encoder_class = ImageFeatureEncoder
    num_axes = 2


class Data2Vec2VisionModel(Data2Vec2VisionPreTrainedModel, Data2Vec2Encoder):
    """The data2vec 2.0 image encoder without any head.

    Example:
        >>> config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=2, num_prenet_layers=1,
        ...     num_attention_heads=4, intermediate_size=128, average_top_k_layers=2, decoder_dim=64, image_size=32)
        >>> outputs = Data2Vec2VisionModel(config)(torch.randn(1, 3, 48, 32))
        >>> outputs.last_hidden_state.shape, outputs.pooler_output.shape
        (torch.Size([1, 7, 64]), torch.Size([1, 64]))
    """

    def get_input_embeddings(self) -> Any:
        """The patch embedding."""
        return self.feature_encoder.patch_embed

    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode images.

        Args:
            pixel_values: [B, channels, height, width], normalised; any size that the patch size divides.
            output_hidden_states, output_attentions: also return those of every layer, the prenet's first.

        Returns:
            `last_hidden_state` [B, E + T, D], extra tokens first, then patches row by row; `pooler_output` [B, D], the
            mean of the patch tokens, as the authors' fine-tuning uses it.
        """
        return encode(self.feature_encoder, self.trunk, pixel_values, **kwargs)

    def forward_head(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        """`pooler_output` [B, D] of `forward_features` [B, E + T, D], as timm's models without classes give it."""
        return mean_over_positions(features[:, self.config.num_extra_tokens :], None)
