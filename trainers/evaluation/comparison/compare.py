"""Several frozen encoders side by side: probes, layers and geometry of their features, each with an interval."""

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ...data.samples import LabelledSet
from ...monitoring.health import effective_rank
from ...monitoring.similarity import alignment, cka, class_alignment, uniformity
from ..attentive_probe import attentive_predictions
from ..baselines import RawFeatures, random_weights, raw_features
from ..features import encode
from ..intervals import Interval, bootstrap, jackknife, jackknife_of, kept_without_groups
from ..layer_features import LayerFeatures, layer_features
from ..options import Layers, layer_numbers
from ..probe_labels import chance, check_labels, mean_average_precision, metric_of, num_classes
from ..probe_table import label_subsets
from ..probes import Features, all_predictions, ridge_predictions
from .results import Comparison, Difference, FeatureSet, Geometry, LayerScore, Score, Similarity
from .views import two_views

GEOMETRY_SAMPLES = 1_000  # test samples that are compared with each other; evenly spaced ones of more
FEWEST = 8  # test samples


class Subject(NamedTuple):
    """An encoder and the samples as it takes them.

    Attributes:
        name: what tables and figures call it.
        model: see `extract_features`.
        train, test: (inputs, labels) as for `probe_table`; the same samples in the same order for every subject.
    """

    name: str
    model: PreTrainedModel
    train: LabelledSet
    test: LabelledSet


def few_label_counts(classes: int, count: int) -> list[int]:
    """1, 3, 10, 30, ... labels of each class, up to half of all, and all.

    Example:
        >>> few_label_counts(10, 1297)
        [10, 30, 100, 300, 1297]
    """
    steps = [classes * step * 10**power for power in range(8) for step in (1, 3)]
    return [number for number in steps if number <= count / 2] + [count]


def compare(
    subjects: Sequence[Subject],
    *,
    label_counts: Sequence[int | None] | None = None,
    pooling: str = "mean",
    layer: Layers = -1,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    batch_size: int = 32,
    raw: list[RawFeatures] | None = None,
) -> Comparison:
    """Measure frozen encoders on the same labelled samples, beside themselves untrained and features of the raw input.

    Args:
        subjects: encoders of one kind of input.
        label_counts: as for `probe_table`, to which all labels are added; default: `few_label_counts`.
        pooling: as in `encode`, but not "flatten".
        layer: whose features are probed (but for the probes of all layers): -1 for the encoder's output, 0 for the
            first layer's input; several, as in [2, 4] or "2+4", stand side by side.
        seeds: label subsets; the first one is also that of probes with all labels.
        batch_size: samples in a forward pass.
        raw: features of the raw input, of the first subject's samples; default: `raw_features`.

    Raises:
        ValueError: for subjects that differ in labels or kind of input, or share a name, and as `probe_table`.
    """
    train_y, test_y = _check(subjects)
    counts = few_label_counts(num_classes(train_y), len(train_y)) if label_counts is None else label_counts
    numbers = {len(train_y)} | {count for count in counts if count is not None}
    subsets = label_subsets(train_y, sorted(numbers), seeds)
    layers = layer_numbers(layer)
    raw = raw_features(subjects[0].model) if raw is None else raw
    measured = _Measured(train_y, test_y, subsets, seeds[0], pooling, layers, batch_size)
    lines = [FeatureSet(one.name, "model", one.name) for one in subjects]
    lines += [FeatureSet(f"{one.name}, untrained", "untrained", one.name) for one in subjects]
    lines += [FeatureSet(one.name, "raw", None) for one in raw]
    progress = tqdm(list(zip(lines, [*subjects, *subjects], strict=False)), unit="encoder")
    for line, subject in progress:
        progress.set_description(line.name)
        measured.encoder(line, subject, subject.model if line.kind == "model" else random_weights(subject.model))
    for one in raw:
        measured.probes(FeatureSet(one.name, "raw", None), *one.compute(subjects[0].train[0], subjects[0].test[0]))
    return Comparison(
        lines,
        measured.scores,
        measured.differences(lines),
        measured.layers,
        measured.geometry,
        measured.similarities([one.name for one in subjects]),
        label_counts=[len(ids[0]) for ids in subsets],
        pooling=pooling,
        layer=layers,
        seeds=list(seeds),
        num_train=len(train_y),
        num_test=len(test_y),
        num_geometry=len(measured.sample),
        classes=num_classes(train_y),
        chance=chance(test_y),
        metric=metric_of(test_y),
    )


