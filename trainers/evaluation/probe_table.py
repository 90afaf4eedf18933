"""Is a frozen encoder worth anything? Probes beside random weights and features of the raw input."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from ..data.samples import LabelledSet
from .baselines import RawFeatures, random_weights, raw_features
from .choice import Choice, choose_features
from .features import Inputs, encode
from .options import AUTO, Layers, layer_numbers
from .probe_labels import ACCURACY, CHANCE, chance, check_labels, label_subset, metric_of, score
from .probes import Features, all_predictions, knn, linear_probe, ridge_probe

# From a label subset to its features, those of the test samples, and how they were chosen.
FeaturesOf = Callable[[np.ndarray], tuple[Features, Features, Choice | None]]

# ---- the table ----


@dataclass
class ProbeRow:
    """One number of the table.

    Attributes:
        features: "random weights", "model", or the name of the raw features, e.g. "MFCC".
        labels: number of labelled samples that the probe saw.
        probe: "linear", "ridge", "kNN" or "kNN, cosine".
        mean, std: of the table's metric over label subsets, and its standard deviation; 0.0 for a single score.
        scores: the figures themselves: one for each seed, or a single one where all labels are used.
        chosen: pooling and layer of each score in words, where the training labels chose them.
    """

    features: str
    labels: int
    probe: str
    mean: float
    std: float
    scores: list[float]
    chosen: list[str] = field(default_factory=list)


@dataclass
class ProbeTable:
    """What `probe_table` found, with the settings that it depends on.

    Attributes:
        chance: the metric of the most frequent class, or of equal scores for all samples.
        metric: "accuracy", or of labels that are lists "mean average precision".
    """

    rows: list[ProbeRow]
    pooling: str
    layer: int | list[int] | str
    seeds: list[int]
    num_train: int
    num_test: int
    chance: float
    metric: str = ACCURACY

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for JSON."""
        return asdict(self)

    def to_markdown(self) -> str:
        """A line for each number of labels and kind of features, a column for each probe, in percent."""
        probes = list(dict.fromkeys(row.probe for row in self.rows))
        lines = [f"| labels | features | {' | '.join(probes)} |", "|---|---|" + "---:|" * len(probes)]
        for labels in dict.fromkeys(row.labels for row in self.rows):
            for features in dict.fromkeys(row.features for row in self.rows):
                cells = [
                    f"{100 * row.mean:.1f}" + (f" ± {100 * row.std:.1f}" if len(row.scores) > 1 else "")
                    for row in self.rows  # in the order of the columns
                    if (row.labels, row.features) == (labels, features)
                ]
                lines.append(
                    f"| {'all ' if labels == self.num_train else ''}{labels:,} | {features} | {' | '.join(cells)} |"
                )
        lines += [
            "",
            f"{self.metric.capitalize()} in % on {self.num_test:,} test samples ({CHANCE[self.metric]}: "
            f"{100 * self.chance:.1f}); mean ± standard deviation over random label subsets (seeds "
            f'{", ".join(map(str, self.seeds))}). Frozen features: layer {self.layer}, pooling "{self.pooling}".',
        ]
        if any(row.chosen for row in self.rows):
            lines += ["", "Chosen by training labels that were left out one by one:", "", *self._choices()]
        return "\n".join(lines)

    def _choices(self) -> list[str]:
        found = {
            f"- {row.features}, {row.labels:,} labels: {'; '.join(dict.fromkeys(row.chosen))}": None
            for row in self.rows
            if row.chosen
        }
        return list(found)


def probe_table(
    model: PreTrainedModel,
    train: LabelledSet,
    test: LabelledSet,
    *,
    label_counts: Sequence[int | None] = (100, None),
    pooling: str = "mean",
    layer: Layers = -1,
    seeds: Sequence[int] = (0, 1, 2),
    k: int = 5,
    batch_size: int = 32,
    raw: list[RawFeatures] | None = None,
) -> ProbeTable:
    """Probe a frozen encoder beside what it has to beat: itself with random weights, and features of the raw input.

    Args:
        model: see `extract_features`, also for `pooling` and `layer`.
        train, test: (inputs, N labels); inputs are normalised images [N, channels, height, width], or a list of N
            waveforms [samples] or token ids [T], which may differ in length. Labels are classes, or lists of classes:
            of these, each class is learned by itself, and figures are mean average precisions.
        label_counts: numbers of labelled training samples; None for all. A subset keeps the classes in proportion.
        pooling, layer: "auto" for those that do best on training labels which are left out one by one, for each subset
            and for model and random weights alone (`choose_features`).
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
        [('random weights', 10, 'linear'), ('random weights', 10, 'ridge')]
    """
    (train_inputs, train_labels), (test_inputs, test_labels) = train, test
    train_y, test_y = check_labels(train_inputs, train_labels, test_inputs, test_labels)
    subsets = label_subsets(train_y, label_counts, seeds)  # first: a count that can't be had should not cost a forward
    given = AUTO if layer == AUTO else layer_numbers(layer)
    rows: list[ProbeRow] = []
    for name, encoder in (("random weights", random_weights(model)), ("model", model)):
        features = _EncoderFeatures(encoder, (train_inputs, train_y), test_inputs, subsets, pooling, given, batch_size)
        rows += _rows(name, train_y, test_y, subsets, k, features.of)
    for one in raw_features(model) if raw is None else raw:
        rows += _rows(one.name, train_y, test_y, subsets, k, _of_raw(*one.compute(train_inputs, test_inputs)))
    sizes = {"num_train": len(train_y), "num_test": len(test_y)}
    shown = given[0] if len(given) == 1 else given
    return ProbeTable(rows, pooling, shown, list(seeds), **sizes, chance=chance(test_y), metric=metric_of(test_y))


