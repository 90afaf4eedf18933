"""Does one modality find the other? Retrieval between paired samples by the cosine of predicted and true latents.

Letters: N paired samples, K of the teacher's layers, D channels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from modeling_data2vec.cross_modal import pooled_layers, pooled_states
from modeling_data2vec.running_norm import SHRINKAGE

from ..modalities.base import Modality

RECALLS = (1, 5, 10)
STRENGTHS = np.logspace(-1, 5, 13)  # of the ridge regression, which chooses one by leave-one-out


# ---- features ----


@dataclass
class PooledFeatures:
    """What a model makes of N whole samples of one modality.

    Attributes:
        states: fp32 [N, D], the student's, averaged over positions.
        layers: fp32 [N, K, D], each of the teacher's top K layers, averaged over positions.
    """

    states: np.ndarray
    layers: np.ndarray


def whole_samples(kind: Modality, samples: Sequence[Tensor]) -> dict[str, Tensor]:
    """A batch of unbatched samples as `pooled_features` takes it, padded as their kind of data is, without masks."""
    inputs, attention_mask = kind.pad(samples)
    return {"inputs": inputs} if attention_mask is None else {"inputs": inputs, "attention_mask": attention_mask}


@torch.no_grad()
def pooled_features(model: Any, modality: str, batches: Iterable[Mapping[str, Any]]) -> PooledFeatures:
    """Encode whole samples by student and teacher.

    Args:
        model: a pretraining model of data2vec 2.0, joint or of this single modality.
        modality: "audio", "text" or "vision".
        batches: `inputs` [B, ...] and, where something is padded, `attention_mask`, as `whole_samples` and
            `PairsCollator` make them.
    """
    training, states, layers = model.training, [], []
    model.eval()
    try:
        for batch in batches:
            inputs, attention_mask = batch["inputs"].to(model.device), batch.get("attention_mask")
            attention_mask = None if attention_mask is None else attention_mask.to(model.device)
            side = model.side(modality)
            embedding = side.embed(inputs, attention_mask)
            states.append(pooled_states(side, embedding))
            top = model.teacher_layers(inputs, embedding, attention_mask, modality=modality)
            layers.append(pooled_layers(top, side.config.average_top_k_layers, embedding.valid))
    finally:
        model.train(training)
    return PooledFeatures(*(torch.cat(part).float().cpu().numpy() for part in (states, layers)))


class Latents:
    """The targets of a modality as norms over the training samples make them; see `cross_modal.CrossModalNorms`.

    Args:
        train: features of the training samples, whose mean and covariance are taken.
        eps: added to the variance.
    """

    def __init__(self, train: PooledFeatures, eps: float = 1e-5) -> None:
        self.mean, self.std = train.layers.mean(0), np.sqrt(train.layers.var(0) + eps)  # [K, D]
        standardised = self._standardised(train)
        values, vectors = np.linalg.eigh(standardised.T @ standardised / len(standardised))
        scale = 1 / np.sqrt(values.clip(0) + SHRINKAGE * values.mean() + eps)
        self.whitening = (vectors * scale) @ vectors.T  # [D, D]

    def __call__(self, features: PooledFeatures) -> np.ndarray:
        """[N, D]."""
        return self._standardised(features) @ self.whitening

    def _standardised(self, features: PooledFeatures) -> np.ndarray:
        return ((features.layers - self.mean) / self.std).mean(1)


def latents_of(model: Any, modality: str, samples: PooledFeatures) -> Callable[[PooledFeatures], np.ndarray]:
    """What makes the targets of a modality, as a joint model's heads predict them: [N, D] of features.

    By the statistics of the model's training; where it has none, as in checkpoints from before them, by those of
    `samples`.
    """
    norm = model.cross_norms.targets[modality]
    if not norm.batches:
        return Latents(samples)
    return lambda found: norm.normalized(torch.from_numpy(found.layers).to(model.device)).cpu().numpy()


# ---- predictions ----


def ridge_predictions(train: np.ndarray, latents: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Latents [N', D] of test states, by a ridge regression that is fitted on pairs: for models without heads.

    Args:
        train: [N, D] states of one modality, of the training pairs.
        latents: [N, D] latents of the other.
        test: [N', D] states of the one modality.
    """
    mean, std = train.mean(0), train.std(0) + 1e-6
    return RidgeCV(STRENGTHS).fit((train - mean) / std, latents).predict((test - mean) / std)


