"""The transformer of data2vec 2.0: blind to where its tokens come from (arXiv 2212.07525).

Every layer hands out its feed-forward output beside its hidden states, since those outputs are what the teacher's
targets are made of.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from transformers.activations import ACT2FN
from transformers.integrations import is_fsdp_managed_module
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import AttentionInterface

from .attention import sdpa_attention
from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .dropout import Dropout
from .dropout import dropout as drop

# Differences to a module's own weights, by their names in it.
Differences = Mapping[str, Tensor]

# transformers' implementations of attention, with an "sdpa" that is cheaper on a CPU.
ATTENTION = AttentionInterface()
ATTENTION["sdpa"] = sdpa_attention


def differences_below(differences: Differences, prefix: str) -> Differences:
    """Entries whose name starts with `prefix`, with the prefix removed."""
    return {name[len(prefix) :]: value for name, value in differences.items() if name.startswith(prefix)}


def changed_weights(module: nn.Module, differences: Differences) -> dict[str, Tensor]:
    """The weights of a module that have a difference, with it added.

    A sharded module (FSDP) has whole weights only while it runs, so that only its own forward can call this.
    """
    return {name: module.get_parameter(name) + difference for name, difference in differences.items()}


def trainable_input(layer: Any, hidden_states: Tensor, differences: Differences | None = None) -> Tensor:
    """Let a layer's input require gradients where checkpointing would otherwise train nothing.

    Reentrant checkpointing gives weights a gradient only if the layer's input requires one. The input of the first
    trained layer does not, if all before it is frozen, as with adapters.

    Args:
        layer: a `GradientCheckpointingLayer`.
        hidden_states: its input.
        differences: to its own weights.
    """
    needless = hidden_states.requires_grad or not torch.is_grad_enabled()
    if needless or not (layer.training and layer.gradient_checkpointing):
        return hidden_states
    used = (*layer.parameters(), *(differences or {}).values())
    return hidden_states.detach().requires_grad_() if any(weight.requires_grad for weight in used) else hidden_states


def padding_mask(config: Any, tokens: Tensor, valid: Tensor | None) -> Any:
    """Hide padding from attention, in the form that the config's attention implementation takes; None for no padding.

    Args:
        config: the model's.
        tokens: [R, S, D], of which shape, dtype and device are read.
        valid: bool [R, S], True at real positions; None for all.
    """
    if valid is None:
        return None
    # Whether nothing is padded after all is asked only where the answer is at hand: a GPU would have to be waited for.
    at_hand = tokens.device.type == "cpu"
    return create_bidirectional_mask(
        config=config, inputs_embeds=tokens, attention_mask=valid, allow_is_bidirectional_skip=at_hand
    )


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, Tensor]:
    """Plain attention, which also returns its weights; q, k, v [R, H, S, D/H], an additive mask [R or 1, H or 1, S, S].

    The softmax is taken in fp32.
    """
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling  # [R, H, S, S]
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = drop(weights, dropout, module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights  # [R, S, H, D/H]


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drop the whole residual branch of random rows and scale the others up; [R, S, D] to [R, S, D]."""
    if rate == 0.0 or not training:
        return x
    keep = torch.rand(x.shape[0], 1, 1, device=x.device) >= rate
    return x * keep / (1 - rate)


def drawn_layerdrop(rate: float, hidden_states: Tensor, layer: nn.Module) -> bool | Tensor:
    """Draw whether all rows skip a layer together: a bool, or a tensor where the layer has to run in any case.

    So it is in a program that is compiled, which is for either case, and where the layer is sharded: each process draws
    for itself, but all of them gather its weights.
    """
    if rate == 0.0:
        return False
    if torch.compiler.is_compiling() or is_fsdp_managed_module(layer):
        return torch.rand((), device=hidden_states.device) < rate
    return float(torch.rand(())) < rate  # from the CPU's generator, so that nothing waits for a GPU


def unless_dropped(dropped: bool | Tensor, output: Tensor, before: Tensor) -> Tensor:
    """A layer's output, or what came in where it is dropped."""
    return torch.where(dropped, before, output) if isinstance(dropped, Tensor) else output


