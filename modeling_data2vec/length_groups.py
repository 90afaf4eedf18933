"""Batches of mixed lengths at about the cost of their real length: rows of similar length are encoded together.

A padded row costs as much as the longest one of its batch. Where nothing is learned, rows need not be together: the
batch is cut into groups with little padding, each is cropped to its own longest row, and the results are put back where
a padded batch has them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .feature_encoder import FeatureEncoder
from .modeling_data2vec2 import encode
from .trunk import Data2Vec2Trunk

# Encodes raw input and its attention mask.
Encode = Callable[[Tensor, Tensor | None], BaseModelOutputWithPooling]
# Wishes for records of all layers, as arguments or in a config.
RECORDS = ("output_hidden_states", "output_attentions")


def length_groups(lengths: Sequence[int], group_cost: float) -> list[list[int]]:
    """Cut a batch into groups of rows of similar length at the least cost.

    A group costs `group_cost` and as many positions as its rows would have at the length of its longest. The cheapest
    of all cuts through the rows sorted by length is found by dynamic programming, in the square of the number of
    different lengths.

    Args:
        lengths: of each row, in positions.
        group_cost: what one more pass through the model costs, in positions.

    Returns:
        The rows of each group, ascending; the group of the shortest rows first.

    Example:
        >>> length_groups([10, 100, 12, 98], group_cost=20)
        [[0, 2], [1, 3]]
        >>> length_groups([10, 100, 12, 98], group_cost=200)
        [[0, 1, 2, 3]]
    """
    # Groups of a cheapest cut are runs of the rows sorted by length: to mix lengths only pads more rows. So the search
    # is over places to cut, and the cheapest cut of the `end` shortest rows is a last group, and the cheapest cut of
    # the rows before it.
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    longest = [lengths[row] for row in order]  # of a group that ends at a row
    costs = {0: 0.0}  # of the shortest rows, by their number
    starts: dict[int, int] = {}  # where the last group of those begins
    for end, length in enumerate(longest, start=1):
        if end < len(order) and longest[end] == length:
            continue  # rows of equal length stay together
        costs[end], starts[end] = min(
            (cost + group_cost + (end - start) * length, start) for start, cost in costs.items()
        )
    # Backwards along the best cut, from its last group to its first.
    groups, end = [], len(order)
    while end:
        groups.append(sorted(order[starts[end] : end]))
        end = starts[end]
    return groups[::-1]


def group_cost(hidden_size: int) -> float:
    """The cost of one more pass on a CPU, in positions: reading the weights, and the calls (docs/performance.md).

    The calls cost the same time at any width, in which a narrow model does more positions.
    """
    return 8 + 9000 / hidden_size


def can_group(inputs: Tensor, attention_mask: Tensor | None, config: Any, training: bool, **kwargs: Any) -> bool:
    """Whether a batch may be encoded in groups.

    Not where what happens depends on the whole batch: gradients, records of layers, a program that is traced, compiled
    or exported for other lengths, `padding="reference"`, or several processes, which may have to go through sharded
    weights equally often. Not on a GPU, which would have to wait for the lengths and be kept busy by smaller groups.
    """
    return not (
        attention_mask is None
        or attention_mask.shape != inputs.shape[:2]
        or inputs.device.type != "cpu"
        or config.padding != "exact"
        or training
        or torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or any(kwargs.get(name, getattr(config, name, False)) for name in RECORDS)
        or (torch.distributed.is_available() and torch.distributed.is_initialized())
    )


def encode_in_groups(
    encode: Encode,
    inputs: Tensor,
    attention_mask: Tensor,
    *,
    num_positions: Callable[[int], int],
    num_extra_tokens: int,
    cost: float,
) -> BaseModelOutputWithPooling:
    """Encode a padded batch, group by group.

    Args:
        encode: what encodes a batch.
        inputs: raw input [B, length] or [B, length, ...].
        attention_mask: [B, length], 1 at real, 0 at padded input.
        num_positions: how many positions the encoder makes of so much raw input.
        num_extra_tokens: how many it puts before them.
        cost: of a group, in positions.

    Returns:
        What `encode` would give for the whole batch: states [B, E + T, D], 0 at padding, and pooled states [B, D].
    """
    places = torch.arange(1, inputs.shape[1] + 1)
    ends: list[int] = (attention_mask.bool() * places).amax(1).tolist()  # where each row's real input ends
    long_enough = [end for end in ends if num_positions(end)]
    if not long_enough:
        return encode(inputs, attention_mask)
    ends = [max(end, min(long_enough)) for end in ends]  # a row without any position goes with the shortest
    groups = length_groups([num_positions(end) for end in ends], cost)

    # Each group is cropped to its longest row, encoded, and written where the whole batch would have it: results are
    # those of one padded batch, with 0 at padding.
    batch, states, pooled = len(ends), None, None
    for rows in groups:
        end = max(ends[row] for row in rows)
        ids = torch.tensor(rows)
        mask = attention_mask[ids, :end]
        part = encode(inputs[ids, :end], None if mask.all() else mask)  # [rows, E + t, D]
        assert part.last_hidden_state is not None and part.pooler_output is not None
        _, length, dim = part.last_hidden_state.shape
        if states is None or pooled is None:  # width and dtype are known only now
            states = part.last_hidden_state.new_zeros(batch, num_extra_tokens + num_positions(inputs.shape[1]), dim)
            pooled = part.pooler_output.new_empty(batch, dim)
        states[ids, :length], pooled[ids] = part.last_hidden_state, part.pooler_output
    return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)


def encode_by_length(
    feature_encoder: FeatureEncoder,
    trunk: Data2Vec2Trunk,
    inputs: Tensor,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> BaseModelOutputWithPooling:
    """Encode a batch as `encode` does; without gradients, rows of similar length go through the model together."""
    config = feature_encoder.config
    together: Any = partial(encode, feature_encoder, trunk, **kwargs)
    if attention_mask is None or not can_group(inputs, attention_mask, config, trunk.training, **kwargs):
        return together(inputs, attention_mask)
    return encode_in_groups(
        together,
        inputs,
        attention_mask,
        num_positions=feature_encoder.num_positions,
        num_extra_tokens=config.num_extra_tokens,
        cost=group_cost(config.hidden_size),
    )