@torch.no_grad()
def head_predictions(model: Any, source: str, target: str, states: np.ndarray) -> np.ndarray:
    """Latents [N, D] of states [N, D], by a joint model's own head for this pair of modalities."""
    inputs = model.cross_norms.states[source].normalized(torch.from_numpy(states).to(model.device)[:, None])
    return model.cross_modal[f"{source}_to_{target}"](inputs.to(model.dtype)).float().cpu().numpy()


# ---- retrieval ----


def ranks(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """At which place each sample's own latent comes among all N, by cosine with what was predicted of it.

    Of several that are equally near, the own one is taken to stand in their middle: latents that are all the same find
    nothing.

    Args:
        predicted, true: [N, D], of the same samples in the same order.

    Returns:
        [N], from 1.

    Raises:
        ValueError: the shapes differ, or there are fewer than two samples.

    Example:
        >>> ranks(np.eye(3), np.eye(3)), ranks(np.ones((3, 2)), np.ones((3, 2)))
        (array([1., 1., 1.]), array([2., 2., 2.]))
    """
    if predicted.shape != true.shape or len(true) < 2:
        raise ValueError(
            f"predicted has shape {predicted.shape} and true {true.shape}, but both must be [N, D] with N of at least 2"
        )
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (predicted, true))
    similarity = np.round(a @ b.T, 6)  # [N, N]; what differs by rounding alone is equal
    own = similarity.diagonal()[:, None]
    return 1 + (similarity > own).sum(1) + ((similarity == own).sum(1) - 1) / 2


@dataclass
class Retrieval:
    """How well samples are found.

    Attributes:
        recalls: share of samples at place k or before, by k.
        median_rank: of their own latents, from 1.
        num: N, among how many.
    """

    recalls: dict[int, float]
    median_rank: float
    num: int

    @classmethod
    def of_ranks(cls, found: np.ndarray) -> "Retrieval":
        """Summarise `ranks`.

        Example:
            >>> Retrieval.of_ranks(np.array([1, 2, 6, 20])).recalls
            {1: 0.25, 5: 0.5, 10: 0.75}
        """
        return cls({k: float((found <= k).mean()) for k in RECALLS}, float(np.median(found)), len(found))

    @classmethod
    def chance(cls, num: int) -> "Retrieval":
        """What guessing gives among N samples.

        Example:
            >>> Retrieval.chance(100)
            Retrieval(recalls={1: 0.01, 5: 0.05, 10: 0.1}, median_rank=50.5, num=100)
        """
        return cls({k: min(1.0, k / num) for k in RECALLS}, (num + 1) / 2, num)


def retrieve(
    train: Mapping[str, PooledFeatures], test: Mapping[str, PooledFeatures], model: Any = None
) -> dict[tuple[str, str], Retrieval]:
    """Find the test samples of each modality by each other one.

    Args:
        train: features of the training pairs, by modality.
        test: those of the test pairs.
        model: a joint model whose own heads predict; None to fit a ridge regression on the training pairs instead, by
            which any model, and several single ones, can be judged.

    Returns:
        by (given, sought) modality.
    """
    found = {}
    for source, target in permutations(test, 2):
        latents: Callable = Latents(train[target]) if model is None else latents_of(model, target, train[target])
        if model is None:
            predicted = ridge_predictions(train[source].states, latents(train[target]), test[source].states)
        else:
            predicted = head_predictions(model, source, target, test[source].states)
        found[source, target] = Retrieval.of_ranks(ranks(predicted, latents(test[target])))
    return found


def retrieval_table(rows: Mapping[str, Mapping[tuple[str, str], Retrieval]]) -> str:
    """Markdown: a line for each kind of features, and the chance level; recall at 1, 5 and 10 in percent, median rank.

    Args:
        rows: results of `retrieve`, by what a line is called.
    """
    pairs = list(next(iter(rows.values())))
    num = next(iter(rows.values()))[pairs[0]].num
    lines = ["| features | " + " | ".join(f"{source} to {target}" for source, target in pairs) + " |"]
    lines.append("|---|" + "---:|" * len(pairs))
    chance = dict.fromkeys(pairs, Retrieval.chance(num))
    for name, results in {**rows, "chance": chance}.items():
        cells = []
        for pair in pairs:
            recalls = " / ".join(f"{100 * results[pair].recalls[k]:.1f}" for k in RECALLS)
            cells.append(f"{recalls}; {results[pair].median_rank:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Recall at 1 / 5 / 10 in %; median rank, among {num} samples."])
