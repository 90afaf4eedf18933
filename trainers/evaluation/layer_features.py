"""Features of all layers, and of single positions, from one forward pass over a set of samples.

Letters: N samples, L + 1 layers, F positions of all samples together, D channels.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..modalities.names import modality
from .features import Inputs, in_order, padded_batches, visit_states
from .options import pooling_parts
from .pooling import bin_means, pool_states, without_extra_tokens

MAX_POSITIONS = 256


class LayerFeatures(NamedTuple):
    """What `layer_features` gives.

    Attributes:
        pooled: fp32 [L + 1, N, D']: the first layer's input, the output of each but the last, and the encoder's output.
        frames: (features [F, D'], samples [F]) of single positions, as from `frame_features`.
    """

    pooled: np.ndarray
    frames: tuple[np.ndarray, np.ndarray]


def layer_features(
    model: PreTrainedModel,
    inputs: Inputs,
    *,
    pooling: str = "mean",
    frames_of: int | Sequence[int] = -1,
    max_positions: int = MAX_POSITIONS,
    batch_size: int = 32,
) -> LayerFeatures:
    """Pooled features of every layer, and features of single positions, in one pass over the samples.

    Args:
        model, inputs, batch_size: as in `encode`.
        pooling: as in `encode`, but not "flatten".
        frames_of: layer whose positions are kept, -1 for the encoder's output; of several, side by side.
        max_positions: a sample with more positions is averaged over equal stretches of its first axis (time of sound,
            rows of an image), at most so many positions together, which bounds memory.

    Raises:
        ValueError: for another pooling, a layer out of range, and as `encode`.

    Example:
        >>> from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionModel
        >>> config = Data2Vec2VisionConfig(hidden_size=32, num_hidden_layers=2, num_prenet_layers=1, image_size=16,
        ...     num_attention_heads=2, intermediate_size=64, average_top_k_layers=2, patch_size=8, decoder_dim=32)
        >>> features = layer_features(Data2Vec2VisionModel(config), torch.randn(3, 3, 16, 16))
        >>> features.pooled.shape, features.frames[0].shape
        ((4, 3, 32), (12, 32))
    """
    pooling_parts(pooling, flatten=False)
    encoder = model.base_model
    kind = modality(encoder)(encoder.config)
    layers = [frames_of] if isinstance(frames_of, int) else list(frames_of)
    frames: list[np.ndarray] = []

    def pool(states: list[Tensor], real: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        _check_layers(layers, len(states))
        kept = torch.cat([without_extra_tokens(states[layer], real, encoder) for layer in layers], dim=-1)  # [B, T, D']
        for positions, own, grid in zip(kept, real, kind.real_grids(inputs, real), strict=True):
            frames.append(_at_most(positions[own], grid, max_positions).cpu().numpy())
        vectors = [pool_states(state, real, inputs, pooling, encoder) for state in states]
        return torch.stack(vectors, dim=1)  # [B, L + 1, D']

    order, batches = padded_batches(model, inputs, batch_size)
    pooled, _ = visit_states(model, batches, None, pool)
    by_layer = np.concatenate(pooled)[np.argsort(order)].transpose(1, 0, 2)  # [L + 1, N, D']
    return LayerFeatures(
        np.ascontiguousarray(by_layer), in_order(frames, np.array([len(sample) for sample in frames]), order)
    )


def _check_layers(layers: list[int], count: int) -> None:
    wrong = [layer for layer in layers if not -count <= layer < count]
    if wrong or not layers:
        raise ValueError(
            f"layer is {wrong[0] if wrong else layers}, but the encoder has layers 0 (input of the first one) to "
            f"{count - 1} (its output): choose one of them, or -1 for the output"
        )


def _at_most(positions: Tensor, grid: tuple[int, ...], count: int) -> Tensor:
    """[T, D], averaged over stretches of the grid's first axis to at most `count` positions where T is larger."""
    if len(positions) <= count:
        return positions
    bins = max(1, count // prod(grid[1:]))
    return bin_means(positions.unflatten(0, grid), 0, bins).flatten(0, -2)
