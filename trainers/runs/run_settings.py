"""Settings of a run that a resumed one can't change, and the time it took: kept in each of its checkpoints."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from .checkpoints import read_state
from .fingerprint import fingerprint
from .schedules import Stages, check_stage

# Arguments that decide about the order of the data, or about what the optimizer's state holds.
COMPARED_ARGUMENTS = (
    *("seed", "data_seed", "max_batch_length", "dataloader_drop_last", "mixing", "weighted_draw"),
    *("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "layer_decay", "freeze", "head_only_steps"),
)


class RunSettings(TrainerCallback, ExportableState):
    """Entry of a run in `trainer_state.json`: its settings and its time.

    Attributes:
        settings: values by name.
        stages: of a run with `warmup_stable_decay`; None for other schedules.
        seconds: how long the run took up to the checkpoint that it goes on from.
    """

    def __init__(self, settings: dict[str, Any], stages: Stages | None = None) -> None:
        self.settings, self.stages = settings, stages
        self.seconds, self._began = 0.0, time.perf_counter()

    def state(self) -> dict[str, Any]:
        kept: dict[str, Any] = {"seconds": self.seconds + time.perf_counter() - self._began}
        if self.stages:
            kept["stages"] = asdict(self.stages)
        return {"args": self.settings, "attributes": kept}

    def go_on_from(self, kept: dict[str, Any]) -> None:
        """Add the time of an earlier part of the run, from its entry."""
        self.seconds = kept.get("attributes", {}).get("seconds", 0.0)


def settings_of_run(args: Any, dataset: Any) -> dict[str, Any]:
    """Settings of a run that begins now, by name.

    Args:
        args: of the run.
        dataset: that it trains on.
    """
    settings = {name: getattr(args, name, None) for name in COMPARED_ARGUMENTS}
    settings["optim"] = getattr(args.optim, "value", args.optim)
    settings["global_batch"] = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    try:
        settings["samples"] = len(dataset)
    except TypeError:  # a stream
        settings["samples"] = None
    settings["data_fingerprint"] = fingerprint(dataset)
    return settings


def settings_of(checkpoint: Path) -> dict[str, Any]:
    """The settings that a checkpoint keeps; none of an older one."""
    return _kept(read_state(checkpoint)).get("args", {})


def require_stage(checkpoint: Path, now: Stages | None) -> None:
    """Require that a run of these stages can go on from a checkpoint (`check_stage`)."""
    state = read_state(checkpoint)
    before = _kept(state).get("attributes", {}).get("stages")
    check_stage(checkpoint, state["global_step"], Stages(**before) if before else None, now)


def _kept(state: dict[str, Any]) -> dict[str, Any]:
    return state.get("stateful_callbacks", {}).get(RunSettings.__name__, {})
