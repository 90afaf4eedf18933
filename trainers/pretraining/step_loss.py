"""The loss of an optimizer step: all hidden positions of a modality weigh the same, and each modality as it should.

Of paired samples, in which nothing is hidden, all samples weigh the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modeling_data2vec.cross_modal import PAIRS

from ..modalities.names import modality_of


def has_loss(batch: Mapping[str, Any]) -> bool:
    """Whether a micro-batch has what its loss is computed of: a mask, or pairs."""
    return "mask" in batch or PAIRS in batch


def loss_size(batch: Mapping[str, Any]) -> Tensor:
    """How many hidden positions, or paired samples, the loss of a micro-batch is a mean over."""
    if PAIRS not in batch:
        return batch["mask"].sum()
    first = next(iter(batch[PAIRS].values()))["inputs"]
    return torch.tensor(len(first), device=first.device)


@dataclass
class StepLoss:
    """How much the micro-batches of one optimizer step count.

    A micro-batch's loss l_i is a mean over its h_i hidden positions. What is minimised is
    `sum over modalities m of w_m / W * (sum_i l_i h_i / sum_i h_i)`, with i over the micro-batches of m of all
    processes, and W the sum of the weights of the modalities that the step has. Of a single modality that is the mean
    over all hidden positions, as in the authors' code, whose gradients are divided by the sum of sample sizes.

    Attributes:
        hidden: positions that a micro-batch of the step hides of each modality, the mean over all micro-batches (those
            of other modalities count 0) and processes: scalars.
        shares: w_m / W of each modality.
    """

    hidden: dict[str, Tensor]
    shares: dict[str, float]

    @classmethod
    def from_batches(
        cls,
        batches: Sequence[Mapping[str, Any]],
        weights: Mapping[str, float],
        device: torch.device,
        reduce: Callable[[Tensor], Tensor],
    ) -> "StepLoss":
        """Read the masks of a step's micro-batches.

        Args:
            batches: those of this process.
            weights: loss weight of each modality.
            device: where to count.
            reduce: the mean over processes.
        """
        names = [modality_of(batch) for batch in batches]
        counts = torch.stack([loss_size(batch).to(device) for batch in batches]).float()  # [micro-batches]
        present = [name for name in weights if name in names]
        own = torch.tensor([[name == other for other in names] for name in present], device=device)
        hidden = reduce((counts * own).mean(1))  # [modalities]
        total = sum(weights[name] for name in present) or 1.0  # only such as don't count: they are watched
        return cls(dict(zip(present, hidden, strict=True)), {name: weights[name] / total for name in present})

    def mean_part(self, loss: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """A micro-batch's part of its modality's mean loss, times the number of micro-batches of the step.

        The Trainer divides by that number, and gradients are averaged over processes.
        """
        return loss * (loss_size(inputs) / self.hidden[modality_of(inputs)])

    def weighted(self, mean_part: Tensor, modality: str) -> Tensor:
        """The same, as part of the whole step's loss."""
        return mean_part * self.shares[modality]


@dataclass
class OptimizerStep:
    """The micro-batches of one optimizer step, and how many of them have been computed.

    Attributes:
        modalities: of each micro-batch, in order.
        loss: how much each counts; None where the batches have no masks, so that the model's own loss is taken.
        done: micro-batches whose loss has been computed.

    Example:
        >>> step = OptimizerStep(["audio", "text", "audio"], None)
        >>> step.advance()
        >>> step.advance()
        >>> step.has_all_of("text"), step.has_all_of("audio")
        (True, False)
    """

    modalities: list[str]
    loss: StepLoss | None
    done: int = 0

    def advance(self) -> None:
        """Count one more micro-batch as computed."""
        self.done += 1

    def has_all_of(self, modality: str) -> bool:
        """Whether no micro-batch of a modality is still to come in this step."""
        return modality not in self.modalities[self.done :]
