"""Queries and keys of unit size in each head before they meet (QK-norm, arXiv 2010.04245), in student and teacher.

For any pretraining class of 2.0:

    class OwnModel(QKNorm, Data2Vec2VisionForPreTraining):
        pass

A root mean square of 1 in each head, without weights of its own, so that logits stay between -sqrt(D/H) and sqrt(D/H).
The weights have the names of a plain model, which would compute something else from them: load them by this class.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_data2vec.trunk import Data2Vec2Attention


def normalized(linear, inputs: tuple, qkv: Tensor, num_heads: int) -> Tensor:
    """Queries, keys and values [R, S, 3 * D] of a layer, the first two normalised in each head."""
    heads = qkv.unflatten(-1, (3, num_heads, -1))  # [R, S, 3, H, D/H]
    queries_and_keys, values = heads.split((2, 1), dim=2)
    queries_and_keys = F.rms_norm(queries_and_keys, queries_and_keys.shape[-1:])
    return torch.cat([queries_and_keys, values], dim=2).flatten(2)


class QKNorm:
    """To be put before a pretraining class."""

    def __init__(self, config):
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, Data2Vec2Attention):
                module.qkv.register_forward_hook(partial(normalized, num_heads=module.num_heads))
