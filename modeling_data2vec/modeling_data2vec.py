"""What the data2vec 2.0 models of all modalities share: initial weights, the encoder, and its pretraining class.

`modeling_data2vec_{audio,text,vision}.py` add the raw input's name and what reads it.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .core import Data2VecCore, Data2VecPreTrainingOutput
from .embedding import Embedding
from .feature_encoders import FeatureEncoder
from .heads import ConvDecoder
from .length_groups import can_group, encode_in_groups, group_cost
from .losses import mean_over_positions
from .masking import visible_ids
from .safe_loading import SafeLoading
from .trunk import Data2Vec2Attention, Data2Vec2Layer, Data2Vec2Trunk


def init_as_pytorch(layer: nn.Module) -> None:
    """PyTorch's own initial weights of a linear layer or convolution: uniform within 1/sqrt(fan in)."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    bound = 1 / math.sqrt(layer.weight[0].numel())
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            init.uniform_(parameter, -bound, bound)


class Data2Vec2PreTrainedModel(SafeLoading, PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 models."""

    config: Data2Vec2PreTrainingConfig
    feature_encoder_class: type[FeatureEncoder]
    num_axes: int  # of the grid of positions
    supports_gradient_checkpointing = True
    _no_split_modules = ["Data2Vec2Layer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": Data2Vec2Layer, "attentions": Data2Vec2Attention}  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initial weights as in the authors' code.

        | weights | distribution |
        |---|---|
        | linear layers and embeddings | N(0, initializer_range), bias and padding 0 |
        | extra tokens | N(0, 1) |
        | decoder (convolutions and projection) | PyTorch's default: uniform within 1/sqrt(fan in) |
        | norms, ALiBi scale | weight 1, bias 0 |

        Modalities add their own; see the classes that override this.
        """
        if isinstance(module, FeatureEncoder):
            if module.extra_tokens is not None:
                init.normal_(module.extra_tokens)
            if self.config.use_alibi:
                init.ones_(module.alibi_scale)
        elif isinstance(module, ConvDecoder):
            for layer in module.modules():
                if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
                    init_as_pytorch(layer)
        elif isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, nn.Linear):
                init.zeros_(module.bias)
            elif module.padding_idx is not None:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


