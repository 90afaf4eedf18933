"""Steps on a CPU with memory that goes back to the system when it is freed, and with memory that stays (Linux, glibc).

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/freed_memory.py

Our steps of `side_by_side.py`, each way in processes of its own; medians of CPU time, page faults of the last step, and
the most memory that the process had. Runs keep it (`trainers/freed_memory.py`). Markdown.
"""

import argparse
import resource
import statistics
import subprocess
import sys

from budgeted_runs import resident_memory
from side_by_side import SHAPES, sides
from step import timed

from modeling_data2vec.trainers.freed_memory import keep_freed_memory


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(shape: str, kept: str, repetitions: int) -> None:
    if kept == "kept":
        keep_freed_memory()
    step = sides(shape, None)["ours"]
    seconds = [timed(step) for _ in range(repetitions + 2)][2:]
    before = faults()
    step()
    print(statistics.median(seconds), faults() - before, resident_memory("VmHWM") / 2**20)


def alone(shape: str, kept: str, repetitions: int) -> list[float]:
    command = [sys.executable, __file__, "--repetitions", str(repetitions), "--alone", shape, kept]
    return [float(one) for one in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        return measure(*options.alone, options.repetitions)
    print("| shape | given back, CPU s | page faults | peak | kept, CPU s | page faults | peak | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for shape in options.shapes:
        back, kept = (alone(shape, how, options.repetitions) for how in ("given back", "kept"))
        both = " | ".join(f"{cpu:.2f} | {number:,.0f} | {peak:.0f} MiB" for cpu, number, peak in (back, kept))
        print(f"| {shape} | {both} | {back[0] / kept[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
