"""The student's last block of 1.0 of text everywhere, or its queries and feed-forward at hidden positions alone.

    OMP_NUM_THREADS=1 python benchmarks/last_block.py

The shape "1.0 text" of `side_by_side.py` (8 x 256 tokens, 6 blocks of width 256) without dropout: the block forward and
backward both ways, in turns, and a whole step; medians of CPU time. Both ways give the same numbers, which is checked.
The package computes the block everywhere (docs/performance.md says why). Markdown.
"""

import statistics

import torch
import torch.nn.functional as F
from side_by_side import SHAPES, sides
from step import timed
from torch import Tensor
from transformers import Data2VecTextModel

from modeling_data2vec.linear import own_linear

ROWS, LENGTH, TURNS = 8, 256, 15
HIDDEN = 82  # positions of a row: what the published masks hide, 32 % of 256


def at_hidden(layer, x: Tensor, ids: Tensor) -> Tensor:
    """The block at some positions: x [R, T, D] and int64 [R, N] to [R, N, D]."""
    attention = layer.attention.self
    queries = x.gather(1, ids[..., None].expand(-1, -1, x.shape[2]))  # [R, N, D]
    projected = attention.query(queries), attention.key(x), attention.value(x)
    query, key, value = (y.unflatten(2, (-1, attention.attention_head_size)).transpose(1, 2) for y in projected)
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return layer.feed_forward_chunk(layer.attention.output(attended, queries))


def main() -> None:
    torch.manual_seed(0)
    config = SHAPES["1.0 text"]
    layer = Data2VecTextModel(config).eval().encoder.layer[-1]
    ids = torch.rand(ROWS, LENGTH).argsort(1)[:, :HIDDEN].sort(1).values
    data = torch.randn(ROWS, LENGTH, config.hidden_size)
    found: dict[str, Tensor] = {}

    def run(way: str) -> None:
        x = data.clone().requires_grad_()
        with own_linear():
            y = at_hidden(layer, x, ids) if way == "hidden" else layer(x)
        y = y if way == "hidden" else y.gather(1, ids[..., None].expand(-1, -1, y.shape[2]))
        y.square().sum().backward()
        found[way] = x.grad  # type: ignore[assignment]

    step = sides("1.0 text", ROWS)["ours"]
    seconds: dict[str, list[float]] = {"everywhere": [], "hidden": [], "step": []}
    for turn in range(TURNS + 1):
        for way in list(seconds)[:: 1 if turn % 2 else -1]:
            seconds[way].append(timed(step if way == "step" else lambda way=way: run(way)))  # type: ignore[misc]
    torch.testing.assert_close(found["hidden"], found["everywhere"], rtol=1e-4, atol=1e-4)
    whole, part, all_of_it = (1e3 * statistics.median(seconds[way][1:]) for way in seconds)
    print("| block everywhere, ms | at hidden positions, ms | a step, ms | saved of it |\n|---:|---:|---:|---:|")
    print(f"| {whole:.0f} | {part:.0f} | {all_of_it:.0f} | {(whole - part) / all_of_it:.1%} |")


if __name__ == "__main__":
    main()
