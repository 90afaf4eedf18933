"""Dropout and attention with it, forward and backward: torch's own beside this package's, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/dropout.py

Shapes are those of a small text 2.0 model, 8 masks of 8 texts of 256 and 512 tokens, of which the student sees 149 and
297 positions. Both take turns; times are medians of CPU time, memory is what autograd keeps beside the inputs.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from step import timed
from torch import Tensor

from modeling_data2vec.attention import dropped_attention
from modeling_data2vec.dropout import dropout

Sides = dict[str, Callable[..., Tensor]]
RATE, HEADS, DIM = 0.1, 4, 64


def torch_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, dropout_p=RATE).transpose(1, 2)


def our_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return dropped_attention(query, key, value, None, DIM**-0.5, RATE)


def run_into(results: list[Tensor], run: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    results.append(run(*inputs))


def measured(sides: Sides, inputs: list[Tensor], repetitions: int) -> dict[str, tuple[float, float, int]]:
    """Seconds forward and backward, and bytes kept beside the inputs, of each side."""
    seconds: dict[str, list] = {name: [] for name in sides}
    kept: dict[str, int] = {}
    own = {x.data_ptr() for x in inputs}
    for turn in range(repetitions + 1):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            sizes: dict[int, int] = {}

            def keep(x: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
                sizes[x.data_ptr()] = x.untyped_storage().nbytes()
                return x

            results: list[Tensor] = []
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
                forward = timed(partial(run_into, results, sides[name], inputs))
            backward = timed(partial(torch.autograd.grad, results[0], inputs, torch.ones_like(results[0])))
            seconds[name].append((forward, backward))
            kept[name] = sum(size for place, size in sizes.items() if place not in own)
    return {
        name: (*(statistics.median(run[i] for run in runs[1:]) for i in (0, 1)), kept[name])
        for name, runs in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rows", type=int, default=64)
    options = parser.parse_args()
    print("| | | forward, ms | backward | kept |\n|---|---|---:|---:|---:|")
    cases: list[tuple[str, Sides, list[Tensor]]] = []
    for width in (256, 1024):
        x = torch.randn(options.rows, 149, width, requires_grad=True)
        sides: Sides = {"torch": lambda x: F.dropout(x, RATE), "ours": lambda x: dropout(x, RATE, True)}
        cases.append((f"dropout of [{options.rows}, 149, {width}]", sides, [x]))
    for length in (149, 297):
        inputs = [torch.randn(options.rows, HEADS, length, DIM, requires_grad=True) for _ in range(3)]
        sides = {"torch": torch_attention, "ours": our_attention}
        cases.append((f"attention, {options.rows} rows, {length} positions", sides, inputs))
    for title, sides, inputs in cases:
        for name, (forward, backward, kept) in measured(sides, inputs, options.repetitions).items():
            print(
                f"| {title} | {name} | {1e3 * forward:.1f} | {1e3 * backward:.1f} | {kept / 2**20:.1f} MiB |",
                flush=True,
            )
            title = ""


if __name__ == "__main__":
    main()
