"""Is a frozen image encoder worth anything? A linear probe and kNN, beside random weights and raw pixels."""

import copy
import warnings
from collections.abc import Iterable, Sequence, Sized
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from modeling_data2vec import Data2Vec2PreTrainingConfig

POOLINGS = ("mean", "cls", "max", "flatten")
Labels = np.ndarray | Tensor | Sequence[int]
ImageSet = tuple[Tensor, Labels]


# ---- features ----

STRENGTHS = (0.01, 0.1, 1.0)  # inverse regularisation that the linear probe chooses from


def patch_grid(config: PreTrainedConfig, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of patches that an encoder with `config.patch_size` makes of an image of that many pixels."""
    size = getattr(config, "patch_size", None)
    if size is None:
        raise ValueError(f"{type(config).__name__} has no patch_size: only encoders of image patches can be evaluated")
    rows, columns = (size, size) if isinstance(size, int) else size
    return height // rows, width // columns


def extract_features(
    model: PreTrainedModel,
    pixel_batches: Iterable[Tensor],
    *,
    pooling: str = "mean",
    layer: int | Sequence[int] = -1,
) -> np.ndarray:
    """One feature vector for each image from a frozen encoder, in eval mode and without gradients.

    Args:
        model: any Hugging Face image transformer with patches; of a model with a head, such as a `...ForPreTraining`
            one, the `base_model` (the student) is used. It stays on its device and gets its training mode back.
        pixel_batches: batches [B, channels, height, width], normalised as the model expects, all of one image size.
        pooling: "mean" or "max" over patch tokens, "flatten" for all patch tokens side by side, or "cls" for the CLS
            token: ours is the last extra token, other models' is the first token.
        layer: -1 for `last_hidden_state`; any other number is an index of `hidden_states`, where 0 is the input of the
            first layer; several are pooled each and concatenated.

    Returns:
        fp32 [N, D'], with D' = D for each layer, and T * D for "flatten".

    Raises:
        ValueError: for an unknown pooling, a layer out of range, no CLS token, an encoder whose output is not one token
            for each patch, no images, or features that are not finite.

    Example:
        >>> from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionModel
        >>> config = Data2Vec2VisionConfig(hidden_size=32, num_hidden_layers=2, num_prenet_layers=1, image_size=16,
        ...     num_attention_heads=2, intermediate_size=64, average_top_k_layers=2, patch_size=4, decoder_dim=32)
        >>> extract_features(Data2Vec2VisionModel(config), torch.randn(10, 3, 16, 16).split(4), layer=[1, -1]).shape
        (10, 64)
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}, but must be one of {', '.join(map(repr, POOLINGS))}")
    layers = [layer] if isinstance(layer, int) else list(layer)
    if not layers:
        raise ValueError("layer is empty: give a number, or a list of at least one")
    encoder = model.base_model
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        # Not inference_mode: what a model caches under it (positions) could not be used in training afterwards.
        with torch.no_grad():
            features = [_encode(encoder, pixels, pooling, layers) for pixels in pixel_batches]
    finally:
        for module, mode in modes:  # one by one: some may have been frozen in eval mode
            module.training = mode
    if not features:
        raise ValueError("pixel_batches is empty: there is no image to take features of")
    stacked = np.concatenate(features)
    if not np.isfinite(stacked).all():
        raise ValueError("the features are not finite: either the weights have diverged, or the pixels hold NaN")
    return stacked


def _encode(encoder: PreTrainedModel, pixels: Tensor, pooling: str, layers: list[int]) -> np.ndarray:
    if pixels.ndim != 4:
        raise ValueError(
            f"pixel_batches holds a tensor of shape {tuple(pixels.shape)}, but must hold batches [B, channels, height, "
            "width], as pixel_values.split(256) gives them"
        )
    deeper = any(index != -1 for index in layers)
    outputs = encoder(pixel_values=pixels.to(encoder.device, encoder.dtype), output_hidden_states=deeper)
    pooled = []
    for index in layers:
        if index == -1:
            tokens = outputs.last_hidden_state
        elif -len(outputs.hidden_states) <= index < len(outputs.hidden_states):
            tokens = outputs.hidden_states[index]
        else:
            last = len(outputs.hidden_states) - 1
            raise ValueError(
                f"layer is {index}, but the encoder has hidden_states 0 (input of the first layer) to {last}: choose "
                "one of them, or -1 for the encoder's output"
            )
        pooled.append(_pool(tokens, patch_grid(encoder.config, *pixels.shape[2:]), pooling, encoder.config))
    return torch.cat(pooled, dim=1).float().cpu().numpy()


def _pool(tokens: Tensor, grid: tuple[int, int], pooling: str, config: PreTrainedConfig) -> Tensor:
    """[B, E + T, D] to [B, D], or [B, T * D] for "flatten"."""
    num_extra = tokens.shape[1] - grid[0] * grid[1] if tokens.ndim == 3 else -1
    if num_extra < 0:
        raise ValueError(
            f"the encoder gives states of shape {tuple(tokens.shape)} for a grid of {grid[0]} x {grid[1]} patches, but "
            "must give one token for each patch: convolutional and hierarchical encoders are not supported, and an "
            "encoder that drops patches must be told not to (mask_ratio=0)"
        )
    if pooling == "cls":
        if num_extra == 0:
            raise ValueError('pooling is "cls", but the encoder has no extra tokens: choose "mean" or "max"')
        return tokens[:, num_extra - 1 if isinstance(config, Data2Vec2PreTrainingConfig) else 0]
    patches = tokens[:, num_extra:]  # [B, T, D]
    if pooling == "flatten":
        return patches.flatten(1)
    return patches.mean(1) if pooling == "mean" else patches.amax(1)


def raw_pixels(images: Tensor) -> np.ndarray:
    """The features that cost nothing: [N, channels, height, width] to fp32 [N, channels * height * width]."""
    return images.flatten(1).float().cpu().numpy()


def random_weights(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """An untrained encoder of the same class, config, device and dtype, in eval mode.

    A given `seed` always gives the same weights; neither `model` nor any global random state is touched.
    """
    encoder = model.base_model
    # Weights are drawn on the CPU: torch.manual_seed would also reset the accelerators' generators.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        fresh = type(encoder)(copy.deepcopy(encoder.config))
    return fresh.to(device=encoder.device, dtype=encoder.dtype).eval()


# ---- probes ----


def linear_probe(train_x: np.ndarray, train_y: Labels, test_x: np.ndarray, test_y: Labels, seed: int = 0) -> float:
    """Accuracy of logistic regression on standardised features.

    Its regularisation is chosen for each kind of features alone, on a quarter of the training labels: a fixed one
    favours whichever features happen to have the number of dimensions that suits it.

    Args:
        train_x, test_x: [N, D] features.
        train_y, test_y: N class labels.
        seed: decides the quarter, and `random_state` of the regression.

    Raises:
        ValueError: for fewer than 2 classes, or labels that don't match the features in number.

    Example:
        >>> linear_probe(np.array([[0.0], [1.0]]), [0, 1], np.array([[-1.0], [3.0]]), [0, 1])
        1.0
    """
    train_y, test_y = _check(train_x, train_y, test_x, test_y)
    scaler = StandardScaler().fit(train_x)
    train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)

    def fit(strength: float, x: np.ndarray, y: np.ndarray) -> LogisticRegression:
        probe = LogisticRegression(C=strength, max_iter=300, tol=1e-3, random_state=seed)
        with warnings.catch_warnings():  # few labels in many dimensions: the accuracy has long settled by then
            warnings.simplefilter("ignore", ConvergenceWarning)
            return probe.fit(x, y)

    strength = 1.0
    if np.unique(train_y, return_counts=True)[1].min() >= 4:  # enough of each class to hold some back
        x, held_x, y, held_y = train_test_split(train_x, train_y, test_size=0.25, stratify=train_y, random_state=seed)
        strength = max(STRENGTHS, key=lambda candidate: fit(candidate, x, y).score(held_x, held_y))
    return float(fit(strength, train_x, train_y).score(test_x, test_y))


def knn(train_x: np.ndarray, train_y: Labels, test_x: np.ndarray, test_y: Labels, k: int = 5) -> float:
    """Accuracy of a vote of the `k` nearest neighbours by Euclidean distance of standardised features.

    Without standardising, a few channels of large variance decide which transformer features are near. Not the cosine:
    once features are centred, those of a typical image have no sure direction, and on the digits it was the worse of
    the two for raw pixels and pooled features. Arguments and errors are those of `linear_probe`; of fewer than `k`
    neighbours all vote.
    """
    train_y, test_y = _check(train_x, train_y, test_x, test_y)
    scaler = StandardScaler().fit(train_x)
    probe = KNeighborsClassifier(n_neighbors=min(k, len(train_y)))
    probe.fit(scaler.transform(train_x), train_y)
    return float(probe.score(scaler.transform(test_x), test_y))


def _check(train_x: Sized, train_y: Labels, test_x: Sized, test_y: Labels) -> tuple[np.ndarray, np.ndarray]:
    """The labels as arrays."""
    train_y, test_y = np.asarray(train_y), np.asarray(test_y)
    for name, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        if y.shape != (len(x),) or not len(x):
            raise ValueError(f"the {name} labels have shape {y.shape}, but {len(x)} images need ({len(x)},)")
    if len(np.unique(train_y)) < 2:
        raise ValueError(f"the train labels hold only {np.unique(train_y)}, but a probe needs at least 2 classes")
    return train_y, test_y


def label_subset(labels: Labels, count: int, seed: int) -> np.ndarray:
    """Indices of `count` random samples, classes in proportion and none left out; int64 [count], in order.

    Raises:
        ValueError: if `count` exceeds the samples or falls below the number of classes.

    Example:
        >>> np.bincount(np.array([0] * 90 + [1] * 10)[label_subset([0] * 90 + [1] * 10, 20, seed=0)])
        array([18,  2])
    """
    labels = np.asarray(labels)
    classes = np.unique(labels)
    if count > len(labels):
        raise ValueError(f"{count} labels are asked for, but there are {len(labels)}: choose fewer, or None for all")
    if count < len(classes):
        raise ValueError(f"{count} labels are asked for, but there are {len(classes)} classes: choose at least as many")
    order = np.random.default_rng(seed).permutation(len(labels))
    # A sample's place within its class as a share of that class: the `count` smallest take all classes in proportion,
    # and everyone's first before any second.
    place = np.empty(len(labels))
    for name in classes:
        members = labels[order] == name
        place[members] = np.arange(members.sum()) / members.sum()
    return np.sort(order[np.argsort(place, kind="stable")[:count]])


# ---- the table ----


@dataclass
class ProbeRow:
    """One number of the table.

    Attributes:
        features: "random weights", "model" or "raw pixels".
        labels: number of labelled images that the probe saw.
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
            f"Accuracy in % on {self.num_test:,} test images (most frequent class: {100 * self.chance:.1f}); mean ± "
            f"standard deviation over random label subsets (seeds {', '.join(map(str, self.seeds))}). Frozen features: "
            f'layer {self.layer}, pooling "{self.pooling}".',
        ]
        return "\n".join(lines)


def probe_table(
    model: PreTrainedModel,
    train: ImageSet,
    test: ImageSet,
    *,
    label_counts: Sequence[int | None] = (100, None),
    pooling: str = "mean",
    layer: int | Sequence[int] = -1,
    seeds: Sequence[int] = (0, 1, 2),
    k: int = 5,
    batch_size: int = 256,
) -> ProbeTable:
    """Probe a frozen encoder beside what it has to beat: the same encoder with random weights, and raw pixels.

    Args:
        model: see `extract_features`, also for `pooling` and `layer`.
        train, test: (pixel_values [N, channels, height, width], N labels), normalised as the model expects.
        label_counts: numbers of labelled training images; None for all. A subset keeps the classes in proportion.
        seeds: one label subset each; a full training set is probed once.
        k: neighbours of kNN.
        batch_size: images in a forward pass.

    Raises:
        ValueError: as `extract_features`, `linear_probe` and `label_subset`.

    Example:
        >>> from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionModel
        >>> config = Data2Vec2VisionConfig(hidden_size=32, num_hidden_layers=2, num_prenet_layers=1, image_size=16,
        ...     num_attention_heads=2, intermediate_size=64, average_top_k_layers=2, patch_size=4, decoder_dim=32)
        >>> images, labels = torch.randn(40, 3, 16, 16), [0, 1] * 20
        >>> table = probe_table(Data2Vec2VisionModel(config), (images, labels), (images, labels), label_counts=[10])
        >>> [(row.features, row.labels, row.probe) for row in table.rows][:2]
        [('random weights', 10, 'linear'), ('random weights', 10, 'kNN')]
    """
    (train_images, train_labels), (test_images, test_labels) = train, test
    train_y, test_y = _check(train_images, train_labels, test_images, test_labels)
    if not seeds:
        raise ValueError("seeds is empty: give at least one")
    # Before the forward passes: a label count that can't be had should not cost them.
    subsets = {
        count: [label_subset(train_y, count, seed) for seed in (seeds if count < len(train_y) else seeds[:1])]
        for count in (len(train_y) if count is None else count for count in label_counts)
    }

    def encode(encoder: PreTrainedModel, images: Tensor) -> np.ndarray:
        return extract_features(encoder, images.split(batch_size), pooling=pooling, layer=layer)

    untrained = random_weights(model)
    features = {
        "random weights": (encode(untrained, train_images), encode(untrained, test_images)),
        "model": (encode(model, train_images), encode(model, test_images)),
        "raw pixels": (raw_pixels(train_images), raw_pixels(test_images)),
    }
    rows = []
    for name, (train_x, test_x) in features.items():
        for count, chosen in subsets.items():
            linear = [linear_probe(train_x[ids], train_y[ids], test_x, test_y) for ids in chosen]
            nearest = [knn(train_x[ids], train_y[ids], test_x, test_y, k) for ids in chosen]
            for probe, scores in (("linear", linear), ("kNN", nearest)):
                std = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
                rows.append(ProbeRow(name, count, probe, float(np.mean(scores)), std, scores))
    return ProbeTable(
        rows,
        pooling,
        layer=layer if isinstance(layer, int) else list(layer),
        seeds=list(seeds),
        num_train=len(train_y),
        num_test=len(test_y),
        chance=float(np.unique(test_y, return_counts=True)[1].max() / len(test_y)),
    )


def probe_accuracy(
    model: PreTrainedModel,
    train: ImageSet,
    test: ImageSet,
    *,
    pooling: str = "mean",
    layer: int | Sequence[int] = -1,
    k: int = 5,
    seed: int = 0,
    batch_size: int = 256,
) -> dict[str, float]:
    """The model's own accuracies with all labels, {"linear": ..., "knn": ...}: cheap enough to ask during training.

    Arguments and errors are those of `probe_table`.
    """
    (train_images, train_y), (test_images, test_y) = train, test
    train_x = extract_features(model, train_images.split(batch_size), pooling=pooling, layer=layer)
    test_x = extract_features(model, test_images.split(batch_size), pooling=pooling, layer=layer)
    return {
        "linear": linear_probe(train_x, train_y, test_x, test_y, seed),
        "knn": knn(train_x, train_y, test_x, test_y, k),
    }
