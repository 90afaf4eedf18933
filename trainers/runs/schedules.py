"""Learning-rate schedules that transformers doesn't have, and the stages of one whose end need not be known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.trainer_utils import SchedulerType

TRI_STAGE_START = 0.01  # of the peak, as in the published recipes


def tri_stage(num_steps: int, ratios: Sequence[float], end: float = 0.01) -> Callable[[int], float]:
    """The schedule of the speech recipes: linear warm-up, a plateau, exponential decay.

    Args:
        num_steps: optimizer steps of the run.
        ratios: shares of the three stages, together 1.
        end: the last factor; above 0.

    Returns:
        The factor of the peak learning rate after so many finished steps, from .01 to 1 to `end`.

    Raises:
        ValueError: not three shares that add up to 1, or an `end` outside of (0, 1].

    Example:
        >>> factor = tri_stage(100, (0.1, 0.5, 0.4))
        >>> [round(factor(step), 3) for step in (0, 5, 10, 60, 80, 100)]
        [0.01, 0.505, 1.0, 1.0, 0.1, 0.01]
    """
    if len(ratios) != 3 or min(ratios) < 0 or not math.isclose(sum(ratios), 1.0):
        raise ValueError(f"tri_stage is {list(ratios)}, but must be three shares, not negative, that add up to 1")
    if not 0 < end <= 1:
        raise ValueError(f"tri_stage_end is {end}, but must be above 0 and at most 1")
    warmup, hold, decay = (int(num_steps * ratio) for ratio in ratios)

    def factor(step: int) -> float:
        if step < warmup:
            return TRI_STAGE_START + (1 - TRI_STAGE_START) * step / warmup
        if step < warmup + hold:
            return 1.0
        done = (step - warmup - hold) / decay if decay else 1.0
        return end ** min(1.0, done)

    return factor


@dataclass(frozen=True)
class Stages:
    """Stages of transformers' `warmup_stable_decay`: what comes before the last `decay` of `total` steps needs no end.

    Attributes:
        decay: optimizer steps of the last stage.
        total: of the run.
    """

    decay: int
    total: int

    @property
    def stable_end(self) -> int:
        """The last step of the stable stage."""
        return self.total - self.decay


def has_stages(args: Any) -> bool:
    """Whether a run's arguments ask for `warmup_stable_decay`."""
    return args.tri_stage is None and args.lr_scheduler_type == SchedulerType.WARMUP_STABLE_DECAY


def stages_of(args: Any, max_steps: int) -> Stages | None:
    """The stages of a run of `max_steps`; None for other schedules."""
    return Stages(args.lr_scheduler_kwargs["num_decay_steps"], max_steps) if has_stages(args) else None


def check_stages(args: Any) -> None:
    """Require stages that are counted in steps and fit into the run, so that a longer one begins in the same way.

    Raises:
        ValueError: no `num_decay_steps`, a warm-up that is a share of the run, or no step left between the two.
    """
    given = args.lr_scheduler_kwargs or {}
    decay, warmup = given.get("num_decay_steps"), args.warmup_steps
    if not isinstance(decay, int) or decay < 1 or "num_stable_steps" in given:
        raise ValueError(
            f"--lr_scheduler_type is warmup_stable_decay with --lr_scheduler_kwargs {given}: give the steps of the "
            """last stage, '{"num_decay_steps": 1000}', and no num_stable_steps, which are the rest of max_steps"""
        )
    if 0 < warmup < 1:
        raise ValueError(
            f"--warmup_steps is {warmup:g}, a share of the run, but with warmup_stable_decay longer runs begin in the "
            "same way: give a number of steps"
        )
    if 0 < args.max_steps < warmup + decay:
        raise ValueError(
            f"--max_steps is {args.max_steps}, but the warm-up takes {warmup:g} steps and the decay {decay}: raise "
            "max_steps, or lower warmup_steps or num_decay_steps"
        )


def check_stage(checkpoint: Path, step: int, before: Stages | None, now: Stages | None) -> None:
    """Require that a run of other stages can go on from a checkpoint as if it had begun with them.

    Args:
        checkpoint: the folder.
        step: that it was saved at.
        before, now: stages of the run that saved it and of the one that goes on; None for other schedules.

    Raises:
        ValueError: the learning rate has begun to fall in one of the two, and so differs.
    """
    if before is None or now is None or before == now:
        return
    if step > before.stable_end:
        stable = checkpoint.with_name(f"checkpoint-{before.stable_end}")
        kept = f"from {stable}" if stable.exists() else f"from a checkpoint of at most {before.stable_end} steps"
        raise ValueError(
            f"{checkpoint} is in the decay of a run of {before.total:,} steps, whose learning rate falls from step "
            f"{before.stable_end:,} on, so a run of {now.total:,} steps can't go on from it: go on {kept}, with "
            "--resume_from_checkpoint and another --output_dir, or finish this one with its own max_steps"
        )
    if step > now.stable_end:
        raise ValueError(
            f"{checkpoint} has {step:,} steps, but a run of {now.total:,} would have begun its decay of {now.decay:,} "
            f"before: take --max_steps {step + now.decay} or more"
        )
