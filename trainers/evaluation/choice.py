"""Which layer and pooling of a frozen encoder to probe, chosen by training labels alone."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from ..modalities.names import modality
from .features import Inputs, encode, visit_states
from .layer_features import layer_features
from .options import AUTO, Layers, layer_numbers
from .pooling import possible_bins
from .probes import leave_one_out

MOST_LABELS = 1_000  # that a choice is made by


class Choice(NamedTuple):
    """Features of an encoder, and the figure that they were chosen by.

    Attributes:
        layer: -1 for the encoder's output, else an index of `hidden_states`; several stand side by side.
        pooling: as in `extract_features`.
        held_out: `score` of a ridge regression on training samples that are left out one by one; None for what was
            given.
    """

    layer: int | tuple[int, ...]
    pooling: str
    held_out: float | None

    def __str__(self) -> str:
        numbers = self.layer if isinstance(self.layer, tuple) else (self.layer,)
        layers = f"layer{'s' if len(numbers) > 1 else ''} {' '.join(map(str, numbers))}"
        held_out = "" if self.held_out is None else f", held-out {100 * self.held_out:.1f}"
        return f"{self.pooling} of {layers}{held_out}"


def choose_features(
    model: PreTrainedModel,
    inputs: Inputs,
    labels: np.ndarray,
    subsets: Sequence[np.ndarray],
    *,
    pooling: str = AUTO,
    layer: Layers = AUTO,
    batch_size: int = 32,
) -> list[Choice]:
    """Choose features for each subset of the training samples, by the labels of this subset alone.

    The candidates are all poolings that the model has (mean, maximum, deviation, fields, stretches, bands, CLS token),
    of its output, of each layer, of each one and of the first layer's input beside the output, and of all
    layers side by side. The best figure of a ridge regression on samples that are left out one by one decides; of
    equal ones the first, so the mean of the output with one label a class.

    Args:
        model, inputs, batch_size: as in `encode`.
        labels: [N] classes, or bool [N, C].
        subsets: indices [n]; of more than 1,000 that many are used, evenly spaced.
        pooling, layer: what is not to be chosen.
    """
    chosen = [ids[:: -(-len(ids) // MOST_LABELS)] for ids in subsets]
    wanted = np.unique(np.concatenate(chosen))
    some = inputs[wanted] if isinstance(inputs, Tensor) else [inputs[i] for i in wanted]
    best: list[Choice | None] = [None] * len(subsets)
    for candidate in _possible_poolings(model, some[0]) if pooling == AUTO else [pooling]:
        for layers, features in _by_layer(model, some, candidate, layer, batch_size):
            for place, ids in enumerate(chosen):
                accuracy = leave_one_out(features[np.searchsorted(wanted, ids)], labels[ids])
                before = best[place]
                if before is None or before.held_out is None or accuracy > before.held_out:
                    best[place] = Choice(layers, candidate, accuracy)
    return [one for one in best if one is not None]


def _by_layer(
    model: PreTrainedModel, inputs: Inputs, pooling: str, layer: Layers, batch_size: int
) -> list[tuple[int | tuple[int, ...], np.ndarray]]:
    """Features [N, D'] of the given layers, or else of the candidates."""
    if layer != AUTO:
        numbers = layer_numbers(layer)
        given = tuple(numbers) if len(numbers) > 1 else numbers[0]
        return [(given, encode(model, inputs, pooling=pooling, layer=given, batch_size=batch_size))]
    pooled = layer_features(model, inputs, pooling=pooling, batch_size=batch_size).pooled  # [L + 1, N, D']
    last = len(pooled) - 1
    every = (*range(1, last), -1)
    found: list[tuple[int | tuple[int, ...], np.ndarray]] = [(-1, pooled[last])]
    found += [(number, pooled[number]) for number in range(1, last)]
    found += [((number, -1), np.concatenate(pooled[[number, last]], axis=1)) for number in range(last)]
    return [*found, (every, np.concatenate(pooled[1:], axis=1))] if last > 2 else found


def _possible_poolings(model: PreTrainedModel, sample: Tensor) -> list[str]:
    """The poolings that are worth a try for samples like this one, the plainest first."""
    encoder = model.base_model
    kind = modality(encoder)(encoder.config)
    found = ["mean", "max", "mean+max", "mean+std"]

    def look(states: list[Tensor], real: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        possible = possible_bins(kind.real_grids(inputs, real)[0], kind.first_axis_is_time)
        by_place = {
            "bands": ["bands", "bands+bands_std+bands_max"],
            "time": ["mean+std+time6"],
            "grid": ["grid2", "grid4"],
        }
        found.extend(pooling for name, poolings in by_place.items() if name in possible for pooling in poolings)
        if kind.starts_with_cls or states[0].shape[1] > real.shape[1]:
            found.append("cls")
        return states[0][:, 0]

    visit_states(model, [{encoder.main_input_name: sample[None]}], [-1], look)
    return found
