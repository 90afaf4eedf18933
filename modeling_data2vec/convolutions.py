"""Convolutions with channels last, and their initial weights as PyTorch has them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import initialization as init

from .linear import by_convolution, weight_gradient


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
        _as_image(x),  # [R, C, 1, T]
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
        if by_convolution(windows, conv.weight):
            return channels_last_conv(conv, x)
        return F.linear(windows, conv.weight.squeeze(1), conv.bias)
    order = order or range(kernel)
    special = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu")
    if x.device.type == "cpu" and not special:
        return _StridedConv.apply(x, conv.weight, conv.bias, stride, order)
    return _sum_of_products(x, conv.weight, conv.bias, stride, order)


def _sum_of_products(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, order: Sequence[int]) -> Tensor:
    """Output t is the sum over k of x[t * stride + k] W_k: a product for each k, which reads x with a step."""
    steps = (x.shape[1] - weight.shape[2]) // stride + 1  # T'
    first, *others = order
    y = F.linear(_every(x, first, stride, steps), weight[:, :, first], bias)
    for i in others:
        y += F.linear(_every(x, i, stride, steps), weight[:, :, i])
    return y


class _StridedConv(torch.autograd.Function):
    """[B, T, C], weight [C', C, kernel] and bias to [B, T', C'].

    Gradients are added up in place: one for each k that is as long as x would have to be filled with zeros first.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, order: Sequence[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        if by_convolution(x, weight[:, :, 0]):
            y = F.conv2d(_as_image(x), weight.unsqueeze(2), bias, stride=(1, stride))
            return y.permute(0, 2, 3, 1).squeeze(1)
        return _sum_of_products(x, weight, bias, stride, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        stride, kernel, steps = ctx.stride, range(weight.shape[2]), d_y.shape[1]
        d_y = d_y.contiguous()
        d_x = d_weight = None
        if ctx.needs_input_grad[0] and by_convolution(x, weight[:, :, 0]):
            given = _as_image(d_y), _as_image(x), weight.unsqueeze(2), None
            rest = [1, stride], [0, 0], [1, 1], False, [0, 0], 1, [True, False, False]
            d_x = torch.ops.aten.convolution_backward(*given, *rest)[0].permute(0, 2, 3, 1).squeeze(1)
        elif ctx.needs_input_grad[0]:
            d_x = torch.zeros_like(x)
            for i in kernel:
                its = _every(d_x, i, stride, steps)
                its += d_y @ weight[:, :, i]
        if ctx.needs_input_grad[1]:  # oneDNN's own gradient of a strided kernel takes ten times as long
            d_weight = torch.stack([weight_gradient(d_y, _every(x, i, stride, steps)) for i in kernel], dim=2)
        return d_x, d_weight, d_y.sum((0, 1)) if ctx.needs_input_grad[2] else None, None, None


def _as_image(x: Tensor) -> Tensor:
    """A sequence as an image of one row: [R, T, C] to [R, C, 1, T], a view with channels last."""
    return x.unsqueeze(1).permute(0, 3, 1, 2)


def _every(x: Tensor, first: int, stride: int, count: int) -> Tensor:
    """The positions `first`, `first + stride` and so on, `count` of them: [B, T, C] to [B, count, C]."""
    if torch.compiler.is_compiling():
        # A compiled product asks how its input lies in memory, which depends on whether T is even: it would be compiled
        # for one length after the other. Of a copy it is known, and the copy becomes part of other kernels.
        return x[:, first::stride].narrow(1, 0, count).contiguous()
    return x[:, first : first + (count - 1) * stride + 1 : stride]
