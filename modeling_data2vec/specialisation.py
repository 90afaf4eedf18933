"""Each modality's own differences to the weights of a shared trunk, which are zero at first."""

import math
from collections.abc import Container

import torch
from torch import nn
from transformers import initialization as init

from .configuration_data2vec2_joint import Data2Vec2Config
from .trunk import Differences


class TrunkDifferences(nn.Module):
    """One modality's differences to the weights of a shared trunk.

    Every weight of the trunk is used by all modalities; one of them computes with `shared + difference`. A difference
    is as large as the weight (norms and biases by `modality_norms`, the feed-forward part of the topmost layers by
    `modality_ffn_layers`), or of low rank (all other matrices by `modality_lora_rank`; LoRA, Hu et al. 2021, with a
    scale of 1). All begin at zero, so that a model starts as one without them, and such a one can be continued.

    Args:
        config: the joint model's.
        trunk: its trunk, for the shapes.

    Example:
        >>> from modeling_data2vec.configuration_data2vec2_text import Data2Vec2TextConfig
        >>> from modeling_data2vec.trunk import Data2Vec2Trunk
        >>> text = Data2Vec2TextConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        ...     average_top_k_layers=1, decoder_dim=8)
        >>> trunk = Data2Vec2Trunk(text)
        >>> own = TrunkDifferences(Data2Vec2Config(text_config=text, modality_norms=True), trunk)
        >>> sorted(own.differences_to(dict(trunk.named_parameters())))[:2]
        ['layers.0.attention.proj.bias', 'layers.0.attention.qkv.bias']
    """

    def __init__(self, config: Data2Vec2Config, trunk: nn.Module):
        super().__init__()
        self.full, self.down, self.up = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        own_mlps = tuple(
            f"layers.{config.num_hidden_layers - 1 - index}.mlp." for index in range(config.modality_ffn_layers)
        )
        self.names: dict[str, str] = {}  # of the trunk's weights, by what they are called here, where no dot may be
        for name, weight in trunk.named_parameters():
            key = name.replace(".", "_")
            vector = weight.ndim == 1
            if name.startswith(own_mlps) or (vector and config.modality_norms):
                self.full[key] = nn.Parameter(torch.zeros(weight.shape))
            elif not vector and config.modality_lora_rank:
                rows, columns = weight.shape
                self.down[key] = nn.Parameter(torch.zeros(config.modality_lora_rank, columns))
                self.up[key] = nn.Parameter(torch.zeros(rows, config.modality_lora_rank))
            else:
                continue
            self.names[key] = name

    def init_weights(self) -> None:
        """All differences are zero; of a low rank, one factor is, and the other is like a linear layer's weight."""
        for difference in (*self.full.values(), *self.up.values()):
            init.zeros_(difference)
        for factor in self.down.values():
            bound = 1 / math.sqrt(factor.shape[1])
            init.uniform_(factor, -bound, bound)

    def differences_to(self, shared: Container[str]) -> Differences:
        """Differences to the trunk's weights, by their names in it.

        Args:
            shared: names of all weights that the trunk has.

        Raises:
            ValueError: the trunk's weights are in another form.
        """
        if missing := [name for name in self.names.values() if name not in shared]:
            raise ValueError(
                f"the trunk has no weight {missing[0]} that a modality's difference could be added to: was it "
                "quantised? Take the modality's part first (`slice`, or `from_pretrained` with `modality`), and "
                "quantise that"
            )
        return {
            name: self.full[key] if key in self.full else self.up[key] @ self.down[key]
            for key, name in self.names.items()
        }


def specialised(config: Data2Vec2Config) -> bool:
    """Whether modalities have differences at all."""
    return bool(config.modality_norms or config.modality_lora_rank or config.modality_ffn_layers)