def _of_raw(train_x: Features, test_x: Features) -> FeaturesOf:
    return lambda ids: (train_x[ids], test_x, None)


class _EncoderFeatures:
    """Features of an encoder for each label subset: those that are asked for, or that its labels choose."""

    def __init__(
        self,
        encoder: PreTrainedModel,
        train: tuple[Inputs, np.ndarray],
        test: Inputs,
        subsets: list[list[np.ndarray]],
        pooling: str,
        layer: Any,
        batch_size: int,
    ) -> None:
        self.encoder, self.inputs, self.batch_size = encoder, (train[0], test), batch_size
        every = [ids for some in subsets for ids in some]
        if AUTO in (pooling, layer):
            options: dict[str, Any] = {"pooling": pooling, "layer": layer, "batch_size": batch_size}
            choices = choose_features(encoder, *train, every, **options)
        else:
            choices = [Choice(tuple(layer), pooling, None)] * len(every)
        self.choices = {id(ids): choice for ids, choice in zip(every, choices, strict=True)}
        self.encoded: dict[Any, tuple[np.ndarray, np.ndarray]] = {}

    def of(self, ids: np.ndarray) -> tuple[Features, Features, Choice | None]:
        """Features of a subset and of the test samples, and how they were chosen."""
        choice = self.choices[id(ids)]
        key = choice.layer, choice.pooling
        if key not in self.encoded:
            options: dict[str, Any] = {"pooling": choice.pooling, "layer": choice.layer, "batch_size": self.batch_size}
            train_x, test_x = (encode(self.encoder, inputs, **options) for inputs in self.inputs)
            self.encoded[key] = train_x, test_x
        train_x, test_x = self.encoded[key]
        return train_x[ids], test_x, None if choice.held_out is None else choice


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
    train_y: np.ndarray,
    test_y: np.ndarray,
    subsets: list[list[np.ndarray]],
    k: int,
    features: FeaturesOf,
) -> list[ProbeRow]:
    """A row for each number of labels and probe; the scores are those of the subsets."""
    rows = []
    for same_count in subsets:
        scores: dict[str, list[float]] = {}
        chosen: list[str] = []
        for ids in same_count:
            train_x, test_x, choice = features(ids)
            chosen += [] if choice is None else [str(choice)]
            for probe, answers in all_predictions(train_x, train_y[ids], test_x, k=k).items():
                scores.setdefault(probe, []).append(score(answers, test_y))
        rows += [
            ProbeRow(
                name,
                labels=len(same_count[0]),
                probe=probe,
                mean=float(np.mean(values)),
                std=float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
                scores=values,
                chosen=chosen,
            )
            for probe, values in scores.items()
        ]
    return rows


# ---- during training ----


def probe_accuracy(
    model: PreTrainedModel,
    train: LabelledSet,
    test: LabelledSet,
    *,
    pooling: str = "mean",
    layer: Layers = -1,
    k: int = 5,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, float]:
    """The model's own figures with all labels, {"linear": ..., "ridge": ..., "knn": ...}: cheap enough for training.

    Arguments and errors are those of `probe_table`.
    """
    options: dict[str, Any] = {"pooling": pooling, "layer": layer, "batch_size": batch_size}
    train_x, test_x = (encode(model, inputs, **options) for inputs in (train[0], test[0]))
    return _accuracies(train_x, train[1], test_x, test[1], k, seed)


def _accuracies(
    train_x: Features, train_y: Any, test_x: Features, test_y: Any, k: int = 5, seed: int = 0
) -> dict[str, float]:
    return {
        "linear": linear_probe(train_x, train_y, test_x, test_y, seed),
        "ridge": ridge_probe(train_x, train_y, test_x, test_y),
        "knn": knn(train_x, train_y, test_x, test_y, k),
    }


def baseline_accuracy(
    model: PreTrainedModel,
    train: LabelledSet,
    test: LabelledSet,
    *,
    pooling: str = "mean",
    raw: list[RawFeatures] | None = None,
) -> dict[str, float]:
    """What `probe_accuracy` is to be compared with: {"linear_random": ..., ..., "linear_raw": ..., ...}.

    Of several raw features the best counts, for each probe. Arguments and errors are those of `probe_table`.
    """
    untrained = probe_accuracy(random_weights(model), train, test, pooling=pooling)
    found = {f"{probe}_random": value for probe, value in untrained.items()}
    for one in raw_features(model) if raw is None else raw:
        train_x, test_x = one.compute(train[0], test[0])
        for probe, value in _accuracies(train_x, train[1], test_x, test[1]).items():
            found[f"{probe}_raw"] = max(value, found.get(f"{probe}_raw", 0.0))
    return found
