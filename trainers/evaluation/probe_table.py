"""Is a frozen encoder worth anything? A linear probe and kNN, beside random weights and features of the raw input."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from ..data.samples import LabelledSet
from .baselines import RawFeatures, random_weights, raw_features
from .features import Inputs, encode
from .probes import Features, check_labels, knn, label_subset, linear_probe

# ---- the table ----


@dataclass
class ProbeRow:
    """One number of the table.

    Attributes:
        features: "random weights", "model", or the name of the raw features, e.g. "MFCC".
        labels: number of labelled samples that the probe saw.
        probe: "linear" or "kNN".
        mean, std: accuracy over label subsets and its standard deviation; 0.0 for a single score.
        scores: the accuracies themselves: one for each seed, or a single one where all labels are used.
    """

    features: str
    labels: int
    probe: str
    mean: float
    std: float
    scores: list[float]


@dataclass
class ProbeTable:
    """What `probe_table` found, with the settings that it depends on."""

    rows: list[ProbeRow]
    pooling: str
    layer: int | list[int]
    seeds: list[int]
    num_train: int
    num_test: int
    chance: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for JSON."""
        return asdict(self)

    def to_markdown(self) -> str:
        """A line for each kind of features, a column for each label count and probe, accuracies in percent."""
        columns = dict.fromkeys((row.labels, row.probe) for row in self.rows)
        heads = [f"{'all ' if labels == self.num_train else ''}{labels:,} labels, {probe}" for labels, probe in columns]
        lines = [f"| features | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
        for features in dict.fromkeys(row.features for row in self.rows):
            cells = [
                f"{100 * row.mean:.1f}" + (f" ± {100 * row.std:.1f}" if len(row.scores) > 1 else "")
                for row in self.rows  # in the order of the columns
                if row.features == features
            ]
            lines.append(f"| {features} | {' | '.join(cells)} |")
        lines += [
            "",
            f"Accuracy in % on {self.num_test:,} test samples (most frequent class: {100 * self.chance:.1f}); mean ± "
            f"standard deviation over random label subsets (seeds {', '.join(map(str, self.seeds))}). Frozen features: "
            f'layer {self.layer}, pooling "{self.pooling}".',
        ]
        return "\n".join(lines)


def probe_table(
    model: PreTrainedModel,
    train: LabelledSet,
    test: LabelledSet,
    *,
    label_counts: Sequence[int | None] = (100, None),
    pooling: str = "mean",
    layer: int | Sequence[int] = -1,
    seeds: Sequence[int] = (0, 1, 2),
    k: int = 5,
    batch_size: int = 32,
    raw: RawFeatures | None = None,
) -> ProbeTable:
    """Probe a frozen encoder beside what it has to beat: itself with random weights, and features of the raw input.

    Args:
        model: see `extract_features`, also for `pooling` and `layer`.
        train, test: (inputs, N labels); inputs are normalised images [N, channels, height, width], or a list of N
            waveforms [samples] or token ids [T], which may differ in length.
        label_counts: numbers of labelled training samples; None for all. A subset keeps the classes in proportion.
        seeds: one label subset each; a full training set is probed once.
        k: neighbours of kNN.
        batch_size: samples in a forward pass.
        raw: features of the raw input, instead of `raw_features(model)`.

    Raises:
        ValueError: as `extract_features`, `linear_probe` and `label_subset`.

    Example:
        >>> import torch
        >>> from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionModel
        >>> config = Data2Vec2VisionConfig(hidden_size=32, num_hidden_layers=2, num_prenet_layers=1, image_size=16,
        ...     num_attention_heads=2, intermediate_size=64, average_top_k_layers=2, patch_size=4, decoder_dim=32)
        >>> images, labels = torch.randn(40, 3, 16, 16), [0, 1] * 20
        >>> table = probe_table(Data2Vec2VisionModel(config), (images, labels), (images, labels), label_counts=[10])
        >>> [(row.features, row.labels, row.probe) for row in table.rows][:2]
        [('random weights', 10, 'linear'), ('random weights', 10, 'kNN')]
    """
    (train_inputs, train_labels), (test_inputs, test_labels) = train, test
    train_y, test_y = check_labels(train_inputs, train_labels, test_inputs, test_labels)
    subsets = label_subsets(train_y, label_counts, seeds)  # first: a count that can't be had should not cost a forward
    raw = raw or raw_features(model)
    encode_both = partial(_encode_both, train_inputs, test_inputs, pooling=pooling, layer=layer, batch_size=batch_size)
    features = {
        "random weights": encode_both(random_weights(model)),
        "model": encode_both(model),
        raw.name: raw.compute(train_inputs, test_inputs),
    }
    return ProbeTable(
        [
            row
            for name, (train_x, test_x) in features.items()
            for subset in subsets
            for row in _rows(name, train_x, train_y, test_x, test_y, subset, k)
        ],
        pooling,
        layer=layer if isinstance(layer, int) else list(layer),
        seeds=list(seeds),
        num_train=len(train_y),
        num_test=len(test_y),
        chance=float(np.unique(test_y, return_counts=True)[1].max() / len(test_y)),
    )


def _encode_both(train: Inputs, test: Inputs, encoder: PreTrainedModel, **options: Any) -> tuple[Features, Features]:
    return encode(encoder, train, **options), encode(encoder, test, **options)


def label_subsets(labels: np.ndarray, counts: Sequence[int | None], seeds: Sequence[int]) -> list[list[np.ndarray]]:
    """For each count the indices of one subset for each seed; of all labels there is only one subset."""
    if not seeds:
        raise ValueError("seeds is empty: give at least one")
    numbers = dict.fromkeys(len(labels) if count is None else count for count in counts)
    return [
        [label_subset(labels, number, seed) for seed in (seeds if number < len(labels) else seeds[:1])]
        for number in numbers
    ]


def _rows(
    name: str,
    train_x: Features,
    train_y: np.ndarray,
    test_x: Features,
    test_y: np.ndarray,
    subsets: list[np.ndarray],
    k: int,
) -> list[ProbeRow]:
    """A row for each probe; the scores are those of the subsets."""
    scores = {
        "linear": [linear_probe(train_x[ids], train_y[ids], test_x, test_y) for ids in subsets],
        "kNN": [knn(train_x[ids], train_y[ids], test_x, test_y, k) for ids in subsets],
    }
    return [
        ProbeRow(
            name,
            labels=len(subsets[0]),
            probe=probe,
            mean=float(np.mean(values)),
            std=float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            scores=values,
        )
        for probe, values in scores.items()
    ]


# ---- during training ----


def probe_accuracy(
    model: PreTrainedModel,
    train: LabelledSet,
    test: LabelledSet,
    *,
    pooling: str = "mean",
    layer: int | Sequence[int] = -1,
    k: int = 5,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, float]:
    """The model's own accuracies with all labels, {"linear": ..., "knn": ...}: cheap enough to ask during training.

    Arguments and errors are those of `probe_table`.
    """
    (train_inputs, train_y), (test_inputs, test_y) = train, test
    options = {"pooling": pooling, "layer": layer, "batch_size": batch_size}
    train_x, test_x = _encode_both(train_inputs, test_inputs, model, **options)
    return {
        "linear": linear_probe(train_x, train_y, test_x, test_y, seed),
        "knn": knn(train_x, train_y, test_x, test_y, k),
    }


def baseline_accuracy(
    model: PreTrainedModel,
    train: LabelledSet,
    test: LabelledSet,
    *,
    pooling: str = "mean",
    raw: RawFeatures | None = None,
) -> dict[str, float]:
    """What `probe_accuracy` is to be compared with: {"linear_random": ..., "knn_random": ..., "linear_raw": ..., ...}.

    Arguments and errors are those of `probe_table`.
    """
    (train_inputs, train_y), (test_inputs, test_y) = train, test
    train_x, test_x = (raw or raw_features(model)).compute(train_inputs, test_inputs)
    untrained = probe_accuracy(random_weights(model), train, test, pooling=pooling)
    accuracies = {f"{probe}_random": value for probe, value in untrained.items()}
    return accuracies | {
        "linear_raw": linear_probe(train_x, train_y, test_x, test_y),
        "knn_raw": knn(train_x, train_y, test_x, test_y),
    }
