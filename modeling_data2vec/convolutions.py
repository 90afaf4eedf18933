"""Convolutions with channels last, and their initial weights as PyTorch has them."""

import math

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init


def init_as_pytorch(layer: nn.Module) -> None:
    """PyTorch's own initial weights of a linear layer or convolution: uniform within 1/sqrt(fan in)."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    bound = 1 / math.sqrt(layer.weight[0].numel())
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            init.uniform_(parameter, -bound, bound)


def channels_last_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution over one to three axes: [R, T, C] to [R, T', C'], [R, h, w, C] to [R, h', w', C'], and so on.

    A 1-D convolution runs as a 2-D one over a single row, since only those have kernels for this layout.

    Example:
        >>> import torch
        >>> channels_last_conv(nn.Conv1d(8, 4, 3, padding=1), torch.randn(2, 10, 8)).shape
        torch.Size([2, 10, 4])
    """
    # To torch, [R, C, h, w] with channels last in memory is the usual shape with unusual strides: `permute` makes it
    # without a copy, and its kernels for that layout give the result in the same.
    if isinstance(conv, nn.Conv2d):
        return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    if isinstance(conv, nn.Conv3d):
        return conv(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    assert isinstance(conv, nn.Conv1d)
    y = F.conv2d(
        x.unsqueeze(1).permute(0, 3, 1, 2),  # [R, C, 1, T], a view in channels_last
        conv.weight.unsqueeze(2),  # [C', C / groups, 1, kernel]
        conv.bias,
        stride=(1, conv.stride[0]),
        padding=(0, int(conv.padding[0])),
        groups=conv.groups,
    )
    return y.permute(0, 2, 3, 1).squeeze(1)
