"""Cross-attention from one modality's visible positions to another's targets at positions."""

import math
from itertools import permutations

import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_data2vec2_joint import Data2Vec2Config
from .cross_modal import direction
from .modeling_data2vec2_vision import sincos_positions


def places(grid: tuple[int, ...], dim: int, like: Tensor) -> Tensor:
    """Sin-cos positions [T, dim] of a grid of any number of axes; channels that don't divide evenly stay 0."""
    used = dim - dim % (2 * len(grid))
    return F.pad(sincos_positions(grid, used, device=like.device, dtype=like.dtype), (0, dim - used))


class CrossAttentionLayer(nn.Module):
    """A query's look at what is visible, and a feed-forward part; both are normalised before.

    Args:
        dim: channels d.
        num_heads: of the attention; divides `dim`.
        eps: of the norms.
    """

    def __init__(self, dim: int, num_heads: int, eps: float):
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, seen: Tensor, attention_mask: Tensor | None) -> Tensor:
        """[B, T, d] queries and [B, V, d] of what is visible, mask bool [B, 1, 1, V] or None, to [B, T, d]."""

        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [B, T or V, d] to [B, H, T or V, d/H]

        key, value = self.key_value(seen).chunk(2, dim=-1)  # 2 x [B, V, d]
        query = self.query(self.norm1(x))
        found = F.scaled_dot_product_attention(heads(query), heads(key), heads(value), attention_mask)
        x = x + self.proj(found.transpose(1, 2).flatten(2))  # [B, H, T, d/H] to [B, T, d]
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class CrossAttentionPredictor(nn.Module):
    """Predicts one modality's targets at all of its positions from another's visible ones.

    A position asks by its place alone, and sees nothing of its own modality. The predictor is half as wide as the
    trunk.

    Args:
        config: reads `hidden_size`, `num_attention_heads`, `layer_norm_eps` and `cross_attention_layers`.
    """

    def __init__(self, config: Data2Vec2Config):
        super().__init__()
        self.dim = max(2, config.hidden_size // 2)
        num_heads = math.gcd(self.dim, config.num_attention_heads)
        eps = config.layer_norm_eps
        self.enter = nn.Linear(config.hidden_size, self.dim)
        self.enter_norm = nn.LayerNorm(self.dim, eps=eps)
        self.ask = nn.Linear(self.dim, self.dim)
        self.layers = nn.ModuleList(
            CrossAttentionLayer(self.dim, num_heads, eps) for _ in range(config.cross_attention_layers)
        )
        self.norm = nn.LayerNorm(self.dim, eps=eps)
        self.leave = nn.Linear(self.dim, config.hidden_size)

    def forward(
        self,
        visible: Tensor,
        ids: Tensor,
        grid: tuple[int, ...],
        asked: tuple[int, ...],
        valid: Tensor | None = None,
    ) -> Tensor:
        """Predict.

        Args:
            visible: [B, V, D], the student's states of the source.
            ids: int64 [B, V], their positions.
            grid: of the source's positions.
            asked: the grid of the target's T positions.
            valid: bool [B, V], True at real positions; None for all.

        Returns:
            [B, T, D].
        """
        seen = self.enter_norm(self.enter(visible)) + places(grid, self.dim, visible)[ids]  # [B, V, d]
        queries = self.ask(places(asked, self.dim, visible))  # [T, d]
        x = queries.expand(len(visible), -1, -1)  # [B, T, d]
        attention_mask = None if valid is None else valid[:, None, None]  # [B, 1, 1, V]
        for layer in self.layers:
            x = layer(x, seen, attention_mask)
        return self.leave(self.norm(x))


class CrossAttentionPredictors(nn.ModuleDict):
    """A predictor for each ordered pair of modalities, "audio_to_text" and so on.

    Args:
        config: as for `CrossAttentionPredictor`, and `modalities`.

    Example:
        >>> import torch
        >>> from .configuration_data2vec2_text import Data2Vec2TextConfig
        >>> from .configuration_data2vec2_vision import Data2Vec2VisionConfig
        >>> sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, average_top_k_layers=1,
        ...     layer_norm_eps=1e-5, ema_decay=0.999, ema_end_decay=0.9999, ema_anneal_end_step=100, layerdrop=0.0,
        ...     hidden_dropout=0.0, attention_dropout=0.0, post_mlp_dropout=0.0)
        >>> config = Data2Vec2Config(text_config=Data2Vec2TextConfig(decoder_groups=1, **sizes),
        ...     vision_config=Data2Vec2VisionConfig(**sizes), cross_modal_layers=1, cross_attention_layers=1)
        >>> predictor = CrossAttentionPredictors(config)["text_to_vision"]
        >>> predictor(torch.randn(2, 3, 16), torch.tensor([[0, 2, 5], [1, 3, 4]]), (6,), (4, 4)).shape
        torch.Size([2, 16, 16])
    """

    def __init__(self, config: Data2Vec2Config):
        names = [direction(*pair) for pair in permutations(config.modalities, 2)]
        super().__init__({name: CrossAttentionPredictor(config) for name in names})
