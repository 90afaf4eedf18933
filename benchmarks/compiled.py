"""A step compiled by inductor beside an eager one, on a CPU: time, what compiling takes, losses, graphs.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/compiled.py            # all six shapes; a C++ compiler
    OMP_NUM_THREADS=1 python benchmarks/compiled.py --shapes "1.0 text" --batch-size 2

Shapes are those of `side_by_side.py`, with one sample a batch, so that it ends in minutes; forward and backward, fp32,
published dropouts. Both take turns; medians of CPU time.
Each shape has a process of its own, which is ended after `--limit` seconds. Markdown.
"""

import argparse
import copy
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from side_by_side import SHAPES
from step import LENGTH, samples, timed
from torch._dynamo.utils import counters

from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.trainers.modalities.names import mask_collator


def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    loss = model(**batch).loss
    loss.backward()
    return loss.detach()


def row(shape: str, batch_size: int, turns: int) -> str:
    """A line of the table."""
    config, kind = SHAPES[shape], shape.split()[1]
    torch.manual_seed(0)
    batch = mask_collator(config)(samples(kind, config, batch_size, LENGTH[kind], 0.0))
    plain = pretraining_class(config.model_type)(config).train()
    compiled = torch.compile(copy.deepcopy(plain))
    loss_of(plain, batch)
    start = time.perf_counter()
    loss_of(compiled, batch)
    took = time.perf_counter() - start
    pairs = [(timed(lambda: loss_of(plain, batch)), timed(lambda: loss_of(compiled, batch))) for _ in range(turns)]
    slow, fast = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    graphs, breaks = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
    return f"| {shape} | {1e3 * slow:.0f} | {1e3 * fast:.0f} | {slow / fast:.2f} | {took:.0f} | {graphs} | {breaks} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--limit", type=int, default=900, help="seconds for a shape")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(row(options.shapes[0], options.batch_size, options.turns))
        return
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}, batch {options.batch_size}\n")
    print("| shape | eager, ms | compiled, ms | ratio | compiled in, s | graphs | breaks |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for shape in options.shapes:
        size = ["--batch-size", str(options.batch_size), "--turns", str(options.turns)]
        try:
            alone = [sys.executable, __file__, "--alone", "--shapes", shape, *size]
            done = subprocess.run(alone, capture_output=True, text=True, timeout=options.limit, check=False)
            last = (done.stdout or done.stderr).strip().splitlines()[-1]
            print(last if not done.returncode else f"| {shape} | failed: {last} | | | | | |", flush=True)
        except subprocess.TimeoutExpired:
            print(f"| {shape} | not compiled in {options.limit} s | | | | | |", flush=True)


if __name__ == "__main__":
    main()
