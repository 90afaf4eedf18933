"""Layer-wise decay of the learning rate: depth of a weight by its name, and groups for the optimizer."""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

# Names that transformers' encoders and ours have for their stacks of layers.
LAYER = re.compile(r"(?:^|\.)(prenet|layers|layer|blocks|block|h)\.(\d+)\.")
# Within the encoder, but after its layers, or used by all of them.
LATE = re.compile(r"(?:^|\.)(trunk\.norm|pooler|layernorm|alibi_scale|relative_position_bias)(?:\.|$)")
POSITIONS = "pos_conv_embed"  # has "layers" of its own, which are no transformer layers


def layer_depths(names: Iterable[str], encoder: str) -> dict[str, int]:
    """Depth of each weight: 0 before the first layer, 1 in it, L in the last, and L + 1 behind it.

    Args:
        names: of all weights of a model.
        encoder: name of the encoder within the model, its `base_model_prefix`; what lies elsewhere is the head.

    Returns:
        Depth by name. A prenet's layers are the first. What all layers share (ALiBi's scale, relative positions) has
        the full rate, as in BEiT.

    Example:
        >>> names = ["d.feature_encoder.norm.w", "d.feature_encoder.prenet.0.w", "d.trunk.layers.1.w", "classifier.w"]
        >>> list(layer_depths(names, "d").values())
        [0, 1, 3, 4]
    """
    names = list(names)
    places = {name: _place(name) for name in names}
    found = [place for place in places.values() if place]
    prenet, layers = (
        1 + max((index for in_prenet, index in found if in_prenet == which), default=-1) for which in (True, False)
    )
    last = prenet + layers + 1
    depths = {}
    for name in names:
        place = places[name]
        if place:
            depths[name] = 1 + place[1] + (0 if place[0] else prenet)
        else:
            inside = encoder in name.split(".")
            depths[name] = 0 if inside and not LATE.search(name) else last
    return depths


def _place(name: str) -> tuple[bool, int] | None:
    """(whether in the prenet, number of the layer) of a weight, None outside of layers."""
    match = None if POSITIONS in name else LAYER.search(name)
    return (match[1] == "prenet", int(match[2])) if match else None


def parameter_groups(
    model: nn.Module,
    encoder: str,
    *,
    learning_rate: float,
    layer_decay: float,
    weight_decay: float,
    decayed: Iterable[str],
    decay_feature_encoder: bool = True,
) -> list[dict[str, Any]]:
    """Groups of an optimizer, for each depth and for weights that decay and others.

    The learning rate of a group is `learning_rate * layer_decay ** (L + 1 - depth)`.

    Args:
        model: its weights that are to be trained, or may be later.
        encoder: see `layer_depths`.
        learning_rate: of the head.
        layer_decay: rate of a layer over that of the next (BEiT, arXiv 2106.08254, table 10).
        weight_decay: of the weights named by `decayed`.
        decay_feature_encoder: False for the full rate before the first layer, as in the authors' data2vec 2.0 code.
    """
    named = dict(model.named_parameters())
    depths, decayed = layer_depths(named, encoder), set(decayed)
    last = max(depths.values(), default=0)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in named.items():
        if not parameter.requires_grad:
            continue
        depth = last if depths[name] == 0 and not decay_feature_encoder else depths[name]
        group = {
            "params": [],
            "lr": learning_rate * layer_decay ** (last - depth),
            "weight_decay": weight_decay if name in decayed else 0.0,
        }
        groups.setdefault((depth, name in decayed), group)["params"].append(parameter)
    return [groups[key] for key in sorted(groups, reverse=True)]  # the log shows the first one's rate, the head's
