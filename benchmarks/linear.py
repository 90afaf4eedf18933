"""Linear layers of the package beside torch's, on a CPU: billions of floating-point operations per CPU second.

    OMP_NUM_THREADS=1 python benchmarks/linear.py

On an AMD processor with AVX-512 the package's are convolutions (`modeling_data2vec/linear.py`); elsewhere both columns
are the same function. Forward and backward, best of many turns; Markdown.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from step import timed

from modeling_data2vec.linear import MKL_IS_SLOW, linear

SHAPES = [(256, 256, 256), (512, 256, 256), (2048, 192, 768), (2048, 256, 1024), (2048, 768, 3072), (16_384, 512, 512)]


def rates(rows: int, wide: int, narrow: int, turns: int = 20) -> dict[Callable, tuple[float, float]]:
    """Rates of forward and backward of both functions, in turns."""
    x, weight = torch.randn(rows, wide, requires_grad=True), torch.randn(narrow, wide, requires_grad=True)
    bias, gradient = torch.randn(narrow, requires_grad=True), torch.randn(rows, narrow)
    best = {F.linear: [torch.inf, torch.inf], linear: [torch.inf, torch.inf]}
    for _ in range(turns):
        for function, seconds in best.items():
            outputs = []
            seconds[0] = min(seconds[0], timed(lambda: outputs.append(function(x, weight, bias))))  # noqa: B023
            seconds[1] = min(seconds[1], timed(lambda: outputs[0].backward(gradient)))  # noqa: B023
    operations = 2e-9 * rows * wide * narrow
    return {function: (operations / forward, 2 * operations / back) for function, (forward, back) in best.items()}


def main() -> None:
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}, by convolution: {MKL_IS_SLOW}\n")
    print("| rows, input, output | torch, forward | ours | torch, backward | ours |\n|---|---:|---:|---:|---:|")
    for shape in SHAPES:
        (forward, back), (our_forward, our_back) = rates(*shape).values()
        print(f"| {', '.join(map(str, shape))} | {forward:.0f} | {our_forward:.0f} | {back:.0f} | {our_back:.0f} |")


if __name__ == "__main__":
    main()
