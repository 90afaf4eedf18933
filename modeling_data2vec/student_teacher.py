"""Student and teacher of data2vec 2.0 for one modality (arXiv 2212.07525 §3)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .core import StudentOutput, StudentTeacher
from .dropout import dropout
from .embedding import Embedding, visible_ids
from .feature_encoder import FeatureEncoder
from .heads import ConvDecoder
from .trunk import Data2Vec2Trunk, Differences


@dataclass(frozen=True)
class Data2Vec2StudentTeacher(StudentTeacher):
    """The parts of a model that one modality goes through.

    The student sees only what its masks leave; the decoder fills in what is hidden.

    Attributes:
        feature_encoder, trunk, head: the student's.
        teacher_encoder: the teacher's average of the feature encoder, or None if it has none of its own.
        teacher_trunk: the teacher's average of the trunk.
        differences, teacher_differences: of the modality to the trunks' weights; None for none.
    """

    feature_encoder: FeatureEncoder
    trunk: Data2Vec2Trunk
    head: ConvDecoder
    teacher_encoder: FeatureEncoder | None
    teacher_trunk: Data2Vec2Trunk
    differences: Differences | None = None
    teacher_differences: Differences | None = None

    @property
    def config(self) -> Any:
        """The modality's."""
        return self.feature_encoder.config

    def embed(self, inputs: Tensor, attention_mask: Tensor | None) -> Embedding:
        """Raw input before any position is hidden."""
        return self.feature_encoder.embed(inputs, attention_mask)

    def student(  # type: ignore[override]
        self,
        inputs: Tensor,
        embedding: Embedding,
        mask: Tensor,
        valid: Tensor | None,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
    ) -> StudentOutput:
        """Encode what is visible and decode what is hidden.

        The transformer is spent on visible positions alone, V of T: at 80 % hidden that is a fifth of the tokens, and
        less than that of the attention. The decoder, which sees all T, is small.

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
        ids_keep = self._checked_ids_keep(ids_keep, mask, embedding.valid if valid is None else valid, valid is None)
        tokens, attention_masks = self.feature_encoder.contextualize(embedding, mask, ids_keep)
        states, _ = self.trunk(tokens, attention_masks, differences=self.differences)
        return StudentOutput(
            predictions=self._decode(states, ids_keep, embedding.grid, noise_keys, mask_noise, valid),
            states=states,
            visible_valid=embedding.valid_at(ids_keep),
            ids_keep=ids_keep,
        )

    def _checked_ids_keep(
        self, ids_keep: Tensor | None, mask: Tensor, valid: Tensor | None, padding_counts: bool
    ) -> Tensor:
        if ids_keep is None:
            if valid is not None and padding_counts and mask.sum(-1).unique().numel() == 1:
                valid = None  # rows are alike, padding and all
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
        visible = states[:, config.num_extra_tokens :]  # [R, V, D]; extra tokens have no position to be decoded at
        visible = dropout(visible, config.decoder_dropout, self.head.training)
        rows, _, dim = visible.shape
        length = math.prod(grid)
        # The noise is drawn for all T positions, then the visible ones are written over it: fixed shapes, and a row's
        # noise at a position does not depend on what else is hidden.
        if mask_noise is None:
            if noise_keys is None:
                noise_keys = torch.randint(-(2**31), 2**31, (batch, num_masks), dtype=torch.int32)
            noise = self.head.mask_noise(noise_keys.to(visible.device).flatten(), length, visible.dtype)
        else:
            noise = mask_noise.to(visible.dtype).reshape(rows * length, dim)
        # One flat index over all rows [R * T, D] instead of a scatter along T, whose index would be repeated over D.
        offsets = torch.arange(rows, device=visible.device).unsqueeze(1) * length  # [R, 1]
        flat_ids = (ids_keep.reshape(rows, num_visible) + offsets).flatten()  # [R * V]
        filled = noise.index_copy(0, flat_ids, visible.reshape(-1, dim)).view(rows, length, dim)
        if valid is not None:
            valid = valid.repeat_interleave(num_masks, dim=0)  # [R, T]
        return self.head(filled, grid, valid).unflatten(0, (batch, num_masks))  # [B, M, T, D]

    def run_teacher(
        self,
        inputs: Tensor,
        embedding: Embedding,
        attention_mask: Tensor | None,
        mask: Tensor | None,
        *,
        end_of_block: bool,
    ) -> list[Tensor]:
        """Run the teacher, which sees everything: `mask` is not looked at."""
        # Whatever the teacher does not own, it takes from the student: its input features, or all before the trunk.
        config, own = self.config, self.teacher_encoder
        if own is not None and config.teacher_scope == "model":
            embedding = own.embed(inputs, attention_mask)
        encoder = self.feature_encoder if own is None else own
        tokens, attention_masks = encoder.contextualize(embedding)
        keep = "end_of_block" if end_of_block else "feed_forward"
        _, layers = self.teacher_trunk(tokens, attention_masks, keep, differences=self.teacher_differences)
        return [layer[:, config.num_extra_tokens :] for layer in layers]  # [B, E + T, D] to [B, T, D]
