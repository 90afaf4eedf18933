"""Checks for NaN and infinity in samples and weights, so that no diverged run ends as if all were well."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from modeling_data2vec.ema import local_shard

REMEDIES = (
    "Try a lower learning_rate, more warmup_steps, or bf16 or fp32 instead of fp16; check labels and inputs for values "
    "that are far from all others. Checkpoints of before are as they were (docs/health.md)."
)


def is_finite(values: Any) -> bool:
    """Whether numbers in a tensor or array, or whatever else a sample holds under a name, are all finite."""
    if isinstance(values, Mapping):  # the parts of a pair
        return all(is_finite(part) for part in values.values())
    if isinstance(values, np.ndarray):
        return values.dtype.kind != "f" or bool(np.isfinite(values).all())
    if not (isinstance(values, Tensor) and values.is_floating_point()):
        return True
    # A sum is found in a tenth of the time; that of finite numbers may be too large, and is then looked into.
    return math.isfinite(values.sum()) or bool(values.isfinite().all())


class CheckedCollator:
    """Refuses batches with NaN or infinity in them, and names the sample.

    Args:
        collate: makes a batch of samples.

    Raises:
        ValueError: names what holds them, and the sample by its `key` or its place in the batch.
    """

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Any) -> Any:
        batch = self.collate(samples)
        for name, values in batch.items() if isinstance(batch, Mapping) else ():
            if not is_finite(values):
                raise ValueError(f"{self._where(name, samples)} NaN or infinity in {name}: repair it, or leave it out")
        return batch

    @staticmethod
    def _where(name: str, samples: Any) -> str:
        for place, sample in enumerate(samples):
            if isinstance(sample, Mapping) and not is_finite(sample.get(name)):
                key = f"with key {sample['key']}, " if "key" in sample else ""
                return f"a sample ({key}number {place} of its batch) has"
        return "a batch has"


def weights_are_finite(model: nn.Module) -> bool:
    """Whether all weights are numbers; one question to the device. Of sharded weights, all processes ask at once."""
    finite = {name: _is_finite(weight) for name, weight in model.named_parameters() if weight.is_floating_point()}
    if not finite:
        return True
    device = next(iter(finite.values())).device
    answer = torch.stack([one.to(device) for one in finite.values()]).all()
    if any(local_shard(weight) is not weight for weight in model.parameters()):
        answer = answer.int()
        dist.all_reduce(answer, dist.ReduceOp.MIN)
    return bool(answer)


def _is_finite(weight: Tensor) -> Tensor:
    return local_shard(weight.detach()).isfinite().all()


def what_diverged(loss: float, last_log: int, step: int, model: nn.Module) -> str | None:
    """Find a loss or weights that stopped being numbers after the last log.

    Args:
        loss: the sum since the last log.
        last_log: its optimizer step.
        step: the run's last optimizer step.
        model: as it is now.
    """
    if not math.isfinite(loss):
        when = f"after the last log, between steps {last_log} and {step}"
        return f"The run diverged: the loss became {loss} {when}. {REMEDIES}"
    if not weights_are_finite(model):
        wrong = next(
            (name for name, weight in model.named_parameters() if not _is_finite(weight)), "of other processes"
        )
        return f"The run diverged: at step {step} weights are NaN or infinite ({wrong} and maybe others). {REMEDIES}"
    return None
