"""Several hidden layers of the teacher, each predicted by itself instead of their average (Bootleg, arXiv 2603.15553).

For any pretraining class:

    class OwnModel(SeparateLayers, Data2Vec2VisionForPreTraining):
        pass

K layers (`average_top_k_layers`) are spread evenly over the teacher's depth. The decoder's last layer is K times as
wide; a CLS token is as wide as one layer, so `cls_loss_weight` must be 0. The encoder stays a plain one.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from modeling_data2vec.objective import Targets


@dataclass(frozen=True)
class SideBySide(Targets):
    """K layers side by side, each as the only layer would be: [B, T, K * D]."""

    def chosen(self, layers):
        count, depth = self.average_top_k_layers, len(layers)
        return [layers[depth * (k + 1) // count - 1] for k in range(count)]

    def __call__(self, layers, valid: Tensor | None = None) -> Tensor:
        alone = Targets(**vars(replace(self, average_top_k_layers=1)))
        return torch.cat([alone([layer], valid) for layer in self.chosen(layers)], dim=-1)


class SeparateLayers:
    """To be put before a pretraining class."""

    def decoder_class(self, config, num_axes) -> nn.Module:
        """The modality's own decoder, with an output for each of the K layers."""
        decoder = super().decoder_class(config, num_axes)
        *inner, last = decoder.proj if isinstance(decoder.proj, nn.Sequential) else [decoder.proj]
        wide = nn.Linear(last.in_features, config.average_top_k_layers * config.hidden_size)
        decoder.proj = nn.Sequential(*inner, wide) if inner else wide
        return decoder

    def build_targets(self, config) -> Targets:
        return SideBySide.from_config(config)
