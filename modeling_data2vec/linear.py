"""Linear layers that run at full speed on AMD's processors, too.

On a CPU, torch multiplies fp32 matrices by Intel's MKL, which leaves the wide registers (AVX-512) of AMD's processors
unused. oneDNN, which torch has for convolutions, takes half the time there. A linear layer is a convolution with a
kernel of one position, so no more than torch is needed; results differ by rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

# Below these, preparing a convolution takes longer than the product: of short inputs, and of few multiplications.
MIN_ROWS = 384
MIN_MULTIPLICATIONS = 2**23


def mkl_is_slow() -> bool:
    """Whether this is a processor of AMD with AVX-512, and torch has both libraries; only Linux says so."""
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    if not libraries or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


MKL_IS_SLOW = mkl_is_slow()


def by_convolution(x: Tensor, weight: Tensor) -> bool:
    """Whether `linear` is to run as a convolution: in fp32 on such a processor, for large products."""
    if not MKL_IS_SLOW or x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    plain = x.dtype == weight.dtype == torch.float32 and type(weight) in (Tensor, nn.Parameter)
    rows = x.numel() // max(1, x.shape[-1])
    large = rows >= MIN_ROWS and rows * weight.numel() >= MIN_MULTIPLICATIONS
    return plain and large and not torch.is_autocast_enabled("cpu")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What `F.linear` computes: x [..., D], weight [D', D] and bias [D'] to [..., D'].

    Example:
        >>> linear(torch.ones(2, 3, 4), torch.ones(5, 4)).shape
        torch.Size([2, 3, 5])
    """
    if not by_convolution(x, weight):
        return F.linear(x, weight, bias)
    image = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # [1, D, 1, N], a view with channels last
    # With one thread, torch gives a single image to oneDNN only if the kernel is dilated, which means nothing for one
    # position.
    y = F.conv2d(image, weight[:, :, None, None], bias, dilation=2)  # [1, D', 1, N]
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient of a linear layer's weight: [..., D'] of its output and its input [..., D] to [D', D]."""
    gradient, x = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])  # [N, D'], [N, D]
    if not by_convolution(x, gradient[: x.shape[-1]]):
        return gradient.T @ x
    image, d_image = (y.view(1, 1, *y.shape).permute(0, 3, 1, 2) for y in (x, gradient))  # [1, D, 1, N], [1, D', 1, N]
    size = (gradient.shape[1], x.shape[1], 1, 1)
    return conv2d_weight(image, size, d_image, dilation=2).flatten(1)


TORCHS_FORWARD = nn.Linear.forward


def _forward(layer: nn.Linear, input: Tensor) -> Tensor:
    return linear(input, layer.weight, layer.bias)


@contextmanager
def own_linear() -> Iterator[None]:
    """Let `torch.nn.Linear` inside of the block compute by `linear`, also in transformers' models.

    Layers keep their class, since quantisation and adapters look for it. Elsewhere than on such a processor, in a
    program that is compiled, and where another library has put its own function there, it does nothing.

    Example:
        >>> with own_linear():
        ...     nn.Linear(4, 2)(torch.ones(3, 4)).shape
        torch.Size([3, 2])
    """
    if not MKL_IS_SLOW or torch.compiler.is_compiling() or nn.Linear.forward is not TORCHS_FORWARD:
        yield
        return
    nn.Linear.forward = _forward  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Linear.forward = TORCHS_FORWARD  # type: ignore[method-assign]
