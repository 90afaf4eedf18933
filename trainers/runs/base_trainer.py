"""What pretraining and fine-tuning share: batches by length, the three-stage schedule, complete checkpoints."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers.trainer_utils import get_last_checkpoint, has_length
from transformers.utils import logging

from ..data.finiteness import CheckedCollator, weights_are_finite, what_diverged
from ..data.samplers import LengthBatchSampler
from ..files.writing import (
    UNFINISHED,
    new_files,
    publish_checkpoint,
    rotate_checkpoints,
    save_error,
)
from ..monitoring.health import CollapseError
from .arguments import BaseTrainingArguments
from .best_checkpoint import ResumingTrainer
from .callbacks import DivergenceCallback, EpochCallback
from .run_lock import only_run_in
from .schedules import tri_stage
from .stopping import StopCallback, StoppedError, signals_call
from .workers import inner_loader, no_worker_stays, with_own_workers

logger = logging.get_logger(__name__)

UNLOGGED = "unlogged.json"  # in a checkpoint


class BaseTrainer(ResumingTrainer):
    """`ResumingTrainer` with `BaseTrainingArguments`.

    A checkpoint appears under its name only when it is complete, so that a run killed at any time, or a full disk,
    leaves the last one loadable.

    Args:
        model, args: as for `Trainer`.
        train_dataset: is told the epoch by `set_epoch`, if it has that; with `args.max_batch_length` it has `lengths`,
            the input length of each item.

    The other arguments are `Trainer`'s.
    """

    args: BaseTrainingArguments
    stop_on_collapse = True

    def __init__(self, model: Any, args: BaseTrainingArguments, *arguments: Any, **kwargs: Any) -> None:
        super().__init__(model, args, *arguments, **kwargs)
        if has_length(self.train_dataset) and not len(self.train_dataset):
            raise ValueError("train_dataset is empty: there is nothing to train on. Check the path and the split.")
        self._loader = self.own_loader()
        listeners = [self.train_dataset, getattr(self._loader, "batch_sampler", None)]
        self.add_callback(EpochCallback(*(one for one in listeners if hasattr(one, "set_epoch"))))
        self.stop_callback = StopCallback()
        self.add_callback(self.stop_callback)
        self.divergence_callback = DivergenceCallback()
        self.add_callback(self.divergence_callback)
        self._staging: Path | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """As `ResumingTrainer`'s, with the folder to itself.

        Raises:
            ValueError: another run writes to the folder, or a sample holds NaN.
            StoppedError: a signal came; a checkpoint of the last step has been written.
            CollapseError: the loss or the weights are no numbers any more.
        """
        folder, main = Path(self.args.output_dir), self.args.process_index == 0
        with only_run_in(folder, main), signals_call(self.stop_callback.request), no_worker_stays():
            try:
                result = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
            except StoppedError as stopped:  # at once
                last = get_last_checkpoint(folder) if folder.is_dir() else None
                stopped.said += f"; the last checkpoint is {last}" if last else "; there is no checkpoint yet"
                raise
            self._end_stopped_run()
        self._check_health()
        return result

    def _end_stopped_run(self) -> None:
        """Raise `StoppedError` if a signal came, also one that came after the last step."""
        if not self.stop_callback.agree():
            return
        step, folder = self.state.global_step, Path(self.args.output_dir)
        checkpoint = folder / f"checkpoint-{step}"
        if not checkpoint.exists():
            self._save_checkpoint(self.model_wrapped, None)
        number = self.stop_callback.stopping or signal.SIGTERM
        said = f"stopped by {number.name} after step {step}: {checkpoint} is saved"
        logger.warning(f"The run was {said}; train(resume_from_checkpoint=True) goes on from there.")
        raise StoppedError(said, number)

    def diagnosis(self) -> str | None:
        """What the log says to be wrong with the run."""
        return self.divergence_callback.diagnosis

    def _check_health(self) -> None:
        """Raise `CollapseError` for what the log says, or what happened after it."""
        if not self.stop_on_collapse:
            return
        steps = self._globalstep_last_logged, self.state.global_step
        if reason := self.diagnosis() or what_diverged(float(self._tr_loss), *steps, self.model):
            raise CollapseError(reason)

    # ---- batches, schedule, weight decay ----

    def own_loader(self) -> DataLoader | None:
        """With `max_batch_length`, a loader of batches of similar lengths; each process draws its own share."""
        if not self.args.max_batch_length:
            return None
        lengths = getattr(self.train_dataset, "lengths", None)
        if lengths is None:
            raise ValueError(
                "max_batch_length needs a train_dataset with `lengths`, the input length of each sample, which streams "
                "don't have: use per_device_train_batch_size instead"
            )
        sampler = LengthBatchSampler(lengths, self.args.max_batch_length, **self.share_of_process())
        return DataLoader(self.train_dataset, batch_sampler=sampler, **self.loader_options())

    def share_of_process(self) -> dict[str, int]:
        """Which share of the batches is this process's: options of `EpochBatches`."""
        args = self.args
        seed = args.data_seed if args.data_seed is not None else args.seed
        return {"seed": seed, "num_processes": args.world_size, "process": args.process_index}

    def loader_options(self) -> dict[str, Any]:
        """What the arguments say about loaders of training data."""
        args = self.args
        return {
            "collate_fn": self.data_collator,
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory,
            "persistent_workers": args.dataloader_persistent_workers,
        }

    def get_train_dataloader(self) -> DataLoader:
        """As `Trainer`'s, or `own_loader`'s; batches with NaN in them are refused."""
        loader = super().get_train_dataloader() if self._loader is None else self._loader
        inner = inner_loader(loader)
        if not isinstance(inner.collate_fn, CheckedCollator):
            inner.collate_fn = CheckedCollator(inner.collate_fn)
        return with_own_workers(loader)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """As `Trainer`'s."""
        return with_own_workers(super().get_eval_dataloader(eval_dataset))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As `Trainer`'s, or the three stages of `args.tri_stage`."""
        if self.args.tri_stage is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if getattr(self, "lr_scheduler", None) is None:
            factor = tri_stage(num_training_steps, self.args.tri_stage, self.args.tri_stage_end)
            self.lr_scheduler: Any = LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Only matrices and kernels decay: biases, norms, tokens and scales, whatever their shape, do not.

        The authors meant the same, but their override had no effect (docs/differences.md).
        """
        return [
            name
            for name, parameter in model.named_parameters()
            if parameter.squeeze().ndim >= 2 and not name.endswith(("extra_tokens", "bias", "alibi_scale"))
        ]

    # ---- what is known of the steps since the last log ----

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
        state = self.unlogged()
        if self.args.should_save:
            (Path(output_dir) / UNLOGGED).write_text(json.dumps(state), encoding="utf-8")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        file = Path(checkpoint or "") / UNLOGGED
        if checkpoint and file.is_file():  # older checkpoints have none
            self.load_unlogged(json.loads(file.read_text(encoding="utf-8")))

    # ---- saving: complete or not at all ----

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint to a hidden folder beside its place, then rename it: there is never half a one."""
        run_dir = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        staging = run_dir / UNFINISHED
        with self._cleared(staging / name):
            self._staging = staging
            try:
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()  # every process has written its random state
                if self.args.should_save:
                    self._publish(staging / name, run_dir / name)
            except Exception as error:
                last = get_last_checkpoint(run_dir) if run_dir.is_dir() else None
                raise save_error(
                    name,
                    run_dir,
                    error,
                    f"Complete so far: {last}; train(resume_from_checkpoint=True) goes on from there."
                    if last
                    else "There is no complete checkpoint yet.",
                ) from error
            finally:
                self._staging = None
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub and self.stop_callback.stopping is None:
            self.push_checkpoint(run_dir / name)

    @contextmanager
    def _cleared(self, place: Path) -> Iterator[None]:
        """Make sure that nothing lies at a place in the hidden folder, before and after."""
        if self.args.should_save:
            shutil.rmtree(place, ignore_errors=True)  # what a killed run left
        self.accelerator.wait_for_everyone()
        try:
            yield
        finally:
            if self.args.should_save:
                shutil.rmtree(place, ignore_errors=True)
                with suppress(OSError):  # it may hold the run's lock
                    place.parent.rmdir()

    def _publish(self, staged: Path, final: Path) -> None:
        """Give a checkpoint its name, and remove those that are too many."""
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).parent == staged.parent:
            self.state.best_model_checkpoint = best = str(final.parent / Path(best).name)
            self.state.save_to_json(str(staged / "trainer_state.json"))
        publish_checkpoint(staged, final)
        keep = {final.name} | ({Path(best).name} if best is not None else set())
        if weights_are_finite(self.model):  # else it replaces none of those that are healthy
            rotate_checkpoints(final.parent, self.args.save_total_limit, keep=keep)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing is pushed from the hidden folder: `_save_checkpoint` pushes after the rename."""

    def _finish_current_push(self) -> None:
        """Wait for pushes, unless a signal came: then those that have not begun are dropped."""
        if self.stop_callback.stopping is None:
            return super()._finish_current_push()
        for push in self._pushes:
            push.cancel()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save model and processor; files of an earlier save are replaced only when all new ones are written."""
        if _internal_call:
            return super().save_model(output_dir, _internal_call=True)
        self._save_complete(Path(output_dir or self.args.output_dir))
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save")

    def save_locally(self) -> None:
        self._save_complete(Path(self.args.output_dir))

    def _save_complete(self, final: Path) -> None:
        with self._cleared(final / UNFINISHED / "model"):
            try:
                with new_files(final) if self.args.should_save else nullcontext(final) as unfinished:
                    super().save_model(str(unfinished), _internal_call=True)
            except Exception as error:
                raise save_error("the model", final, error) from error
