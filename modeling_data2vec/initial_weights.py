"""Initial weights as PyTorch itself chooses them, through transformers' functions, which leave loaded weights alone."""

import math

from torch import nn
from transformers import initialization as init


def init_as_pytorch(layer: nn.Module) -> None:
    """PyTorch's own initial weights of a linear layer or convolution: uniform within 1/sqrt(fan in)."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    bound = 1 / math.sqrt(layer.weight[0].numel())
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            init.uniform_(parameter, -bound, bound)
