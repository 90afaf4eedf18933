"""A step of ours beside what one would otherwise run: transformers' native modules (1.0), a port of the paper (2.0).

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/side_by_side.py             # all six shapes
    OMP_NUM_THREADS=1 python benchmarks/side_by_side.py --shapes "1.0 text" --repetitions 3

A step is forward, backward and the teacher's average, with the published dropouts, in fp32. Both sides take turns in
one process, in changing order; times are medians of CPU time. The share of the floor is the floating-point operations
of our step (torch's counter on the meta device) over what a large matrix product does in that time. Memory is the peak
above what a process that runs one side holds between two steps. The other sides are in `paper_step.py`; the table is
Markdown.
"""

import argparse
import ctypes
import gc
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from budgeted_runs import resident_memory
from paper_step import NativeStep, PaperStep, move_teacher
from step import BATCH, LENGTH, SMALL, matrix_rate, samples, timed
from torch.utils.flop_counter import FlopCounterMode

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
    Data2VecAudioPreTrainingConfig,
    Data2VecTextPreTrainingConfig,
    Data2VecVisionPreTrainingConfig,
)
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.trainers.modalities.names import mask_collator

WIDE = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024}
SHAPES: dict[str, Any] = {
    "1.0 images": Data2VecVisionPreTrainingConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, average_top_k_layers=6
    ),
    "2.0 images": Data2Vec2VisionConfig(**SMALL["images"]),
    "1.0 speech": Data2VecAudioPreTrainingConfig(**WIDE, average_top_k_layers=6),
    "2.0 speech": Data2Vec2AudioConfig(**SMALL["speech"]),
    "1.0 text": Data2VecTextPreTrainingConfig(**WIDE, average_top_k_layers=6, vocab_size=10_000),
    "2.0 text": Data2Vec2TextConfig(**SMALL["text"]),
}


def sides(shape: str, batch_size: int | None, length: float | None = None) -> dict[str, Callable[[], None]]:
    """One training step of each side, on the same batch."""
    config, (version, kind) = SHAPES[shape], shape.split()
    torch.manual_seed(0)
    examples = samples(kind, config, batch_size or BATCH[kind], length or LENGTH[kind], 0.0)
    batch = mask_collator(config)(examples)
    ours = pretraining_class(config.model_type)(config).train()
    theirs = (PaperStep if version == "2.0" else NativeStep)(config, kind).train()
    given = {"inputs" if name == ours.main_input_name else name: value for name, value in batch.items()}

    def our_step() -> None:
        ours(**batch).loss.backward()
        ours.zero_grad()
        ours.update_teacher(1)

    def their_step() -> None:
        theirs(**given).backward()
        theirs.zero_grad()
        move_teacher(theirs)

    return {"ours": our_step, "theirs": their_step}


def our_flops(shape: str, batch_size: int | None, length: float | None = None) -> int:
    config, kind = SHAPES[shape], shape.split()[1]
    examples = samples(kind, config, batch_size or BATCH[kind], length or LENGTH[kind], 0.0)
    batch = mask_collator(config)(examples)
    with torch.device("meta"):  # attention is not counted there unless it is written out
        model = pretraining_class(config.model_type)._from_config(config, attn_implementation="eager").train()
    model = model.to("meta")  # transformers makes one of the weights on the CPU
    with FlopCounterMode(display=False) as counter:
        model(**{name: value.to("meta") for name, value in batch.items()}).loss.backward()
    return counter.get_total_flops()


def peak_memory(shape: str, side: str, *size: float | None) -> float:
    command = [sys.executable, __file__, "--alone", json.dumps([shape, side, *size])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def alone(shape: str, side: str, batch_size: int | None, length: float | None = None) -> None:
    step = sides(shape, batch_size, length)[side]
    step()  # what is imported on the way is no memory of a step
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else a step reuses what the first one left, and seems to need less (Linux)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of imports and of building the models (Linux)
    before = resident_memory("VmRSS")
    step()
    print((resident_memory("VmHWM") - before) / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch-size", type=int, help="samples; default 8, of speech 2")
    parser.add_argument("--length", type=float, help="pixels, seconds or tokens; default 224, 8, 256")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        return alone(*json.loads(options.alone))
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}, {options.repetitions} repetitions\n")
    print("| shape | other, CPU s | ours | ratio | share of the floor | memory, other | ours |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    ratios = []
    size = options.batch_size, options.length
    for shape in options.shapes:
        steps = sides(shape, *size)
        seconds: dict[str, list[float]] = {side: [] for side in steps}
        for turn in range(options.repetitions + 1):
            for side in list(steps)[:: 1 if turn % 2 else -1]:
                seconds[side].append(timed(steps[side]))
        ours, theirs = (statistics.median(seconds[side][1:]) for side in ("ours", "theirs"))
        share = our_flops(shape, *size) / ours / matrix_rate(False)
        memory = {side: peak_memory(shape, side, *size) for side in steps}
        ratios.append(theirs / ours)
        print(
            f"| {shape} | {theirs:.2f} | {ours:.2f} | {ratios[-1]:.2f} | {share:.0%} | "
            f"{memory['theirs']:.0f} MiB | {memory['ours']:.0f} MiB |",
            flush=True,
        )
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    print(f"| geometric mean | | | {mean:.2f} | | | |")


if __name__ == "__main__":
    main()
