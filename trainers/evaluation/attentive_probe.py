"""An attentive probe: a learned query finds the positions of a frozen encoder that tell the class.

Letters: N samples, F positions of all of them, T positions of one, D channels, H heads, C classes.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from .probe_labels import Labels, Targets, check_labels, held_out_quarter, score, varied

Frames = tuple[np.ndarray, np.ndarray]  # features [F, D] of positions, and whose they are [F]: from `frame_features`
HEADS = 4
LEARNING_RATE, WEIGHT_DECAY = 1e-2, 1e-2
BATCH_SIZE = 64
MAX_EPOCHS, PATIENCE = 100, 10
FEW_LABEL_EPOCHS = 30  # where a class has too few labels to hold some back


class AttentiveProbe(nn.Module):
    """Cross-attention of one learned query over the positions of a sample, then a linear classifier.

    There are no projections of keys and values: a head's key projection would only multiply its part of the query, and
    its value projection the classifier's weights. So the query is learned as each head's keys see it, [H, D]. At first
    all positions weigh almost the same, as in a linear probe of the mean.
    """

    def __init__(self, channels: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(HEADS, channels, generator=generator))
        self.weight = nn.Parameter(torch.zeros(classes, HEADS * channels))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, positions: Tensor, real: Tensor) -> Tensor:
        """Positions [N, T, D], of which bool [N, T] are real, to logits [N, C]."""
        scores = self.query @ positions.transpose(1, 2) / positions.shape[-1] ** 0.5  # [N, H, T]
        weights = scores.masked_fill(~real[:, None], -torch.inf).softmax(-1)
        pooled = (weights @ positions).flatten(1)  # [N, H * D]
        return nn.functional.linear(pooled, self.weight, self.bias)


def attentive_probe(train_x: Frames, train_y: Labels, test_x: Frames, test_y: Labels, seed: int = 0) -> float:
    """Accuracy of an attentive probe: what a head sees that may look at single positions, not at their mean alone.

    Of several classes a sample, mean average precision: each class is learned by itself, from the same positions.

    Features are standardised by the training positions' mean and deviation. AdamW trains the probe on three quarters of
    the labels until the loss of the fourth has not fallen for 10 epochs, at most 100; then it is trained anew on all of
    them for the best number of epochs. Equal seeds give equal results.

    Args:
        train_x, test_x: (features [F, D], samples [F]) of the real positions of all samples, in order, as
            `frame_features` gives them.
        train_y, test_y: N classes, or N lists of them.
        seed: decides the quarter, the first weights and the order of samples.

    Raises:
        ValueError: for fewer than 2 classes, labels that don't match the samples in number, or a sample without
            positions.

    Example:
        >>> positions = np.array([[0.0], [9.0], [0.0], [0.0]]), np.array([0, 0, 1, 1])
        >>> attentive_probe(positions, [1, 0], positions, [1, 0])
        1.0
    """
    train_y, test_y = check_labels(np.unique(train_x[1]), train_y, np.unique(test_x[1]), test_y)
    return score(attentive_predictions(train_x, train_y, test_x, seed), test_y)


def attentive_predictions(train_x: Frames, train_y: np.ndarray, test_x: Frames, seed: int = 0) -> np.ndarray:
    """What the probe of `attentive_probe` predicts for each test sample; arguments as there, labels an array."""
    mean, std = train_x[0].mean(0), train_x[0].std(0)
    std[std < 1e-6] = 1.0
    train, test = (Padded((x - mean) / std, samples) for x, samples in (train_x, test_x))
    targets = Targets(train_y)
    labels = torch.from_numpy(targets.values.argmax(1) if targets.exclusive else targets.values)  # [N] or [N, C]
    new = partial(AttentiveProbe, train.features.shape[1], targets.values.shape[1])
    quarter = held_out_quarter(train_y, seed)
    epochs = FEW_LABEL_EPOCHS
    if quarter is not None:
        kept, held = (torch.from_numpy(ids) for ids in quarter)
        _, epochs = _fit(new, train, labels, kept, seed, MAX_EPOCHS, held)
    probe, _ = _fit(new, train, labels, torch.arange(len(labels)), seed, epochs)
    if not targets.exclusive:
        probe.weight.data[torch.from_numpy(~varied(train_y))] = 0.0  # nothing can be said of them
    return targets.answers(_logits(probe, test, torch.arange(len(test))).numpy())


class Padded:
    """Positions of samples of unequal length: indexed by samples [n] it gives ([n, T, D], which are real: [n, T])."""

    def __init__(self, features: np.ndarray, samples: np.ndarray) -> None:
        self.features = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        self.counts = torch.from_numpy(np.unique(samples, return_counts=True)[1])  # [N]
        self.starts = self.counts.cumsum(0) - self.counts

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        counts = self.counts[chosen]
        place = torch.arange(int(counts.max()))  # [T]
        real = place < counts[:, None]  # [n, T]
        return self.features[torch.where(real, self.starts[chosen][:, None] + place, 0)], real


def _fit(
    new: Callable[[torch.Generator], AttentiveProbe],
    data: Padded,
    labels: Tensor,
    chosen: Tensor,
    seed: int,
    epochs: int,
    held: Tensor | None = None,
) -> tuple[AttentiveProbe, int]:
    """Train on the chosen samples; with samples held back also stop early, and say after which epoch it was best."""
    generator = torch.Generator().manual_seed(seed)
    probe = new(generator)
    loss_of = cross_entropy if labels.ndim == 1 else binary_cross_entropy_with_logits
    optimizer = torch.optim.AdamW(probe.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    lowest, best = float("inf"), epochs
    for epoch in range(1, epochs + 1):
        for batch in chosen[torch.randperm(len(chosen), generator=generator)].split(BATCH_SIZE):
            optimizer.zero_grad()
            loss_of(probe(*data[batch]), labels[batch]).backward()
            optimizer.step()
        if held is None:
            continue
        loss = float(loss_of(_logits(probe, data, held), labels[held]))
        if loss < lowest:
            lowest, best = loss, epoch
        elif epoch - best >= PATIENCE:
            break
    return probe, best


@torch.no_grad()
def _logits(probe: AttentiveProbe, data: Padded, chosen: Tensor) -> Tensor:
    return torch.cat([probe(*data[batch]) for batch in chosen.split(BATCH_SIZE)])  # [n, C]
