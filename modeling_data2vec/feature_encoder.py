"""The part of data2vec 2.0 between raw input and the trunk, as far as all modalities share it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .dropout import Dropout
from .embedding import Embedding, gather_rows
from .trunk import Data2Vec2Layer, drawn_layerdrop, padding_mask, trainable_input, unless_dropped


def alibi_slopes(num_heads: int) -> Tensor:
    """ALiBi's slope of each head, [H] (Press et al. 2022): a geometric sequence for a power of two.

    Otherwise the slopes for the largest smaller power of two, then every second slope of the next power.
    """
    # The authors' rule, so that their checkpoints fit: for 12 heads, the 8 slopes of 8 heads and 4 of those of 16.
    power = 2 ** math.floor(math.log2(num_heads))
    ratio = 2 ** (-8 / power)
    slopes = [ratio ** (i + 1) for i in range(power)]
    finer = 2 ** (-4 / power)
    slopes += [finer ** (2 * i + 1) for i in range(num_heads - power)]
    return torch.tensor(slopes, dtype=torch.float32)


def alibi_bias(coordinates: Tensor, num_heads: int, distance: str = "manhattan") -> Tensor:
    """Attention bias that falls linearly with the distance of two positions, before any learned scale.

    Args:
        coordinates: [..., T, 1] for sequences or [..., T, 2] for the grid cells of patches.
        num_heads: number of attention heads H.
        distance: "manhattan" or "euclidean"; the same in one dimension.

    Returns:
        fp32 [..., H, T, T], 0 on the diagonal, negative elsewhere.

    Example:
        >>> alibi_bias(torch.arange(3.0)[:, None], 1)[0, 0]
        tensor([-0.0000, -0.0039, -0.0078])
    """
    norms = {"manhattan": 1.0, "euclidean": 2.0}
    if distance not in norms:
        raise ValueError(f"distance is {distance!r}, but must be one of {sorted(norms)}")
    coordinates = coordinates.float()  # half precision could not count the positions
    differences = coordinates[..., :, None, :] - coordinates[..., None, :, :]  # [..., T, T, 1 or 2]
    if differences.shape[-1] == 1:
        distances = differences.squeeze(-1).abs()
    else:
        distances = torch.linalg.vector_norm(differences, ord=norms[distance], dim=-1)
    slopes = alibi_slopes(num_heads).to(distances.device)
    return -slopes[:, None, None] * distances.unsqueeze(-3)  # [H, 1, 1] * [..., 1, T, T]


class FeatureEncoder(nn.Module):
    """Positions, extra tokens, a norm and a modality's own first ("prenet") layers.

    A modality's subclass, in its model's file, adds the local encoder, which reads raw input. Its constructor takes
    `local_encoder`: False leaves that part out, for a teacher of scope "encoder", which reads the student's features.
    """

    def __init__(self, config: Data2Vec2PreTrainingConfig):
        super().__init__()
        self.config = config
        self.extra_tokens = (
            nn.Parameter(torch.empty(1, config.num_extra_tokens, config.hidden_size))
            if config.num_extra_tokens
            else None
        )
        if config.use_alibi:
            shape = (
                config.depth if config.alibi_scale_per_layer else 1,
                config.num_attention_heads if config.alibi_scale_per_head else 1,
                1,
                1,
            )
            scale = torch.ones(shape)  # [layers or 1, H or 1, 1, 1]
            if config.learned_alibi_scale:
                self.alibi_scale = nn.Parameter(scale)
            else:
                self.register_buffer("alibi_scale", scale)
        self.norm: nn.Module = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            if config.norm_position == "post"
            else nn.Identity()
        )
        self.dropout = Dropout(config.prenet_dropout)
        self.prenet = nn.ModuleList(Data2Vec2Layer(config) for _ in range(config.num_prenet_layers))

    def init_weights(self) -> None:
        """Extra tokens N(0, 1), ALiBi's scale 1."""
        if self.extra_tokens is not None:
            init.normal_(self.extra_tokens)
        if self.config.use_alibi:
            init.ones_(self.alibi_scale)

    # ---- what a modality adds ----

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Turn a batch of raw input into an `Embedding`; `attention_mask` is 1 at real, 0 at padded input."""
        raise NotImplementedError

    def num_positions(self, length: int) -> int:
        """Number of positions that `embed` makes of raw input of this length; by default one for each item."""
        return length

    def relative_positions(self, embedding: Embedding, mask: Tensor | None) -> Tensor | None:
        """Compute positions [R, T, D] from the visible tokens themselves, as convolutions do.

        None, as here, where there are no such positions; `mask` as in `contextualize`.
        """
        return None

    def augmented(self, embedding: Embedding) -> Embedding:
        """What training for a task sees of an embedding; here all of it."""
        return embedding

    # ---- what all share ----

    def contextualize(
        self, embedding: Embedding, mask: Tensor | None = None, ids_keep: Tensor | None = None, **kwargs: object
    ) -> tuple[Tensor, list]:
        """Add positions, prepend the extra tokens, run norm and prenet: `arrange`, then `run_prenet`.

        Args:
            embedding: B samples of T positions.
            mask: bool [B, M, T], True at hidden positions; None to show everything, then R = B and V = T.
            ids_keep: [B, M, V], the positions that each mask leaves visible.

        Returns:
            tokens [R, E + V, D], and an attention mask for each layer of the trunk.
        """
        tokens, attention_masks = self.arrange(embedding, mask, ids_keep)
        return self.run_prenet(tokens, attention_masks, **kwargs)

    def arrange(
        self, embedding: Embedding, mask: Tensor | None = None, ids_keep: Tensor | None = None
    ) -> tuple[Tensor, list]:
        """Build the prenet's input [R, E + V, D], and an attention mask for each layer of prenet and trunk."""
        # Positions computed from neighbors must not see hidden ones, so each of the M masks has its own: [R, T, D].
        positions = self.relative_positions(embedding, mask)
        if ids_keep is None:  # everything is visible: R = B, V = T
            visible, visible_valid = embedding.tokens, embedding.valid
        else:
            visible, visible_valid = gather_rows(embedding.tokens, ids_keep), embedding.valid_at(ids_keep)  # [R, V, D]
            if positions is not None:
                positions = gather_rows(positions, ids_keep.flatten(0, 1).unsqueeze(1))  # [R, V, D]
        if positions is not None:
            visible = visible + positions
        if self.extra_tokens is not None:
            visible = torch.cat([self.extra_tokens.to(visible.dtype).expand(visible.shape[0], -1, -1), visible], dim=1)
            if visible_valid is not None:  # extra tokens are real in every row: [R, V] to [R, E + V]
                visible_valid = F.pad(visible_valid, (self.config.num_extra_tokens, 0), value=True)
        attention_masks = self._attention_masks(visible, visible_valid, embedding.grid, ids_keep)
        return self.dropout(self.norm(visible)), attention_masks

    def run_prenet(self, hidden_states: Tensor, attention_masks: list, **kwargs: object) -> tuple[Tensor, list]:
        """Run the prenet's layers on the output of `arrange`: tokens [R, E + V, D], and the trunk's attention masks."""
        layerdrop = self.config.prenet_layerdrop if self.training else 0.0
        for layer, attention_mask in zip(self.prenet, attention_masks, strict=False):
            dropped = drawn_layerdrop(layerdrop, hidden_states, layer)
            if dropped is not True:
                states, _ = layer(trainable_input(layer, hidden_states), attention_mask, **kwargs)
                hidden_states = unless_dropped(dropped, states, hidden_states)
        return hidden_states, attention_masks[len(self.prenet) :]

    def coordinates(self, ids: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Coordinates of positions, between which ALiBi measures distances: ids [R, V] to [R, V, 1 or 2]."""
        return ids[..., None]

    def _attention_masks(
        self, tokens: Tensor, valid: Tensor | None, grid: tuple[int, ...], ids_keep: Tensor | None
    ) -> list:
        """Padding and ALiBi for each layer of prenet and trunk; tokens [R, S, D], valid [R, S]."""
        config = self.config
        num_layers = config.depth
        if not config.use_alibi:  # padding alone, in the form that the attention implementation takes
            return [padding_mask(config, tokens, valid)] * num_layers
        bias = self._alibi(grid, ids_keep, tokens)  # [R or 1, H, S, S]
        # A learned scale below 0 would draw attention to what is far away; the authors clamp it, too.
        scale = self.alibi_scale.float().clamp_min(0)  # [layers or 1, H or 1, 1, 1]
        biases = [(bias * one[None]).to(tokens.dtype) for one in scale]  # one for all layers, or one for each
        if valid is not None:
            # Padding is hidden as a key only: what a padded query attends to is thrown away later.
            hidden = ~valid[:, None, None]  # [R, 1, 1, S]
            biases = [one.masked_fill(hidden, torch.finfo(one.dtype).min) for one in biases]
        return biases if len(biases) == num_layers else biases * num_layers

    def _alibi(self, grid: tuple[int, ...], ids_keep: Tensor | None, tokens: Tensor) -> Tensor:
        """Build ALiBi's bias, 0 at extra tokens: [1, H, S, S], or [R, H, S, S] where rows see different places.

        Distances are those in the whole sequence, whatever is hidden.
        """
        if self.config._attn_implementation not in ("eager", "sdpa"):
            raise ValueError(
                f"attn_implementation is {self.config._attn_implementation!r}, but ALiBi is a bias on attention, which "
                'only "eager" and "sdpa" take here: load the model with one of them'
            )
        ids = torch.arange(math.prod(grid), device=tokens.device)[None] if ids_keep is None else ids_keep.flatten(0, 1)
        bias = alibi_bias(self.coordinates(ids, grid), self.config.num_attention_heads)  # [R or 1, H, V, V]
        return F.pad(bias, (self.config.num_extra_tokens, 0) * 2)
