"""Config of data2vec 2.0 for images."""

import math
from typing import Literal

from huggingface_hub.dataclasses import strict

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig, check_sincos_width
from .configuration_pretraining import MAX_LAYERS, ImageShape, Number, Published, PublishedDecay


@strict
class Data2Vec2VisionConfig(ImageShape, Data2Vec2PreTrainingConfig):
    """Config of data2vec 2.0 for images; the defaults are the published ViT-B recipe.

    Args:
        image_size: pixels of an edge, or (height, width), that the recipe trains on; the model takes any size that
            `patch_size` divides.
        patch_size: edge of a square patch in pixels.
        num_channels: channels of an image: 1, 3 or any other number.
        patch_embed_dim: width of patches before a linear layer to `hidden_size` [embed_dim of the modality]; None for
            patches of that width, without the layer.
        flexible_mask: blocks of 6 x 4, 5 x 5 or 8 x 3 patches, the same for all masks of an image, as EAT has them.
        alibi_dims: with `use_alibi`: 2 for distances in the grid of patches, 1 for those in their sequence, row by row.
        out_indices: the four layers that `Data2Vec2VisionForSemanticSegmentation` reads, shallow to deep, the first
            layer being 1 and a prenet's counted; None for those at each quarter of the depth.
        pool_scales: edges of the grids over which its last map is averaged.
        use_auxiliary_head, auxiliary_loss_weight: whether a second, small head on the third map helps in training, and
            the weight of its loss.
        auxiliary_channels, auxiliary_num_convs, auxiliary_concat_input: that head's width and convolutions, and whether
            its last layer sees the map as well.
        semantic_loss_ignore_index: pixels of this class don't count.

    The other arguments are those of `Data2Vec2PreTrainingConfig`.

    Example:
        >>> config = Data2Vec2VisionConfig(image_size=32, patch_size=4, num_channels=1)
        >>> config.grid
        (8, 8)
    """

    model_type = "data2vec2-vision"

    num_hidden_layers: int = 10
    layer_norm_eps: float = 1e-6
    num_prenet_layers: int = Published(2)
    num_extra_tokens: int = 1
    num_masks: int = 16
    mask_prob: Number = 0.8
    mask_length: int = 3
    mask_prob_adjust: Number = 0.07
    inverse_mask: bool = True
    flexible_mask: bool = False
    average_top_k_layers: int = Published(10)
    layer_norm_targets: bool = True
    cls_loss_weight: Number = 2.56
    ema_decay: Number = PublishedDecay(0.9998)
    ema_anneal_end_step: int = Published(100_000)
    teacher_scope: Literal["trunk", "encoder", "model"] = "model"
    decoder_dim: int = Published(768)
    decoder_kernel: int = 3
    decoder_layers: int = 6
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int = 16
    num_channels: int = 3
    patch_embed_dim: int | None = None
    alibi_dims: Literal[1, 2] = 2
    out_indices: list[int] | tuple[int, ...] | None = None
    pool_scales: list[int] | tuple[int, ...] = (1, 2, 3, 6)
    use_auxiliary_head: bool = True
    auxiliary_loss_weight: Number = 0.4
    auxiliary_channels: int = 256
    auxiliary_num_convs: int = 1
    auxiliary_concat_input: bool = False
    semantic_loss_ignore_index: int = 255

    @property
    def segmentation_layers(self) -> tuple[int, ...]:
        """The four layers that segmentation reads, counted from 1."""
        return tuple(self.out_indices or (math.ceil(self.depth * quarter / 4) for quarter in (1, 2, 3, 4)))

    def validate_segmentation(self) -> None:
        self.at_least(1, "num_hidden_layers", MAX_LAYERS)  # checks run by their names: this one before those of sizes
        layers = self.segmentation_layers
        if len(layers) != 4 or not all(1 <= layer <= self.depth for layer in layers):
            raise ValueError(f"out_indices is {self.out_indices}, but must be four layers from 1 to {self.depth}")
        self.at_least(1, "auxiliary_channels pool_scales")
        self.at_least(0, "auxiliary_num_convs", MAX_LAYERS)

    def validate_image(self) -> None:
        super().validate_image()
        if self.patch_embed_dim is not None:
            self.at_least(1, "patch_embed_dim")
        check_sincos_width(self.hidden_size)