def _check(subjects: Sequence[Subject]) -> tuple[np.ndarray, np.ndarray]:
    """The labels that all subjects share."""
    if not subjects:
        raise ValueError("subjects is empty: give at least one encoder")
    names = [one.name for one in subjects]
    if len(set(names)) < len(names):
        raise ValueError(f"names are {names}, but each encoder needs one of its own")
    first = subjects[0]
    labels = check_labels(first.train[0], first.train[1], first.test[0], first.test[1])
    if len(labels[1]) < FEWEST:
        raise ValueError(f"{len(labels[1])} test samples are too few for intervals: give at least {FEWEST}")
    for one in subjects[1:]:
        kinds = [subject.model.base_model.main_input_name for subject in (first, one)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"{first.name} takes {kinds[0]}, but {one.name} takes {kinds[1]}: compare encoders of one kind"
            )
        own = check_labels(one.train[0], one.train[1], one.test[0], one.test[1])
        if not all(np.array_equal(mine, theirs) for mine, theirs in zip(own, labels, strict=True)):
            raise ValueError(
                f"{one.name} has other labels than {first.name}: both need the same samples in the same order, so "
                "leave out those that only one of them can read"
            )
    return labels


class _Measured:
    """Collects what is measured, and keeps what pairs need: what answers are worth, models' features."""

    def __init__(
        self,
        train_y: np.ndarray,
        test_y: np.ndarray,
        subsets: list[list[np.ndarray]],
        seed: int,
        pooling: str,
        layers: list[int],
        batch_size: int,
    ) -> None:
        self.train_y, self.test_y, self.subsets, self.seed = train_y, test_y, subsets, seed
        self.pooling, self.chosen, self.batch_size = pooling, layers, batch_size
        step = -(-len(test_y) // GEOMETRY_SAMPLES)
        self.sample = np.arange(0, len(test_y), step)
        self.scores: list[Score] = []
        self.layers: list[LayerScore] = []
        self.geometry: list[Geometry] = []
        self.worth: dict[tuple[str, int, str], np.ndarray] = {}  # (probe, labels, features) to what `_worth` gives
        everyone = np.ones((1, len(test_y)), dtype=bool)
        self.counted = np.concatenate([everyone, kept_without_groups(len(test_y))])  # [1 + groups, N]
        self.states: dict[str, np.ndarray] = {}  # of models, [L + 1, geometry samples, D]

    def encoder(self, line: FeatureSet, subject: Subject, model: PreTrainedModel) -> None:
        options: dict[str, Any] = {"pooling": self.pooling, "frames_of": self.chosen, "batch_size": self.batch_size}
        train, test = (layer_features(model, inputs, **options) for inputs, _ in (subject.train, subject.test))
        self.probes(line, *(np.concatenate(one.pooled[self.chosen], axis=1) for one in (train, test)))
        predicted = attentive_predictions(train.frames, self.train_y, test.frames, self.seed)
        self._score(line, "attentive", len(self.train_y), [predicted])
        self._layers(line, train, test)
        self._geometry(line, subject, model, train, test)
        if line.kind == "model":
            self.states[line.name] = test.pooled[:, self.sample]

    def probes(self, line: FeatureSet, train_x: Features, test_x: Features) -> None:
        for ids in self.subsets:
            found = [all_predictions(train_x[own], self.train_y[own], test_x, seed=self.seed) for own in ids]
            for probe in found[0]:
                self._score(line, probe, len(ids[0]), [predicted[probe] for predicted in found])

    def _score(self, line: FeatureSet, probe: str, labels: int, answers: list[np.ndarray]) -> None:
        worth = self.worth[probe, labels, line.name] = self._worth(answers)
        scores = worth.mean(1) if self.test_y.ndim == 1 else worth[:, 0]
        self.scores.append(Score(line.name, probe, labels, self._interval(worth), scores.tolist()))

    def _worth(self, answers: list[np.ndarray]) -> np.ndarray:
        """Right or wrong, [S, N]; of several classes a sample, where a figure is one of all samples together, the
        figures that a jackknife needs, [S, 1 + groups]."""
        if self.test_y.ndim == 1:
            return (np.stack(answers) == self.test_y).astype(np.float64)
        return np.stack([mean_average_precision(scores, self.test_y, self.counted) for scores in answers])

    def _interval(self, worth: np.ndarray) -> Interval:
        """Of what answers are worth, or of a difference between two."""
        return bootstrap(worth) if self.test_y.ndim == 1 else jackknife_of(worth)

    def _layers(self, line: FeatureSet, train: LayerFeatures, test: LayerFeatures) -> None:
        found = [
            ridge_predictions(train_x, self.train_y, test_x)
            for train_x, test_x in zip(train.pooled, test.pooled, strict=True)
        ]
        held_out = [-1.0 if one.held_out is None else one.held_out for one in found]
        best = int(np.argmax(held_out)) if max(held_out) >= 0 else -1
        for layer, (one, x) in enumerate(zip(found, test.pooled, strict=True)):
            accuracy, rank = self._interval(self._worth([one.answers])), _rank(x[self.sample])
            self.layers.append(LayerScore(line.name, layer, one.held_out, layer == best, accuracy, rank))

    def _geometry(
        self, line: FeatureSet, subject: Subject, model: PreTrainedModel, train: LayerFeatures, test: LayerFeatures
    ) -> None:
        last = len(test.pooled) - 1
        layers = [
            -1 if layer == last else layer for layer in self.chosen
        ]  # the last is the output, not the last layer's
        options: dict[str, Any] = {"pooling": self.pooling, "layer": layers, "batch_size": self.batch_size}
        centre = np.concatenate(train.pooled[self.chosen], axis=1).mean(0)
        x = np.concatenate(test.pooled[self.chosen], axis=1)[self.sample] - centre
        views = [
            encode(model, view, **options) - centre
            for view in two_views([subject.test[0][int(i)] for i in self.sample])
        ]
        labels, count = self.test_y[self.sample], len(self.sample)
        self.geometry.append(
            Geometry(
                line.name,
                rank=jackknife(lambda chosen: _rank(x[chosen]), count),
                view_alignment=bootstrap(alignment(*views)),
                class_alignment=jackknife(lambda chosen: class_alignment(x[chosen], labels[chosen]), count),
                uniformity=jackknife(lambda chosen: uniformity(x[chosen]), count),
            )
        )

    def differences(self, lines: list[FeatureSet]) -> list[Difference]:
        """Models against their baselines, and against each other."""
        models = [line.name for line in lines if line.kind == "model"]
        pairs = [(name, line.name) for name in models for line in lines if line.kind != "model"]
        baselines = [line.name for line in lines if line.kind == "raw"]
        pairs = [(name, other) for name, other in pairs if other in (f"{name}, untrained", *baselines)]
        pairs += combinations(models, 2)
        return [
            Difference(name, other, probe, labels, self._interval(worth - self.worth[probe, labels, other]))
            for name, other in pairs
            for (probe, labels, features), worth in self.worth.items()
            if features == name and (probe, labels, other) in self.worth
        ]

    def similarities(self, names: list[str]) -> list[Similarity]:
        found = []
        for first, second in combinations_with_replacement(names, 2):
            x, y = self.states[first], self.states[second]

            def outputs(chosen: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> float:
                return float(cka(x[-1:, chosen], y[-1:, chosen])[0, 0])

            found.append(Similarity(first, second, cka(x, y).tolist(), jackknife(outputs, len(self.sample))))
        return found


def _rank(features: np.ndarray) -> float:
    return float(effective_rank(torch.from_numpy(features)))
