"""Cross-attention, asked at some of the hidden positions, instead of the convolutions (CAPI, arXiv 2502.08769).

For pretraining classes of patches and tokens, whose samples have one length:

    class OwnModel(CrossAttention, Data2Vec2VisionForPreTraining):
        pass

Each hidden position asks the student's states by its own place, and never another hidden one. `decoder_layers` and
`decoder_dim` give its size. In training it is asked at half of the hidden positions, which is what it costs less by.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling_data2vec.core import StudentOutput
from modeling_data2vec.embedding import visible_ids
from modeling_data2vec.modeling_data2vec2_vision import sincos_positions
from modeling_data2vec.student_teacher import Data2Vec2StudentTeacher


class Predictor(nn.Module):
    """Blocks of cross-attention and a feed-forward part; all are normalised before."""

    def __init__(self, config, num_axes: int):
        super().__init__()
        width = config.decoder_dim
        self.enter = nn.Linear(config.hidden_size, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "attention": nn.MultiheadAttention(width, max(1, width // 32), batch_first=True),
                    "mlp": nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
                }
            )
            for _ in range(config.decoder_layers)
        )
        self.leave = nn.Linear(width, config.hidden_size)

    def forward(self, visible: Tensor, ids_keep: Tensor, mask: Tensor, grid: tuple[int, ...]) -> Tensor:
        """States [R, V, D] at `ids_keep` [B, M, V] to predictions [B, M, T, D]: 0 where `mask` [B, M, T] is False."""
        width = self.enter.out_features
        positions = sincos_positions(grid, width, device=visible.device, dtype=visible.dtype)  # [T, width]
        asked = visible_ids(~mask).flatten(0, 1)  # [R, Q], hidden positions
        seen = F.layer_norm(self.enter(visible), (width,)) + positions[ids_keep.flatten(0, 1)]  # [R, V, width]
        x = positions[asked]  # [R, Q, width]
        for block in self.blocks:
            query = F.layer_norm(x, (width,))
            x = x + block["attention"](query, seen, seen, need_weights=False)[0]
            x = x + block["mlp"](F.layer_norm(x, (width,)))
        answers = self.leave(F.layer_norm(x, (width,)))  # [R, Q, D]
        everywhere = answers.new_zeros(len(answers), mask.shape[-1], answers.shape[-1])  # [R, T, D]
        index = asked[..., None].expand_as(answers)
        return everywhere.scatter(1, index, answers).unflatten(0, mask.shape[:2])


@dataclass(frozen=True)
class CrossAttentionStudent(Data2Vec2StudentTeacher):
    def student(self, inputs, embedding, mask, valid, ids_keep=None, **noise) -> StudentOutput:
        ids_keep = visible_ids(mask) if ids_keep is None else ids_keep
        tokens, attention_masks = self.feature_encoder.contextualize(embedding, mask, ids_keep)
        states, _ = self.trunk(tokens, attention_masks)
        visible = states[:, self.config.num_extra_tokens :]
        return StudentOutput(self.head(visible, ids_keep, mask, embedding.grid), states, embedding.valid_at(ids_keep))


class CrossAttention:
    """To be put before a pretraining class."""

    decoder_class = Predictor
    asked_share = 0.5

    def side(self, modality=None) -> CrossAttentionStudent:
        return CrossAttentionStudent(**vars(super().side(modality)))

    def pretrain(self, inputs, mask, *args, ids_keep=None, **kwargs):
        """The student sees what the whole mask leaves; what is predicted, and counts, is a part of what it hides."""
        if self.training and mask is not None:
            ids_keep = visible_ids(mask) if ids_keep is None else ids_keep
            count = max(1, int(self.asked_share * (mask.shape[-1] - ids_keep.shape[-1])))
            order = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1)
            mask = torch.zeros_like(mask).scatter(-1, order.topk(count).indices, True)
        return super().pretrain(inputs, mask, *args, ids_keep=ids_keep, **kwargs)
