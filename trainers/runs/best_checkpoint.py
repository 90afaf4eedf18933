"""The best checkpoint of a run: how ties are broken, and how it is found after the run's folder has moved."""

import math
from pathlib import Path
from typing import Any

from transformers import TrainerState
from transformers.utils import logging

logger = logging.get_logger(__name__)


def name_of_metric(args: Any) -> str | None:
    """The figure that decides, as evaluations call it: `eval_...`."""
    name = args.metric_for_best_model
    return name if name is None or name.startswith("eval_") else f"eval_{name}"


def breaks_tie(state: TrainerState, args: Any, metrics: dict[str, float]) -> bool:
    """Whether an evaluation equals the best one in the figure that decides, and has a lower loss.

    Args:
        state: with the best step so far, and the log.
        args: with `metric_for_best_model`.
        metrics: figures of the evaluation.
    """
    best, name = state.best_global_step, name_of_metric(args)
    if not best or name is None or metrics.get(name) != state.best_metric:
        return False
    earlier = [entry for entry in state.log_history if entry.get("step") == best and "eval_loss" in entry]
    return bool(earlier) and _loss(metrics) < _loss(earlier[-1])


def find_best_checkpoint(state: TrainerState, args: Any, resumed: Path) -> None:
    """Take the best checkpoint from the run's folder, or if it is lost, the best of those that are there.

    Args:
        state: is changed: it may name a folder that has moved.
        args: of the run.
        resumed: the checkpoint that the run goes on from.
    """
    output = Path(args.output_dir)
    if not state.best_global_step:
        return
    there = _checkpoints(resumed.parent) | _checkpoints(output)
    lost = state.best_global_step
    if lost not in there:
        name, sign = name_of_metric(args) or "", 1 if args.greater_is_better else -1
        left = [entry for entry in state.log_history if entry.get("step") in there and name in entry]
        left = [entry for entry in left if not math.isnan(entry[name])]
        best: dict[str, Any] = max(left, key=lambda entry: (sign * entry[name], -_loss(entry)), default={})
        state.best_global_step, state.best_metric = best.get("step"), best.get(name)
        instead = f"checkpoint-{best['step']} is the best that is left" if best else "the next evaluation is the best"
        if args.process_index == 0:
            logger.warning(f"checkpoint-{lost}, the best one so far, is not in {output} any more: {instead}.")
    best_folder = there.get(state.best_global_step)
    state.best_model_checkpoint = str(best_folder) if best_folder else None


def _checkpoints(folder: Path) -> dict[int | None, Path]:
    """The checkpoints of a folder, by step."""
    paths = {path.name.removeprefix("checkpoint-"): path for path in folder.glob("checkpoint-*") if path.is_dir()}
    return {int(step): path for step, path in paths.items() if step.isdigit()}


def _loss(figures: dict[str, float]) -> float:
    """The loss of an evaluation; NaN is the worst."""
    loss = figures.get("eval_loss", math.nan)
    return math.inf if math.isnan(loss) else loss
