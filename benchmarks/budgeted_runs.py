"""What the learning benchmarks share: runs of so much CPU time, each in a process of its own, and their spread."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM_STEPS = 5  # of a run that is timed for all but its steps: to start, to end
TIMED_STEPS = 45  # of a run that is timed to compute the number of steps


def seconds_per_step(make_trainer: Callable[[int], Any], clock: Callable[[], float] = time.process_time) -> float:
    """What an optimizer step costs, without a run's start and end.

    Args:
        make_trainer: makes a trainer of a number of steps.
        clock: of CPU time (user + system), or with `time.monotonic` of time that passes.
    """

    def taken(steps: int) -> float:
        start = clock()
        make_trainer(steps).train()
        return clock() - start

    taken(WARM_STEPS)  # caches fill
    fixed, whole = taken(WARM_STEPS), taken(TIMED_STEPS)
    return (whole - fixed) / (TIMED_STEPS - WARM_STEPS)


def steps_within(
    seconds: float, make_trainer: Callable[[int], Any], clock: Callable[[], float] = time.process_time
) -> int:
    """How many optimizer steps a budget of `seconds` is enough for; the other arguments are `seconds_per_step`'s."""
    return int(seconds / seconds_per_step(make_trainer, clock))


def stable_then_decay(steps: int) -> dict:
    """Training arguments of a rate that stays what it is, and falls as 1 - sqrt in the last fifth of `steps`."""
    shape = {"num_decay_steps": max(1, steps // 5), "decay_type": "1-sqrt"}
    return {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": shape}


def run_apart(*argv: str, **environment: str) -> dict:
    """Run the calling script again, on one thread, with other arguments; its last line is the result, as JSON."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | environment
    command = [sys.executable, sys.argv[0], *argv]
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def resident_memory(name: str) -> int:
    """Bytes of this process now ("VmRSS") or at its peak ("VmHWM"); `ru_maxrss` would start at the parent's peak."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


def peak_memory() -> float:
    """The most memory that this process has held, in MiB."""
    return resident_memory("VmHWM") / 2**20


def summary(scores: list[float]) -> str:
    """Mean and, of several, standard deviation.

    Example:
        >>> summary([0.25, 0.5])
        '0.375 ± 0.177'
    """
    return f"{statistics.mean(scores):.3f}" + (f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else "")


def each(scores: list[float]) -> str:
    """All scores, in order."""
    return ", ".join(f"{score:.3f}" for score in scores)
