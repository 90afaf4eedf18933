"""From raw input to the trunk's tokens: the part of data2vec 2.0 that differs between modalities."""

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.utils import is_torchdynamo_exporting

from .configuration_data2vec2 import (
    Data2Vec2AudioConfig,
    Data2Vec2PreTrainingConfig,
    Data2Vec2SpectrogramConfig,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
)
from .convolutions import channels_last_conv, strided_conv
from .embedding import Embedding, gather_rows, real_positions
from .initial_weights import init_as_pytorch
from .positions import alibi_bias, sincos_positions_2d
from .raw_inputs import check_images, check_spectrograms, check_tokens, check_waveforms
from .spec_augment import random_keys, spec_augment
from .trunk import Data2Vec2Layer, trainable_input


class FeatureEncoder(nn.Module):
    """What every modality has before the trunk: positions, extra tokens, a norm and its first ("prenet") layers.

    Subclasses add the local encoder, which reads raw input.
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
        self.dropout = nn.Dropout(config.prenet_dropout)
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
        """Positions that `embed` makes of a row of that much raw input; as many, if nothing else is said."""
        return length

    def drop_local_encoder(self) -> None:
        """Give up the part that reads raw input: a teacher of scope "encoder" reads the student's features."""
        raise NotImplementedError

    def relative_positions(self, embedding: Embedding, mask: Tensor | None) -> Tensor | None:
        """Positions [R, T, D] that are computed from the tokens themselves, without a look at hidden ones.

        None, as here, where there are no such positions; `mask` as in `contextualize`.
        """
        return None

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
        """The prenet's input [R, E + V, D], and an attention mask for each layer of prenet and trunk."""
        positions = self.relative_positions(embedding, mask)
        if ids_keep is None:
            visible, visible_valid = embedding.tokens, embedding.valid
        else:
            visible, visible_valid = gather_rows(embedding.tokens, ids_keep), embedding.valid_at(ids_keep)  # [R, V, D]
            if positions is not None:
                positions = gather_rows(positions, ids_keep.flatten(0, 1).unsqueeze(1))
        if positions is not None:
            visible = visible + positions
        if self.extra_tokens is not None:
            visible = torch.cat([self.extra_tokens.to(visible.dtype).expand(visible.shape[0], -1, -1), visible], dim=1)
            if visible_valid is not None:
                visible_valid = F.pad(visible_valid, (self.config.num_extra_tokens, 0), value=True)
        attention_masks = self._attention_masks(visible, visible_valid, embedding.grid, ids_keep)
        return self.dropout(self.norm(visible)), attention_masks

    def run_prenet(self, hidden_states: Tensor, attention_masks: list, **kwargs: object) -> tuple[Tensor, list]:
        """What `arrange` made, through the prenet's layers: tokens [R, E + V, D], and the trunk's attention masks."""
        layerdrop = self.config.prenet_layerdrop if self.training else 0.0
        for layer, attention_mask in zip(self.prenet, attention_masks, strict=False):
            if layerdrop > 0.0 and float(torch.rand(())) < layerdrop:
                continue
            hidden_states, _ = layer(trainable_input(layer, hidden_states), attention_mask, **kwargs)
        return hidden_states, attention_masks[len(self.prenet) :]

    def coordinates(self, ids: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Where the positions are between which ALiBi measures distances: ids [R, V] to [R, V, 1 or 2]."""
        return ids[..., None]

    def _attention_masks(
        self, tokens: Tensor, valid: Tensor | None, grid: tuple[int, ...], ids_keep: Tensor | None
    ) -> list:
        """Padding and ALiBi for each layer of prenet and trunk; tokens [R, S, D], valid [R, S]."""
        config = self.config
        num_layers = config.depth
        if not config.use_alibi:
            mask = None
            if valid is not None:
                mask = create_bidirectional_mask(config=config, inputs_embeds=tokens, attention_mask=valid.long())
            return [mask] * num_layers
        bias = self._alibi(grid, ids_keep, tokens)  # [R or 1, H, S, S]
        scale = self.alibi_scale.float().clamp_min(0)
        biases = [(bias * one[None]).to(tokens.dtype) for one in scale]  # one for all layers, or one for each
        if valid is not None:
            hidden = ~valid[:, None, None]  # [R, 1, 1, S]
            biases = [one.masked_fill(hidden, torch.finfo(one.dtype).min) for one in biases]
        return biases if len(biases) == num_layers else biases * num_layers

    def _alibi(self, grid: tuple[int, ...], ids_keep: Tensor | None, tokens: Tensor) -> Tensor:
        """Minus slope times distance, 0 at extra tokens: [1, H, S, S], or [R, H, S, S] where rows see different places.

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


class PatchFeatureEncoder(FeatureEncoder):
    """Non-overlapping patches of an input with two axes, with sin-cos positions: images and spectrograms."""

    config: Data2Vec2VisionConfig | Data2Vec2SpectrogramConfig

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


class ImageFeatureEncoder(PatchFeatureEncoder):
    """Patches of an image, for any size that the patch size divides."""

    def __init__(self, config: Data2Vec2VisionConfig):
        super().__init__(config, config.num_channels)
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


class SpectrogramFeatureEncoder(PatchFeatureEncoder):
    """Patches of a log-mel spectrogram of any length: rows of patches are time, columns are mel bands."""

    def __init__(self, config: Data2Vec2SpectrogramConfig):
        super().__init__(config, num_channels=1)
        self.config: Data2Vec2SpectrogramConfig = config

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Cut spectrograms into patches.

        Args:
            inputs: [B, frames, mel bins], normalised; padded on the right.
            attention_mask: [B, frames], 1 at real frames; None where nothing is padded. A patch is real if all of its
                frames are. With `padding="reference"` it is not looked at, as EAT's code takes padding for silence.

        Raises:
            ValueError: for another shape, or fewer frames than one patch has.
        """
        config = self.config
        check_spectrograms(inputs, config.num_mel_bins, config.patch_shape[0])
        num_rows = None
        if attention_mask is not None and config.padding == "exact":
            num_rows = config.num_time_patches(attention_mask.long().sum(1))  # [B]
        return self.embed_patches(inputs.unsqueeze(1), num_rows)

    def num_positions(self, length: int) -> int:
        return self.config.num_time_patches(length) * self.config.num_bands


class WaveformConv(nn.Module):
    """One convolution of the speech extractor: convolution, norm over channels, GELU; channels last."""

    def __init__(self, wide: int, narrow: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.Conv1d(wide, narrow, kernel_size=kernel, stride=stride, bias=False)
        self.norm = nn.LayerNorm(narrow)

    def init_weights(self) -> None:
        """Kaiming normal."""
        init.kaiming_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T', C']."""
        if is_torchdynamo_exporting():  # slices of strided_conv ask more of lengths than an exporter can prove
            x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        else:
            x = strided_conv(self.conv, x)
        x = self.norm(x)  # by the same name: the largest tensors of all are gone as soon as they may
        return F.gelu(x)


class AudioFeatureEncoder(FeatureEncoder):
    """Convolutions from the waveform to frames, with convolutional positions and ALiBi."""

    def __init__(self, config: Data2Vec2AudioConfig):
        super().__init__(config)
        self.config: Data2Vec2AudioConfig = config
        widths = [1, *config.conv_dim]
        self.convs: nn.ModuleList | None = nn.ModuleList(
            WaveformConv(*sizes)
            for sizes in zip(widths[:-1], widths[1:], config.conv_kernel, config.conv_stride, strict=True)
        )
        self.feature_norm: nn.LayerNorm | None = nn.LayerNorm(widths[-1])
        self.feature_projection: nn.Linear | None = nn.Linear(widths[-1], config.hidden_size)
        self.position_convs = nn.ModuleList(
            nn.Conv1d(
                config.hidden_size,
                config.hidden_size,
                kernel_size=config.conv_pos_kernel_size,
                padding=config.conv_pos_kernel_size // 2,
                groups=config.num_conv_pos_embedding_groups,
            )
            for _ in range(config.num_conv_pos_embeddings)
        )

    def init_weights(self) -> None:
        """Projection and positions as PyTorch has them."""
        super().init_weights()
        for layer in (self.feature_projection, *self.position_convs):
            if layer is not None:
                init_as_pytorch(layer)

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Turn waveforms into frames.

        Args:
            inputs: [B, samples], normalised; padded on the right.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.

        Raises:
            ValueError: for another shape, or fewer samples than one frame needs.
        """
        config = self.config
        check_waveforms(inputs, config.receptive_field)
        assert self.convs is not None and self.feature_norm is not None and self.feature_projection is not None
        x = inputs.to(self.feature_norm.weight.dtype).unsqueeze(-1)  # [B, samples, 1]; a linear layer may be quantised
        for conv in self.convs:
            x = conv(x)
        features = self.feature_projection(self.feature_norm(x))  # [B, T, D]
        length = features.shape[1]
        valid = None
        if attention_mask is not None:
            num_frames = config.num_frames(attention_mask.long().sum(1))  # [B]
            valid = real_positions(num_frames, length)  # [B, T]
        return Embedding(features, features, (length,), valid)

    def num_positions(self, length: int) -> int:
        return self.config.num_frames(length)

    def arrange(
        self, embedding: Embedding, mask: Tensor | None = None, ids_keep: Tensor | None = None
    ) -> tuple[Tensor, list]:
        """As the base class; in training without a mask, which is that for a task, after `spec_augment`."""
        config = self.config
        if self.training and mask is None and (config.mask_time_prob or config.mask_feature_prob):
            tokens = spec_augment(
                embedding.tokens,
                embedding.valid,
                keys=random_keys(len(embedding.tokens), embedding.tokens.device),
                mask_time_prob=config.mask_time_prob,
                mask_time_length=config.mask_time_length,
                mask_feature_prob=config.mask_feature_prob,
                mask_feature_length=config.mask_feature_length,
            )
            embedding = replace(embedding, tokens=tokens)
        return super().arrange(embedding, mask, ids_keep)

    def drop_local_encoder(self) -> None:
        self.convs = self.feature_norm = self.feature_projection = None

    def relative_positions(self, embedding: Embedding, mask: Tensor | None) -> Tensor | None:
        """Grouped convolutions over frames of which hidden ones are 0, each with a norm over channels and GELU.

        Padded frames are 0 before each of them, as if the clip ended there; with padding="reference" they are not.
        """
        x, valid, num_masks = embedding.tokens, embedding.valid, 1
        length = x.shape[1]
        if mask is not None:
            num_masks = mask.shape[1]
            x = (x[:, None] * (~mask)[..., None].to(x.dtype)).flatten(0, 1)  # [B, M, T, D] to [R, T, D]
        keep = None
        if valid is not None and self.config.padding == "exact":
            keep = valid.repeat_interleave(num_masks, dim=0)[..., None].to(x.dtype)  # [R, T, 1]
        for conv in self.position_convs:
            if keep is not None:
                x = x * keep
            x = channels_last_conv(conv, x)[:, :length]  # an even kernel gives one frame too many
            x = F.gelu(F.layer_norm(x, x.shape[-1:]))
        return x


class TextFeatureEncoder(FeatureEncoder):
    """Token and learned position embeddings, normalised."""

    def __init__(self, config: Data2Vec2TextConfig):
        super().__init__(config)
        self.config: Data2Vec2TextConfig = config
        pad = config.pad_token_id
        self.embed_tokens: nn.Embedding | None = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=pad)
        self.embed_positions: nn.Embedding | None = None
        if config.position_embeddings:
            # As in RoBERTa, positions are counted from the padding's id + 1 on, whose own row stays 0.
            size = config.max_position_embeddings + pad + 1
            self.embed_positions = nn.Embedding(size, config.hidden_size, padding_idx=pad)
        self.embed_norm: nn.LayerNorm | None = nn.LayerNorm(config.hidden_size)
        self.embed_dropout = nn.Dropout(config.embedding_dropout)
        if not config.num_prenet_layers:
            self.norm = nn.Identity()  # the embeddings are normalised already

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Look tokens up.

        Args:
            inputs: int64 [B, T], token ids.
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.

        Raises:
            ValueError: for another shape, a longer sequence than the position table, or (on a CPU) unknown ids.
        """
        config = self.config
        check_tokens(inputs, config.vocab_size, config.max_tokens)
        length = inputs.shape[1]
        assert self.embed_tokens is not None and self.embed_norm is not None
        valid = None if attention_mask is None else attention_mask.bool()
        x = self.embed_tokens(inputs)  # [B, T, D]
        if self.embed_positions is not None:
            if valid is None:
                places = torch.arange(1, length + 1, device=inputs.device)[None]
            else:
                places = valid.cumsum(1) * valid  # [B, T]; padding has place 0
            x = x + self.embed_positions(places + config.pad_token_id)
        x = self.embed_dropout(self.embed_norm(x))
        return Embedding(x, x, (length,), valid)

    def drop_local_encoder(self) -> None:
        self.embed_tokens = self.embed_positions = self.embed_norm = None
