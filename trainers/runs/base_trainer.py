"""transformers' Trainer with what pretraining and fine-tuning share: checks, checkpoints, resuming, signals, pushes."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import has_length
from transformers.utils import logging

from ..data.finiteness import CheckedCollator, what_diverged
from ..freed_memory import keep_freed_memory
from ..hub.background_push import BackgroundPusher
from ..hub.model_card import write_run_card
from ..hub.provenance import Provenance
from ..logging import errors_only
from ..monitoring.health import CollapseError
from .arguments import BaseTrainingArguments
from .best_checkpoint import breaks_tie, find_best_checkpoint
from .callbacks import DivergenceCallback, EpochCallback, HealthCallback, StableStageCallback
from .checkpoints import check_files, check_same_model, check_same_run, last_checkpoint, loading
from .loaders import length_loader, load_position, save_position
from .run_lock import only_run_in
from .run_plan import RunPlan, run_plan, stages_of_run
from .run_settings import RunSettings, require_stage, settings_of, settings_of_run
from .saving import new_checkpoint, new_model
from .schedules import tri_stage
from .sharding import ShardedTrainer
from .stopping import StopCallback, StoppedError
from .workers import inner_loader, no_worker_stays, with_own_workers

logger = logging.get_logger(__name__)

UNLOGGED = "unlogged.json"  # in a checkpoint


class BaseTrainer(ShardedTrainer):
    """`Trainer` whose runs are checked before they begin, end in order, go on bit for bit, and are pushed safely.

    - A checkpoint appears under its name only when it is complete, so that a killed run or a full disk leaves the last
      one loadable.
    - A resumed run equals one that never stopped. A checkpoint that is damaged, or of another run, is refused. From one
      that is its run's end (all steps made, collapsed, out of patience) no further step is made, as `Trainer` would.
    - With `push_to_hub`, token, name and disk are checked before the run begins. A push in the background that fails is
      logged at once and made up for by the next one.

    Args:
        model, args: as for `Trainer`.
        train_dataset: is told the epoch by `set_epoch`, if it has that; with `args.max_batch_length` it has `lengths`,
            the input length of each item.
        provenance: what the model card says beside what the run knows: license, base model, data, recipe, task.
        push_at_end: with `args.push_to_hub`, save and push at the end of `train`; False leaves it to the caller.
        health_callback: judges the log, and stops the run with a `diagnosis`; by default one that sees losses that are
            no numbers.

    The other arguments are `Trainer`'s.
    """

    args: BaseTrainingArguments
    stop_on_collapse = True
    train_collator: Any = None  # of training, where it isn't evaluation's `data_collator`

    def __init__(
        self,
        model: Any,
        args: BaseTrainingArguments,
        *arguments: Any,
        provenance: Provenance | None = None,
        push_at_end: bool = True,
        health_callback: HealthCallback | DivergenceCallback | None = None,
        **kwargs: Any,
    ) -> None:
        self.pusher = BackgroundPusher(args)
        if args.push_to_hub and args.process_index == 0:
            self.pusher.check(model)
        super().__init__(model, args, *arguments, **kwargs)
        if has_length(self.train_dataset) and not len(self.train_dataset):
            raise ValueError("train_dataset is empty: there is nothing to train on. Check the path and the split.")
        self.provenance = provenance or Provenance()
        self.push_at_end = push_at_end
        self._loader = self.own_loader()
        self.add_callback(EpochCallback(self.train_dataset, getattr(self._loader, "batch_sampler", None)))
        self.stop_callback = StopCallback()
        self.add_callback(self.stop_callback)
        self.add_callback(StableStageCallback())
        self.health_callback = health_callback or DivergenceCallback()
        self.add_callback(self.health_callback)
        self._resumed: Path | None = None  # the checkpoint that the run goes on from
        self._kept = RunSettings({})
        self._staging: Path | None = None  # where a checkpoint is written, while it is

    # ---- a run ----

    def plan(self) -> RunPlan:
        """Count samples, batches, steps and epochs of the run."""
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
        output = Path(self.args.output_dir)
        checkpoint = last_checkpoint(output) if isinstance(resume, bool) else Path(resume)
        if checkpoint is None:
            self._say(f"There is no checkpoint in {self.args.output_dir} to go on from: the run starts anew.")
            return None
        if not self.is_deepspeed_enabled:  # which saves in a way of its own
            check_files(checkpoint)
        check_same_model(checkpoint, self.accelerator.unwrap_model(self.model))
        check_same_run(checkpoint, settings_of(checkpoint), self._settings)
        require_stage(checkpoint, stages_of_run(self))
        return str(checkpoint)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train; `resume_from_checkpoint=True` goes on from the last complete checkpoint, if there is one.

        Raises:
            ValueError: there is nothing to train on, the checkpoint is damaged or of another run, another run writes to
                the folder, a sample holds NaN, or the data ended before the run did.
            StoppedError: a signal came; a checkpoint of the last step has been written.
            CollapseError: the run collapsed, or the loss or the weights are no numbers any more.
            PublishError: the model is saved, but could not be pushed.
        """
        folder, main = Path(self.args.output_dir), self.args.process_index == 0
        with only_run_in(folder, main), self.stop_callback.listening(), no_worker_stays():
            try:
                result = self._train(resume_from_checkpoint, **kwargs)
            except StoppedError as stopped:  # at once
                last = last_checkpoint(folder)
                stopped.said += f"; the last checkpoint is {last}" if last else "; there is no checkpoint yet"
                raise
            self._end_stopped_run()
        if self.stop_on_collapse:
            self._check_health()
        if self.args.push_to_hub and self.push_at_end:
            self.push_to_hub()
        return result

    def _train(self, resume: str | bool | None, **kwargs: Any) -> Any:
        """Train from the checkpoint, to the end or to a stop."""
        self.plan()
        checkpoint = self.checkpoint_of(resume)
        self._resumed = Path(checkpoint) if checkpoint else None
        if self._resumed:
            load_position(self._loader, self._resumed, self.args.process_index)
        self.remove_callback(RunSettings)  # of an earlier call
        self._kept = RunSettings(self._settings, stages_of_run(self))
        self.add_callback(self._kept)
        if self.args.device.type == "cpu":
            keep_freed_memory()
        result = super().train(resume_from_checkpoint=checkpoint, **kwargs)
        made, wanted = self.state.global_step, self.state.max_steps
        if not made or (made < wanted and not self.control.should_training_stop):
            raise ValueError(f"the run ended after {made} of {wanted} steps: the data hold fewer samples than they say")
        return result

    def _end_stopped_run(self) -> None:
        """Raise `StoppedError` if a signal came, also one that came after the last step."""
        if self.stop_callback.agree():
            checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            if not checkpoint.exists():
                self._save_checkpoint(self.model_wrapped, None)
            raise self.stop_callback.error(checkpoint)

    def has_stopped(self) -> bool:
        """Whether the checkpoint that the run goes on from is of one that stopped before its last step."""
        return False

    def _check_health(self) -> None:
        """Raise `CollapseError` if the log or, since the last log, loss or weights show that the run failed."""
        steps = self._globalstep_last_logged, self.state.global_step
        if reason := self.health_callback.diagnosis or what_diverged(float(self._tr_loss), *steps, self.model):
            raise CollapseError(reason)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return settings_of_run(self.args, self.train_dataset)

    def _say(self, message: str) -> None:
        if self.is_world_process_zero():
            logger.warning(message)

    # ---- batches, schedule, weight decay ----

    def own_loader(self) -> DataLoader | None:
        """A loader of training data instead of `Trainer`'s; with `max_batch_length` one of similar lengths."""
        args, collator = self.args, self.train_collator or self.data_collator
        return length_loader(self.train_dataset, args, collator) if args.max_batch_length else None

    def get_train_dataloader(self) -> DataLoader:
        """The loader of `Trainer`, or that of `own_loader`; batches with NaN in them are refused."""
        loader = super().get_train_dataloader() if self._loader is None else self._loader
        inner = inner_loader(loader)
        if not isinstance(inner.collate_fn, CheckedCollator):
            inner.collate_fn = CheckedCollator(inner.collate_fn)
        return with_own_workers(loader)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        return with_own_workers(super().get_eval_dataloader(eval_dataset))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of `Trainer`, or the three stages of `args.tri_stage`."""
        if self.args.tri_stage is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if getattr(self, "lr_scheduler", None) is None:
            factor = tri_stage(num_training_steps, self.args.tri_stage, self.args.tri_stage_end)
            self.lr_scheduler: Any = LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of parameters that decay: matrices and kernels, but no biases, norms, tokens and scales of any shape.

        The authors meant the same, but their override had no effect (docs/differences.md).
        """
        return [
            name
            for name, parameter in model.named_parameters()
            if parameter.squeeze().ndim >= 2 and not name.endswith(("extra_tokens", "bias", "alibi_scale"))
        ]

    # ---- where a resumed run begins and ends ----

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with loading(Path(resume_from_checkpoint), "the weights"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with loading(Path(checkpoint or ""), "optimizer.pt or scheduler.pt"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _init_training_state(self, max_steps: int, *arguments: Any, **kwargs: Any) -> tuple[int, int]:
        # It warns of a folder that has moved and of other steps between saves; both are put right here.
        with errors_only("transformers.trainer", "transformers.trainer_utils"):
            progress = super()._init_training_state(max_steps, *arguments, **kwargs)
        if self._resumed is not None:
            self.state.compute_steps(self.args, max_steps)
            self._kept.go_on_from(self.state.stateful_callbacks.get(RunSettings.__name__, {}))
            for callback in [*self.callback_handler.callbacks, self.control]:
                if isinstance(callback, ExportableState):  # a save expects an entry for each
                    self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())
            find_best_checkpoint(self.state, self.args, self._resumed)
        return progress

    def _begins_resumed(self) -> bool:
        """Whether a resumed run has made no step yet."""
        return self._resumed is not None and self.state.global_step == self._initial_global_step

    def _run_epoch(self, *arguments: Any, **kwargs: Any) -> None:
        before = self.state.global_step
        if self._begins_resumed() and (before >= self.state.max_steps or self.has_stopped()):
            self.control.should_training_stop = True  # `Trainer` would make a step before it looks
            return
        super()._run_epoch(*arguments, **kwargs)
        if self._resumed is None and self.state.global_step == before:
            raise ValueError("an epoch of the data has no step in it: they are empty, or fewer than a step takes")

    def _finalize_training(self, *arguments: Any, **kwargs: Any) -> Any:
        if self._begins_resumed():
            self._say(f"{self._resumed} is the end of the run: nothing is trained, only what was left to do is done.")
            self._load_rng_state(str(self._resumed))
        return super()._finalize_training(*arguments, **kwargs)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether an evaluation is the best so far; of equal figures, the one with the lower loss is the better."""
        is_best = super()._determine_best_metric(metrics, trial)
        if not is_best and breaks_tie(self.state, self.args, metrics):
            self.state.best_global_step = self.state.global_step
            return True
        return is_best

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; the time of training is that of the whole run."""
        if "train_runtime" in logs:
            logs["train_runtime"] += self._kept.seconds
        super().log(logs, start_time)

    # ---- figures of the steps since the last log, which a checkpoint keeps ----

    def unlogged(self) -> dict[str, Any]:
        """The sum of losses since the last log, a mean over processes, and the step of that log."""
        loss = self.accelerator.reduce(self._tr_loss.clone(), reduction="mean")
        return {"loss": float(loss), "last_log": self._globalstep_last_logged}

    def load_unlogged(self, state: dict[str, Any]) -> None:
        """Go on from what `unlogged` gave, so that the next log is that of a run that never stopped."""
        self._tr_loss += state["loss"]
        self._globalstep_last_logged = state["last_log"]

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        save_position(self._loader, Path(output_dir), self.args.process_index)
        state = self.unlogged()
        if self.args.should_save:
            (Path(output_dir) / UNLOGGED).write_text(json.dumps(state), encoding="utf-8")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with loading(Path(checkpoint or ""), "rng_state.pth"):
            super()._load_rng_state(checkpoint)
        file = Path(checkpoint or "") / UNLOGGED
        if checkpoint and file.is_file():  # older checkpoints have none
            self.load_unlogged(json.loads(file.read_text(encoding="utf-8")))

    # ---- saving: complete or not at all ----

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint to a hidden folder beside its place, then rename it: there is never half a one."""
        final = Path(super()._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        try:
            with new_checkpoint(self, final) as self._staging:
                super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
        if self.args.push_to_hub and self.stop_callback.stopping is None:
            self.push_checkpoint(final)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save model and processor; files of an earlier save are replaced only when all new ones are written."""
        if _internal_call:
            return super().save_model(output_dir, _internal_call=True)
        self.save_locally(output_dir)
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save")

    def save_locally(self, folder: str | None = None) -> None:
        """Save model and processor into a folder, by default that of the run, without a push."""
        with new_model(self, Path(folder or self.args.output_dir)) as unfinished:
            super().save_model(str(unfinished), _internal_call=True)

    # ---- the Hub ----

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository; calls that fail for a while are tried again."""
        if not self.is_world_process_zero():
            return
        if not self.args.push_to_hub:  # else it was checked before anything else
            self.pusher.check_name(self.model, token)
        self.hub_model_id = self.args.hub_model_id
        self.pusher.create_repository(token, private)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the card, from what the run knows by now."""
        if self.is_world_process_zero():
            write_run_card(self)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save the model and publish it; returns the commit's address, or a future of it.

        Raises:
            PublishError: it was saved, but could not be published.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_locally()
        if not self.is_world_process_zero():
            return None
        self.create_model_card()
        self._finish_current_push()
        message = commit_message or "Upload model"
        push = self.pusher.push_model(Path(self.args.output_dir), message, token=token, revision=revision)
        return push.result() if blocking else push

    def push_checkpoint(self, folder: Path) -> None:
        """Push a checkpoint in the background, where the strategy asks for it."""
        if self.is_world_process_zero() and self.pusher.takes_checkpoints():
            self.callback_handler.on_push_begin(self.args, self.state, self.control)
            self.create_model_card()
            self.pusher.push_checkpoint(folder, self.state.global_step)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push nothing from the hidden folder: `_save_checkpoint` pushes after the rename."""

    def _finish_current_push(self) -> None:
        """Wait for pushes, unless a signal came: then those that have not begun are dropped."""
        if self.stop_callback.stopping is None:
            self.pusher.wait()
        else:
            self.pusher.drop()
