"""Mixup, CutMix and smoothed labels of batches: pure functions of a random generator, and the collator."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

import torch.nn.functional as F
from torch import Tensor


def smoothed(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Classes as distributions: 1 - smoothing on the class, and the rest on all alike (arXiv 1512.00567 §7).

    Args:
        labels: int64 [B].
        num_classes: C.
        smoothing: share that is spread evenly.

    Returns:
        fp32 [B, C].

    Example:
        >>> smoothed(Tensor([1]).long(), 4, 0.2)
        tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    return F.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


def mixup(images: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Each image or clip blended with the one at its place from the end (arXiv 1710.09412).

    Args:
        images: [B, ...], e.g. [B, channels, H, W].
        targets: fp32 [B, C].
        share: of the image itself, from 0 to 1.

    Returns:
        Images and targets, mixed alike.
    """
    return images * share + images.flip(0) * (1 - share), targets * share + targets.flip(0) * (1 - share)


def cutmix(images: Tensor, targets: Tensor, share: float, rng: Random) -> tuple[Tensor, Tensor]:
    """A rectangle of each image taken from the one at its place from the end (arXiv 1905.04899).

    Args:
        images, targets: as for `mixup`.
        share: of the image that stays, before the rectangle is cut at the image's edge.
        rng: decides where the rectangle lies, the same for all images.

    Returns:
        Images, and targets mixed by the share that stayed.
    """
    height, width = images.shape[2:]
    tall, wide = (int(size * math.sqrt(1 - share)) for size in (height, width))
    y, x = rng.randrange(height), rng.randrange(width)
    top, bottom = max(0, y - tall // 2), min(height, y + tall // 2)
    left, right = max(0, x - wide // 2), min(width, x + wide // 2)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    stayed = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, targets * stayed + targets.flip(0) * (1 - stayed)


class MixupCollator:
    """Batches of images or clips with mixed and smoothed labels [B, C], for training.

    Args:
        collate: makes a batch with int64 `labels` [B] of samples, or fp32 [B, C] where they have several classes.
        num_classes: C.
        input_name: of what is mixed. Where one of two clips has ended, the other goes on.
        smoothing: see `smoothed`.
        mixup_alpha, cutmix_alpha: of the Beta distribution of shares; 0 for none.
        prob: share of batches that are mixed.
        switch_prob: of those, the share for CutMix, where both are on.

    Samples' `key`s decide, so a resumed run mixes alike.
    """

    def __init__(
        self,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        num_classes: int,
        *,
        input_name: str = "pixel_values",
        smoothing: float = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        prob: float = 1.0,
        switch_prob: float = 0.5,
    ) -> None:
        self.collate, self.num_classes, self.smoothing, self.input_name = collate, num_classes, smoothing, input_name
        self.mixup_alpha, self.cutmix_alpha, self.prob, self.switch_prob = mixup_alpha, cutmix_alpha, prob, switch_prob

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        rng = Random(" ".join(str(sample["key"]) for sample in samples))
        batch = self.collate(samples)
        targets = batch["labels"]
        if not targets.is_floating_point():  # else they are [B, C] already, of samples with several classes
            targets = smoothed(targets, self.num_classes, self.smoothing)
        values = batch[self.input_name]
        batch[self.input_name], batch["labels"] = self.mix(values, targets, rng)
        if batch[self.input_name] is not values and "attention_mask" in batch:
            batch["attention_mask"] = batch["attention_mask"] | batch["attention_mask"].flip(0)
        return batch

    def mix(self, images: Tensor, targets: Tensor, rng: Random) -> tuple[Tensor, Tensor]:
        """Mix a batch in one of the ways that are on, or not at all; arguments as for `cutmix`."""
        if not (self.mixup_alpha or self.cutmix_alpha) or rng.random() >= self.prob:
            return images, targets
        cut = self.cutmix_alpha > 0 and (not self.mixup_alpha or rng.random() < self.switch_prob)
        alpha = self.cutmix_alpha if cut else self.mixup_alpha
        share = rng.betavariate(alpha, alpha)
        return cutmix(images, targets, share, rng) if cut else mixup(images, targets, share)