class Data2Vec2Encoder(Data2Vec2PreTrainedModel):
    """Feature encoder and trunk, without any head: the base of every `Data2Vec2...Model`."""

    # A pretraining checkpoint also holds these; the bare encoder does without.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^head\."]  # noqa: RUF012

    def __init__(self, config: Any):
        super().__init__(config)
        self.feature_encoder = self.feature_encoder_class(config)
        self.trunk = Data2Vec2Trunk(config)
        self.post_init()

    def encode(self, inputs: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode raw input [B, ...]; `attention_mask` is 1 at real, 0 at padded input.

        States at padding are 0, but for `padding="reference"`. Without gradients, rows of similar length go through the
        model together, each group as far as it is long (`length_groups.py`).
        """
        if attention_mask is not None and can_group(inputs, attention_mask, self.config, self.training, **kwargs):
            return encode_in_groups(
                partial(self._encode_together, **kwargs),
                inputs,
                attention_mask,
                num_positions=self.feature_encoder.num_positions,
                num_extra_tokens=self.config.num_extra_tokens,
                cost=group_cost(self.config.hidden_size),
            )
        return self._encode_together(inputs, attention_mask, **kwargs)

    def _encode_together(
        self, inputs: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        embedding = self.feature_encoder.embed(inputs, attention_mask)
        tokens, attention_masks = self.feature_encoder.contextualize(embedding, **kwargs)
        hidden_states = self.trunk(tokens, attention_masks, **kwargs)
        pooled = mean_over_positions(hidden_states[:, self.config.num_extra_tokens :], embedding.valid)
        if embedding.valid is not None and self.config.padding == "exact":
            real = F.pad(embedding.valid, (self.config.num_extra_tokens, 0), value=True)  # [B, E + T]
            hidden_states = hidden_states.masked_fill(~real[..., None], 0)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


class Data2Vec2Teacher(nn.Module):
    """The averaged copy: a trunk and, by `teacher_scope`, a feature encoder of its own."""

    def __init__(self, config: Any, feature_encoder_class: type[FeatureEncoder]):
        super().__init__()
        self.feature_encoder: FeatureEncoder | None = None
        if config.teacher_scope != "trunk":
            self.feature_encoder = feature_encoder_class(config)
            if config.teacher_scope == "encoder":
                self.feature_encoder.drop_local_encoder()
        self.trunk = Data2Vec2Trunk(config)


class Data2Vec2EncoderForPreTraining(Data2VecCore, Data2Vec2PreTrainedModel):
    """Student, teacher and convolutional decoder: the base of every `Data2Vec2...ForPreTraining`.

    The student sees only what its masks leave; the decoder fills in what is hidden (arXiv 2212.07525 §3).
    """

    encoder_class: type[Data2Vec2Encoder]
    teacher: Data2Vec2Teacher

    def __init__(self, config: Any):
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.head = ConvDecoder(config, self.num_axes)
        self.teacher = Data2Vec2Teacher(config, self.feature_encoder_class)
        self.post_init()
        self.sync_teacher()

    def embed(self, inputs: Tensor, attention_mask: Tensor | None) -> Embedding:
        return self.base_model.feature_encoder.embed(inputs, attention_mask)

    def student(  # type: ignore[override]
        self,
        inputs: Tensor,
        embedding: Embedding,
        mask: Tensor,
        valid: Tensor | None,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
    ) -> Data2VecPreTrainingOutput:
        """Encode what is visible and decode what is hidden.

        Args:
            inputs: raw input, B samples; not needed any more.
            embedding: what was made of it.
            mask: bool [B, M, T], True at hidden positions.
            valid: bool [B, T] where padding is to be kept out, else None.
            ids_keep: int64 [B, M, V], the positions the student sees, in the order in which it sees them; by default
                those that `mask` leaves visible. Giving them saves a synchronisation with the GPU.
            noise_keys: int32 [B, M], keys of the noise at hidden positions; by default drawn anew.
            mask_noise: [B, M, T, D], the noise itself, already scaled, instead of `noise_keys`.
        """
        ids_keep = self._checked_ids_keep(ids_keep, mask, valid)
        encoder = self.base_model
        tokens, attention_masks = encoder.feature_encoder.contextualize(embedding, mask, ids_keep)
        states = encoder.trunk(tokens, attention_masks)
        return Data2VecPreTrainingOutput(
            predictions=self._decode(states, ids_keep, embedding.grid, noise_keys, mask_noise, valid),
            student_states=states,
            visible_valid=embedding.valid_at(ids_keep),
        )

    def _checked_ids_keep(self, ids_keep: Tensor | None, mask: Tensor, valid: Tensor | None) -> Tensor:
        if ids_keep is None:
            return visible_ids(mask, None if valid is None else valid[:, None])
        batch, num_masks, length = mask.shape
        if ids_keep.shape[:2] != mask.shape[:2] or not 0 < ids_keep.shape[2] < length:
            raise ValueError(
                f"ids_keep has shape {tuple(ids_keep.shape)}, but masks {tuple(mask.shape)} need "
                f"[{batch}, {num_masks}, visible] with 1 to {length - 1} visible positions"
            )
        return ids_keep

    def _decode(
        self,
        states: Tensor,
        ids_keep: Tensor,
        grid: tuple[int, ...],
        noise_keys: Tensor | None,
        mask_noise: Tensor | None,
        valid: Tensor | None,
    ) -> Tensor:
        """Fill hidden positions with noise and decode: [R, S, D] to [B, M, T, D]."""
        config = self.config
        batch, num_masks, num_visible = ids_keep.shape
        visible = states[:, config.num_extra_tokens :]  # [R, V, D]
        visible = F.dropout(visible, config.decoder_dropout, training=self.training)
        rows, _, dim = visible.shape
        length = math.prod(grid)
        if mask_noise is None:
            if noise_keys is None:
                noise_keys = torch.randint(-(2**31), 2**31, (batch, num_masks), dtype=torch.int32)
            noise = self.head.mask_noise(noise_keys.to(visible.device).flatten(), length, visible.dtype)
        else:
            noise = mask_noise.to(visible.dtype).reshape(rows * length, dim)
        offsets = torch.arange(rows, device=visible.device).unsqueeze(1) * length  # [R, 1]
        flat_ids = (ids_keep.reshape(rows, num_visible) + offsets).flatten()  # [R * V]
        filled = noise.index_copy(0, flat_ids, visible.reshape(-1, dim)).view(rows, length, dim)
        if valid is not None:
            valid = valid.repeat_interleave(num_masks, dim=0)  # [R, T]
        return self.head(filled, grid, valid).unflatten(0, (batch, num_masks))  # [B, M, T, D]

    def run_teacher(
        self, inputs: Tensor, embedding: Embedding, attention_mask: Tensor | None, mask: Tensor | None
    ) -> list[Tensor]:
        """The teacher sees everything: `mask` is not looked at."""
        config, own = self.config, self.teacher.feature_encoder
        if own is not None and config.teacher_scope == "model":
            embedding = own.embed(inputs, attention_mask)
        encoder = self.base_model.feature_encoder if own is None else own
        layers: list[Tensor] = []
        tokens, attention_masks = encoder.contextualize(embedding)
        self.teacher.trunk(tokens, attention_masks, target_layers=layers, block_targets=config.end_of_block_targets)
        return [layer[:, config.num_extra_tokens :] for layer in layers]
