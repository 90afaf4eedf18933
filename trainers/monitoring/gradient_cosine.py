"""Comparison of the modalities' gradients on the shared weights: do they agree, and does one dominate?"""

from collections.abc import Callable, Iterable
from itertools import combinations

import torch
from torch import Tensor, nn

COSINE, NORM = "gradient_cosine/", "gradient_norm/"  # what the names of its figures begin with


class GradientCosine:
    """Cosine of each pair of modalities' gradients and the norm of each, as they accumulate in an optimizer step.

    The modalities of a step come one after the other, so the gradient of one is what it adds to the sum: no backward
    pass is spent. A cosine near 1 says that an update for one modality serves the other as well, one below 0 that they
    work against each other (Yu et al. 2020, "Gradient Surgery for Multi-Task Learning"). The modality with the largest
    norm leads the shared weights; norms are those of the weighted losses, so loss weights even them out.

    Args:
        parameters: the shared weights.
        reduce: the mean over processes of a vector.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> cosine = GradientCosine([weight])
        >>> for name, gradient in (("audio", [1.0, 0.0]), ("text", [1.0, 1.0])):
        ...     (weight * torch.tensor(gradient)).sum().backward()
        ...     cosine.record(name)
        >>> {name: round(value, 4) for name, value in cosine.take().items()}
        {'gradient_cosine/audio_text': 0.7071, 'gradient_norm/audio': 1.0, 'gradient_norm/text': 1.4142}
    """

    def __init__(self, parameters: Iterable[nn.Parameter], reduce: Callable[[Tensor], Tensor] | None = None) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.reduce = reduce or (lambda vector: vector)
        self._gradients: dict[str, Tensor] = {}

    @torch.no_grad()
    def record(self, name: str) -> None:
        """Take the gradient of a modality, after the backward pass of its last micro-batch of the step."""
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        # Before the last micro-batch each process has its own sum; after it DDP has made them equal, as is their mean.
        total = self.reduce(torch.cat([part.detach().flatten().float() for part in parts]))  # [all shared weights]
        for earlier in self._gradients.values():
            total = total - earlier
        self._gradients[name] = total

    def take(self) -> dict[str, float]:
        """`gradient_cosine/audio_text`, `gradient_norm/audio` and so on of the recorded step; none without one."""
        pairs = combinations(self._gradients.items(), 2)
        cosines = {
            f"{COSINE}{first}_{second}": float(torch.cosine_similarity(a, b, dim=0))
            for (first, a), (second, b) in pairs
        }
        norms = {f"{NORM}{name}": float(gradient.norm()) for name, gradient in self._gradients.items()}
        self._gradients = {}
        return cosines | norms
