"""What stays in fp32 in models of half precision: the weights of some modules, and what is computed of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class FullPrecision(nn.Module):
    """Keeps its weights and buffers in fp32 when the model around them is converted to half precision.

    An average in half precision hardly moves: most of its steps are smaller than its rounding.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FullPrecision":
        """Keep the weights in fp32; `to`, `half`, `bfloat16`, `cuda` and the like all come through here."""

        def in_full_precision(tensor: Tensor) -> Tensor:
            converted = fn(tensor)
            if not converted.is_floating_point() or converted.dtype.itemsize >= 4:
                return converted
            kept = converted if tensor.is_meta else tensor  # what is on no device has no values to keep
            return kept.to(converted.device, torch.float32)

        return super()._apply(in_full_precision, recurse)


def without_autocast(x: Tensor) -> torch.autocast:
    """Whatever is computed of a tensor in its own precision; what has no values has no autocast."""
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)
