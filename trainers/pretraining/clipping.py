"""Clipping of each modality's gradient in a joint step, before they are added up."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class ModalityClipping:
    """Clips what each modality adds to the gradient to its share of a norm.

    The modalities of a step come one after the other, so the gradient of one is what it adds to the sum. A joint step's
    is the weighted mean of theirs; with each clipped to its weight's share, it is the weighted mean of what separate
    runs would take. On the sum, the same norm clips less often: gradients of several modalities point anywhere, and
    their mean is shorter than they are (docs/one_network.md has what that does to a comparison).

    Args:
        parameters: of the model.
        max_norm: of the whole step's gradient.

    Attributes:
        counts: (steps clipped, steps) of each modality since the last log.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> clipping = ModalityClipping([weight], max_norm=1.0)
        >>> clipping.begin_step()
        >>> for name, gradient in (("audio", [8.0, 0.0]), ("text", [0.0, 0.25])):
        ...     (weight * torch.tensor(gradient)).sum().backward()
        ...     clipping.clip(name, share=0.5)
        >>> weight.grad, clipping.take()
        (tensor([0.5000, 0.2500]), {'audio/clipped': 1.0, 'text/clipped': 0.0})
    """

    def __init__(self, parameters: Iterable[nn.Parameter], max_norm: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.max_norm = max_norm
        self.counts: dict[str, tuple[int, int]] = {}
        self._before: list[Tensor | None] = []

    def begin_step(self) -> None:
        """Forget the gradients of the last optimizer step."""
        self._before = [None] * len(self.parameters)

    @torch.no_grad()
    def clip(self, name: str, share: float) -> None:
        """Clip what a modality has added, after the backward pass of its last micro-batch of the step.

        Args:
            name: of the modality.
            share: of its loss in that of the step, 0 to 1.
        """
        gradients = [parameter.grad for parameter in self.parameters]
        added = [
            gradient if before is None or gradient is None else gradient - before
            for gradient, before in zip(gradients, self._before, strict=True)
        ]
        norm = torch.nn.utils.get_total_norm([one for one in added if one is not None])
        scale = (share * self.max_norm / norm.clamp_min(1e-12)).clamp_max(1.0)
        for gradient, one in zip(gradients, added, strict=True):
            if gradient is not None and one is not None:
                gradient.sub_(one * (1 - scale))
        self._before = [None if gradient is None else gradient.clone() for gradient in gradients]
        clipped, steps = self.counts.get(name, (0, 0))
        self.counts[name] = (clipped + int(scale < 1), steps + 1)

    def take(self) -> dict[str, float]:
        """The share of steps in which each modality was clipped since the last time, as `audio/clipped`."""
        figures = {f"{name}/clipped": clipped / steps for name, (clipped, steps) in self.counts.items()}
        self.counts = {}
        return figures
