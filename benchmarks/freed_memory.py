"""Steps on a CPU with memory that goes back to the system when it is freed, and with memory that stays (Linux, glibc).

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/freed_memory.py

Our steps of `side_by_side.py`, each way in processes of its own; medians of CPU time, page faults of the last step, and
the most memory that the process had. Runs keep it (`trainers/freed_memory.py`). Markdown.
"""

import argparse
import json
import resource
import statistics

from budgeted_runs import peak_memory, run_apart
from side_by_side import SHAPES, sides
from step import timed

from modeling_data2vec.trainers.freed_memory import keep_freed_memory


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(shape: str, kept: str, repetitions: int) -> dict[str, float]:
    if kept == "kept":
        keep_freed_memory()
    step = sides(shape, None)["ours"]
    seconds = [timed(step) for _ in range(repetitions + 2)][2:]
    before = faults()
    step()
    return {"seconds": statistics.median(seconds), "faults": faults() - before, "peak": peak_memory()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        shape, kept = options.alone
        return print(json.dumps(measure(shape, kept, options.repetitions)))
    print("| shape | given back, CPU s | page faults | peak | kept, CPU s | page faults | peak | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for shape in options.shapes:
        size = ("--repetitions", str(options.repetitions))
        back, kept = (run_apart("--alone", shape, how, *size) for how in ("given back", "kept"))
        cells = [f"{one['seconds']:.2f} | {one['faults']:,} | {one['peak']:.0f} MiB" for one in (back, kept)]
        print(f"| {shape} | {' | '.join(cells)} | {back['seconds'] / kept['seconds']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
