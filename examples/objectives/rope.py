"""Rotary positions in every layer, instead of positions that are added or ALiBi (RoFormer, arXiv 2104.09864).

For any pretraining class of patches or tokens; each axis of a grid turns its own part of the channels, as in DINOv3
(arXiv 2508.10104):

    class OwnModel(Rotary, Data2Vec2VisionForPreTraining):
        pass

Set `use_alibi=False` and, for text, `position_embeddings=False`. The weights have the names of a plain model, which
would compute something else from them: load them by this class.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

BASE = 100.0  # the slowest channels turn by one radian in so many positions


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of channels; x [R, H, S, D/H], angles [R or 1, 1, S, D/2H]."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def rotary_attention(module, query, key, value, attention_mask, **kwargs):
    """transformers' attention of turned queries and keys; `attention_mask` is (angles, mask or None)."""
    angles, mask = attention_mask
    return sdpa_attention_forward(module, rotated(query, angles), rotated(key, angles), value, mask, **kwargs)


AttentionInterface.register("rotary", rotary_attention)
AttentionMaskInterface.register("rotary", sdpa_mask)


class RotaryFeatures:
    """To be put before a feature encoder."""

    def positions(self, grid, like: Tensor) -> Tensor:
        return like.new_zeros(math.prod(grid), like.shape[-1])  # of patches: nothing is added

    def arrange(self, embedding, mask=None, ids_keep=None):
        tokens, attention_masks = super().arrange(embedding, mask, ids_keep)
        config, grid = self.config, embedding.grid
        ids = torch.arange(math.prod(grid), device=tokens.device)[None] if ids_keep is None else ids_keep.flatten(0, 1)
        count = config.hidden_size // config.num_attention_heads // 2 // len(grid)  # of frequencies for each axis
        frequencies = BASE ** -(torch.arange(count, device=tokens.device) / count)
        angles = (self.coordinates(ids, grid)[..., None] * frequencies).flatten(2)  # [R or 1, V, D/2H]
        angles = F.pad(angles, (0, 0, config.num_extra_tokens, 0))[:, None]  # extra tokens are not turned
        return tokens, [(angles, attention_mask) for attention_mask in attention_masks]


class Rotary:
    """To be put before a pretraining class."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        features = type("RotaryFeatureEncoder", (RotaryFeatures, cls.feature_encoder_class), {})
        cls.feature_encoder_class = features
        cls.encoder_class = type("RotaryEncoder", (cls.encoder_class,), {"feature_encoder_class": features})

    def __init__(self, config):
        config._attn_implementation = "rotary"
        super().__init__(config)
