"""Convolutions over tensors whose channels come last, as transformers and norms want them.

PyTorch's own layers want channels first: each would be wrapped in two transpositions, and the norms between them run
over an axis that is not contiguous (docs/performance.md).
"""

import torch.nn.functional as F
from torch import Tensor, nn


def channels_last_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution over one or two axes: [R, T, C] to [R, T', C'], or [R, h, w, C] to [R, h', w', C'].

    A 1-D convolution runs as a 2-D one over a single row, since only those have kernels for this layout.

    Example:
        >>> import torch
        >>> channels_last_conv(nn.Conv1d(8, 4, 3, padding=1), torch.randn(2, 10, 8)).shape
        torch.Size([2, 10, 4])
    """
    if isinstance(conv, nn.Conv2d):
        return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
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


def strided_conv(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution without padding and groups as a sum of matrix products, one for each kernel position.

    For few, wide and strided layers, such as those over a waveform, this takes half the time on a CPU.

    Args:
        conv: neither padded nor grouped nor dilated.
        x: [B, T, C].

    Returns:
        [B, (T - kernel) // stride + 1, C'].

    Example:
        >>> import torch
        >>> strided_conv(nn.Conv1d(1, 4, 10, stride=5), torch.randn(2, 400, 1)).shape
        torch.Size([2, 79, 4])
    """
    (kernel,), (stride,) = conv.kernel_size, conv.stride
    if x.shape[2] == 1:
        windows = x.squeeze(2).unfold(1, kernel, stride)  # [B, T', kernel]
        return F.linear(windows, conv.weight.squeeze(1), conv.bias)
    last = (x.shape[1] - kernel) // stride * stride + 1  # where the last window begins, plus one
    y = F.linear(x[:, 0:last:stride], conv.weight[:, :, 0], conv.bias)
    for i in range(1, kernel):
        y += F.linear(x[:, i : i + last : stride], conv.weight[:, :, i])
    return y
