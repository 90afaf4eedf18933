"""Samples that were processed before: the model's input itself, as lists, arrays or tensors."""

from random import Random
from typing import Any

import torch
from torch import Tensor


class ProcessedReader:
    """Takes the model's input out of an example as it is, without its padding and without augmentation.

    Args:
        input_name: the model's main input, e.g. "pixel_values".

    Example:
        >>> ProcessedReader("input_ids")({"input_ids": [0, 17, 2, 1], "attention_mask": [1, 1, 1, 0]})
        {'input_ids': tensor([ 0, 17,  2])}
    """

    noun = "sample"

    def __init__(self, input_name: str) -> None:
        self.input_name = input_name

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Any]:
        values = torch.as_tensor(example[self.input_name])
        values = values.to(torch.float32 if values.is_floating_point() else torch.int64)
        real = example.get("attention_mask")
        inputs: dict[str, Tensor | int] = {
            self.input_name: values if real is None else values[torch.as_tensor(real).bool()]
        }
        if "key" in example:  # which the masks are drawn from
            inputs["key"] = int(example["key"])
        return inputs

    def name(self, example: dict[str, Any]) -> str | None:
        """None: the origin of a processed sample is not known."""
        return None
