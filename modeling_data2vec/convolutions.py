"""Convolutions with channels last, and their initial weights as PyTorch has them."""

import math
from collections.abc import Sequence

import torch
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


def strided_conv(conv: nn.Conv1d, x: Tensor, order: Sequence[int] | None = None) -> Tensor:
    """A convolution without padding and groups as a sum of matrix products, one for each kernel position.

    For few, wide and strided layers, such as those over a waveform, this takes half the time on a CPU.

    Args:
        conv: neither padded nor grouped nor dilated.
        x: [B, T, C].
        order: of the kernel's positions, in which their products are added up; default: from first to last.

    Returns:
        [B, (T - kernel) // stride + 1, C'].

    Example:
        >>> strided_conv(nn.Conv1d(1, 4, 10, stride=5), torch.randn(2, 400, 1)).shape
        torch.Size([2, 79, 4])
    """
    (kernel,), (stride,) = conv.kernel_size, conv.stride
    # One input channel: the windows are a view of the waveform, and one product does all.
    if x.shape[2] == 1:
        windows = x.squeeze(2).unfold(1, kernel, stride)  # [B, T', kernel]
        return F.linear(windows, conv.weight.squeeze(1), conv.bias)
    # Otherwise output t is the sum over k of x[t * stride + k] W_k: one product [B, T', C] x [C, C'] for each k, which
    # reads x with a step and copies no windows.
    steps = (x.shape[1] - kernel) // stride + 1  # T'
    first, *others = order or range(kernel)
    y = F.linear(_every(x, first, stride, steps), conv.weight[:, :, first], conv.bias)
    for i in others:
        y += F.linear(_every(x, i, stride, steps), conv.weight[:, :, i])
    return y


def _every(x: Tensor, first: int, stride: int, count: int) -> Tensor:
    """The positions `first`, `first + stride` and so on, `count` of them: [B, T, C] to [B, count, C]."""
    if torch.compiler.is_compiling():
        # A compiled product asks how its input lies in memory, which depends on whether T is even: it would be compiled
        # for one length after the other. Of a copy it is known, and the copy becomes part of other kernels.
        return x[:, first::stride].narrow(1, 0, count).contiguous()
    return x[:, first : first + (count - 1) * stride + 1 : stride]
