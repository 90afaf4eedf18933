"""transformers' Trainer whose resumed runs end as if they had never stopped, also those that had only to be closed."""

import math
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from transformers.utils import logging

from ..hub.background_push import HubTrainer
from ..logging import errors_only
from .checkpoints import check_files, check_same_model, check_same_run, last_checkpoint, loading, read_state
from .fingerprint import fingerprint
from .run_plan import RunPlan, run_plan

logger = logging.get_logger(__name__)


class RunSettings(TrainerCallback, ExportableState):
    """What `trainer_state.json` keeps of a run: settings, to be compared when it is resumed, and its time.

    Attributes:
        settings: values by name.
        seconds: that the run took up to the checkpoint that it goes on from.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings, self.seconds, self._began = settings, 0.0, time.perf_counter()

    def state(self) -> dict[str, Any]:
        return {"args": self.settings, "attributes": {"seconds": self.seconds + time.perf_counter() - self._began}}


class ResumingTrainer(HubTrainer):
    """`HubTrainer` with a plan of what it trains, and with all that a resumed run needs.

    A run whose checkpoint is its end (all steps made, collapsed, out of patience) is not trained on: transformers would
    take one more step before it looks. Steps between logs, saves and evaluations are those of the arguments,
    not those of the checkpoint. The best checkpoint is looked for in the folder of the run, wherever that now lies; of
    equal figures, the one with the lower loss is the best.
    """

    _resumed: Path | None = None  # the checkpoint that this run goes on from
    _kept: RunSettings

    def plan(self) -> RunPlan:
        """How much there is to train.

        Raises:
            ValueError: nothing.
        """
        return run_plan(self)

    def checkpoint_of(self, resume: str | bool | None) -> str | None:
        """The checkpoint to go on from, which must be whole and of this run; `train` takes it.

        Args:
            resume: a folder, or True for the last one of `args.output_dir`, which need not have any.

        Raises:
            ValueError: a file is damaged, or it is another run's.
        """
        if not resume:
            return None
        if not isinstance(resume, bool):
            checkpoint = Path(resume)
        else:
            found = last_checkpoint(Path(self.args.output_dir))
            if found is None:
                self._say(f"There is no checkpoint in {self.args.output_dir} to go on from: the run starts anew.")
                return None
            checkpoint = found
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):  # which save in ways of their own
            check_files(checkpoint)
        check_same_model(checkpoint, self.accelerator.unwrap_model(self.model))
        kept = read_state(checkpoint).get("stateful_callbacks", {}).get(RunSettings.__name__, {})
        check_same_run(checkpoint, kept.get("args", {}), self._settings())
        return str(checkpoint)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train; `resume_from_checkpoint=True` goes on from the last complete checkpoint, if there is one.

        Raises:
            ValueError: there is nothing to train on, the checkpoint is damaged or of another run, or the data ended
                before the run did.
        """
        self.plan()
        checkpoint = self.checkpoint_of(resume_from_checkpoint)
        self._resumed = Path(checkpoint) if checkpoint else None
        self.remove_callback(RunSettings)  # of an earlier call
        self._kept = RunSettings(**self._settings())
        self.add_callback(self._kept)
        result = super().train(resume_from_checkpoint=checkpoint, **kwargs)
        made, wanted = self.state.global_step, self.state.max_steps
        if not made or (made < wanted and not self.control.should_training_stop):
            raise ValueError(f"the run ended after {made} of {wanted} steps: the data hold fewer samples than they say")
        return result

    def has_stopped(self) -> bool:
        """Whether the checkpoint that the run goes on from is of one that stopped before its last step."""
        return False

    def _settings(self) -> dict[str, Any]:
        """What a resumed run can't change: the order of the data, and what the optimizer's state holds."""
        args, dataset = self.args, self.train_dataset
        names = [
            *("seed", "data_seed", "max_batch_length", "dataloader_drop_last", "mixing"),
            *("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "layer_decay", "freeze", "head_only_steps"),
        ]
        settings = {name: getattr(args, name, None) for name in names}
        settings["optim"] = getattr(args.optim, "value", args.optim)
        settings["global_batch"] = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        try:
            settings["samples"] = len(dataset)
        except TypeError:  # a stream
            settings["samples"] = None
        settings["data_fingerprint"] = self._fingerprint
        return settings

    @cached_property
    def _fingerprint(self) -> str | None:
        return fingerprint(self.train_dataset)

    def _say(self, message: str) -> None:
        if self.is_world_process_zero():
            logger.warning(message)

    # ---- where a resumed run begins and ends ----

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with loading(Path(resume_from_checkpoint), "the weights"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with loading(Path(checkpoint or ""), "optimizer.pt or scheduler.pt"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with loading(Path(checkpoint or ""), "rng_state.pth"):
            super()._load_rng_state(checkpoint)

    def _init_training_state(self, max_steps: int, *arguments: Any, **kwargs: Any) -> tuple[int, int]:
        # It warns of a folder that has moved and of other steps between saves; both are put right here.
        with errors_only("transformers.trainer", "transformers.trainer_utils"):
            progress = super()._init_training_state(max_steps, *arguments, **kwargs)
        if self._resumed is not None:
            self.state.compute_steps(self.args, max_steps)
            kept = self.state.stateful_callbacks.get(RunSettings.__name__, {})
            self._kept.seconds = kept.get("attributes", {}).get("seconds", 0.0)
            for callback in [*self.callback_handler.callbacks, self.control]:
                if isinstance(callback, ExportableState):  # a save expects an entry for each
                    self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())
            self._find_best_checkpoint(self._resumed)
        return progress

    def _is_done(self) -> bool:
        begins = self._resumed is not None and self.state.global_step == self._initial_global_step
        return begins and (self.state.global_step >= self.state.max_steps or self.has_stopped())

    def _run_epoch(self, *arguments: Any, **kwargs: Any) -> None:
        if self._is_done():
            self.control.should_training_stop = True
            return
        before = self.state.global_step
        super()._run_epoch(*arguments, **kwargs)
        if self._resumed is None and self.state.global_step == before:
            raise ValueError("an epoch of the data has no step in it: they are empty, or fewer than a step takes")

    def _finalize_training(self, *arguments: Any, **kwargs: Any) -> Any:
        if self._resumed is not None and self.state.global_step == self._initial_global_step:
            self._say(f"{self._resumed} is the end of the run: nothing is trained, only what was left to do is done.")
            self._load_rng_state(str(self._resumed))
        return super()._finalize_training(*arguments, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As `Trainer`'s; the time of training is that of the whole run."""
        if "train_runtime" in logs:
            logs["train_runtime"] += self._kept.seconds
        super().log(logs, start_time)

    # ---- the best checkpoint ----

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """As `Trainer`'s; of equal figures, the one with the lower loss is the better."""
        best = self.state.best_global_step
        if super()._determine_best_metric(metrics, trial):
            return True
        name = self._name_of_metric()
        if not best or name is None or metrics.get(name) != self.state.best_metric:
            return False
        earlier = [entry for entry in self.state.log_history if entry.get("step") == best and "eval_loss" in entry]
        if not earlier or not _loss(metrics) < _loss(earlier[-1]):
            return False
        self.state.best_global_step = self.state.global_step
        return True

    def _name_of_metric(self) -> str | None:
        name = self.args.metric_for_best_model
        return name if name is None or name.startswith("eval_") else f"eval_{name}"

    def _find_best_checkpoint(self, resumed: Path) -> None:
        """Take the best checkpoint from the run's folder, or if it is lost, the best of those that are there."""
        state, output = self.state, Path(self.args.output_dir)
        if not state.best_global_step:
            return
        there = _checkpoints(resumed.parent) | _checkpoints(output)
        lost = state.best_global_step
        if lost not in there:
            name, sign = self._name_of_metric() or "", 1 if self.args.greater_is_better else -1
            left = [entry for entry in state.log_history if entry.get("step") in there and name in entry]
            left = [entry for entry in left if not math.isnan(entry[name])]
            best: dict[str, Any] = max(left, key=lambda entry: (sign * entry[name], -_loss(entry)), default={})
            state.best_global_step, state.best_metric = best.get("step"), best.get(name)
            instead = (
                f"checkpoint-{best['step']} is the best that is left" if best else "the next evaluation is the best"
            )
            self._say(f"checkpoint-{lost}, the best one so far, is not in {output} any more: {instead}.")
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
