"""What a comparison of encoders finds: scores, differences, layers, geometry and similarities, with their intervals."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..intervals import Interval


@dataclass
class FeatureSet:
    """A line of the tables: a model, the same with random weights, or features of the raw input; `model` says whose."""

    name: str
    kind: Literal["model", "untrained", "raw"]
    model: str | None


@dataclass
class Score:
    """Accuracy of a probe, or what else `Comparison.metric` says; `scores` has one for each label subset, or a single
    one of all labels."""

    features: str
    probe: str
    labels: int
    accuracy: Interval
    scores: list[float]


@dataclass
class Difference:
    """By how much `features` are better than `than`, on the same samples."""

    features: str
    than: str
    probe: str
    labels: int
    difference: Interval


@dataclass
class LayerScore:
    """A ridge probe of one layer with all labels; 0 is the first layer's input, the last one the encoder's output.

    Attributes:
        held_out: figure on held-out training labels; None where none could be held back.
        best: whether the layer is chosen, by `held_out` alone.
        accuracy: on the test split, or what else `Comparison.metric` says.
        rank: effective rank of the layer's features.
    """

    features: str
    layer: int
    held_out: float | None
    best: bool
    accuracy: Interval
    rank: float


@dataclass
class Geometry:
    """Features as points: effective rank; on the sphere around their mean, alignment and uniformity."""

    features: str
    rank: Interval
    view_alignment: Interval
    class_alignment: Interval
    uniformity: Interval


@dataclass
class Similarity:
    """CKA of all layers of `first` (rows) with all of `second`; `output` is that of the two outputs."""

    first: str
    second: str
    cka: list[list[float]]
    output: Interval


@dataclass
class Comparison:
    """What `compare` found, with the settings that it depends on."""

    features: list[FeatureSet]
    scores: list[Score]
    differences: list[Difference]
    layers: list[LayerScore]
    geometry: list[Geometry]
    similarities: list[Similarity]
    label_counts: list[int]
    pooling: str
    layer: list[int]
    seeds: list[int]
    num_train: int
    num_test: int
    num_geometry: int
    classes: int
    chance: float
    metric: str

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for JSON; None for what is not defined."""
        return _without_nan(asdict(self))


def _without_nan(value: Any) -> Any:
    """NaN, which JSON doesn't have, as None."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