class Data2Vec2Attention(nn.Module):
    """Multi-head self-attention with packed projections, through transformers' attention interface."""

    def __init__(self, config: Data2Vec2PreTrainingConfig):
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.is_causal = False
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: object
    ) -> tuple[Tensor, Tensor | None]:
        """[R, S, D] to ([R, S, D], weights [R, H, S, S] where the implementation gives them)."""
        # One matrix product for all three, then a view: [R, S, 3 * D] to 3 x [R, H, S, D/H].
        rows, length, _ = hidden_states.shape
        qkv = self.qkv(hidden_states).view(rows, length, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x [R, H, S, D/H]
        attend: Callable = ATTENTION.get_interface(self.config._attn_implementation, eager_attention)
        output, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.proj(output.reshape(rows, length, -1)), weights


class Data2Vec2MLP(nn.Module):
    """The feed-forward part of a layer; its output is what targets are made of."""

    def __init__(self, config: Data2Vec2PreTrainingConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = Dropout(config.activation_dropout)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[R, S, D] to [R, S, D]."""
        return self.dropout(self.fc2(self.dropout(self.act(self.fc1(hidden_states)))))


class Data2Vec2Layer(GradientCheckpointingLayer):
    """One transformer layer, normalised after (`post`) or before (`pre`) each residual branch.

    `pre_doubled` is what the authors' code computes for its pre-norm option: the feed-forward output is added to itself
    instead of to the attention's stream (docs/differences.md).
    """

    def __init__(self, config: Data2Vec2PreTrainingConfig, drop_path_rate: float = 0.0):
        super().__init__()
        self.norm_position = config.norm_position
        self.drop_path_rate = drop_path_rate
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Data2Vec2Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Data2Vec2MLP(config)
        self.attention_branch_dropout = Dropout(config.hidden_dropout)
        self.mlp_branch_dropout = Dropout(config.post_mlp_dropout)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        differences: Differences | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor]:
        """[R, S, D] to (hidden states [R, S, D], feed-forward output [R, S, D]); with `differences` to its weights."""
        if differences:
            own = {f"layer.{name}": weight for name, weight in changed_weights(self, differences).items()}
            return functional_call(_Computing(self), own, (hidden_states, attention_mask), kwargs)
        return self.compute(hidden_states, attention_mask, **kwargs)

    def compute(self, hidden_states: Tensor, attention_mask: Tensor | None, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Compute `forward` with the weights that the layer has at this moment."""
        post = self.norm_position == "post"
        # Without a name of its own the branch is gone before the feed-forward part needs memory.
        hidden_states = hidden_states + drop_path(
            self.attention_branch_dropout(
                self.attention(hidden_states if post else self.norm1(hidden_states), attention_mask, **kwargs)[0]
            ),
            self.drop_path_rate,
            self.training,
        )
        if post:
            hidden_states = self.norm1(hidden_states)

        ffn_output = self.mlp(hidden_states if post else self.norm2(hidden_states))
        residual = ffn_output if self.norm_position == "pre_doubled" else hidden_states
        hidden_states = residual + drop_path(self.mlp_branch_dropout(ffn_output), self.drop_path_rate, self.training)
        if post:
            hidden_states = self.norm2(hidden_states)
        return hidden_states, ffn_output


class _Computing(nn.Module):
    """A layer without its `__call__`, so that checkpointing and hooks, which run there, don't run twice."""

    def __init__(self, layer: Data2Vec2Layer):
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self.layer.compute(*args, **kwargs)


class Data2Vec2Trunk(nn.Module):
    """The stack of layers that all modalities share.

    Args:
        config: any 2.0 config; only its trunk fields are read.
        last_norm: whether layers that are normalised before their branches are followed by a norm.
    """

    def __init__(self, config: Data2Vec2PreTrainingConfig, last_norm: bool = True):
        super().__init__()
        depth = config.num_hidden_layers
        rates = [config.drop_path_rate * i / max(1, depth - 1) for i in range(depth)]
        self.layerdrop = config.layerdrop
        self.layers = nn.ModuleList(Data2Vec2Layer(config, rate) for rate in rates)
        self.norm = (
            nn.Identity()
            if config.norm_position == "post" or not last_norm
            else nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        )

    def forward(
        self,
        hidden_states: Tensor,
        attention_masks: Sequence[Any] | None = None,
        keep: Literal["feed_forward", "end_of_block"] | None = None,
        differences: Differences | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run all layers.

        Args:
            hidden_states: [R, S, D] tokens of any kind.
            attention_masks: one for each layer, in the form that the attention implementation takes, e.g. additive and
                broadcastable to [R, H, S, S]; None to attend everywhere.
            keep: the output of each layer that is returned as well, of its feed-forward part or at its end; None for
                none, which saves their memory.
            differences: are added to the trunk's own weights, by their names in it.

        Returns:
            The states [R, S, D], and a list with the kept output [R, S, D] of each layer.
        """
        layers: list[Tensor] = []
        masks = attention_masks or [None] * len(self.layers)
        for index, (layer, attention_mask) in enumerate(zip(self.layers, masks, strict=True)):
            dropped = drawn_layerdrop(self.layerdrop if self.training else 0.0, hidden_states, layer)
            if dropped is True:
                continue
            own = differences_below(differences, f"layers.{index}.") if differences else None
            before = trainable_input(layer, hidden_states, own)
            hidden_states, ffn_output = layer(before, attention_mask, differences=own, **kwargs)
            hidden_states = unless_dropped(dropped, hidden_states, before)
            del before
            if keep is not None:
                layers.append(ffn_output if keep == "feed_forward" else hidden_states)
            del ffn_output  # else it would stay until the next layer has run
        last = changed_weights(self.norm, differences_below(differences or {}, "norm."))
        states = functional_call(self.norm, last, (hidden_states,)) if last else self.norm(hidden_states)
        return states, layers
