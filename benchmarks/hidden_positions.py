"""The text decoder's last convolution everywhere, or at hidden positions alone, by windows that are gathered.

    OMP_NUM_THREADS=1 python benchmarks/hidden_positions.py

32 rows of 256 positions, 256 channels, kernel 9; convolution, norm and GELU, forward and backward, best of 5, CPU time.
The package computes it everywhere (docs/performance.md says why). Markdown.
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling_data2vec.convolutions import channels_last_conv
from modeling_data2vec.linear import linear

ROWS, LENGTH, WIDTH, KERNEL = 32, 256, 256, 9


def at_hidden(conv: nn.Conv1d, x: Tensor, ids: Tensor) -> Tensor:
    """The convolution at some of all positions: ids [N] in [0, R * T) to [N, D]."""
    border = KERNEL // 2
    padded = F.pad(x, (0, 0, border, border)).flatten(0, 1)
    first = ids // LENGTH * (LENGTH + 2 * border) + ids % LENGTH
    windows = padded.index_select(0, (first[:, None] + torch.arange(KERNEL)).flatten()).view(len(ids), -1)
    return linear(windows, conv.weight.transpose(1, 2).flatten(1), conv.bias)


def seconds(conv: nn.Conv1d, ids: Tensor | None) -> float:
    x = torch.randn(ROWS, LENGTH, WIDTH, requires_grad=True)
    start = time.process_time()
    y = channels_last_conv(conv, x) if ids is None else at_hidden(conv, x, ids)
    F.gelu(F.layer_norm(y, (WIDTH,))).sum().backward()
    return time.process_time() - start


def main() -> None:
    conv = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2)
    print("| hidden | everywhere, ms | at hidden positions, ms |\n|---:|---:|---:|")
    for share in (0.3, 0.5, 0.8):
        ids = torch.randperm(ROWS * LENGTH)[: int(share * ROWS * LENGTH)].sort().values
        best = [min(1e3 * seconds(conv, where) for _ in range(5)) for where in (None, ids)]
        print(f"| {share:.0%} | {best[0]:.0f} | {best[1]:.0f} |")


if __name__ == "__main__":
    main()
