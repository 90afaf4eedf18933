"""transformers' Trainer with a teacher, health figures, and checkpoints that are never half written."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint, rotate_checkpoints

from .batching import LengthBatchSampler
from .callbacks import EMATeacherCallback, EpochCallback, HealthCallback, HealthProgressCallback
from .collators import mask_collator
from .health import CollapseError, measure_health
from .hub_trainer import HubTrainer
from .schedules import tri_stage
from .training_arguments import Data2VecTrainingArguments

STAGING = ".incomplete"


class Data2VecTrainer(HubTrainer):
    """Pretrains any `...ForPreTraining` model of this package.

    What it adds to `Trainer`: the teacher moves once per optimizer step; health figures are part of every log; a
    collapsed run stops with `CollapseError` after a checkpoint; weight decay leaves out biases, norms and tokens; and a
    checkpoint appears under its name only when it is complete, so that a run killed at any time, or a full disk, leaves
    the last one loadable.

    Args:
        model: a model with a teacher, e.g. `Data2Vec2VisionForPreTraining`.
        args: `Data2VecTrainingArguments`.
        data_collator: by default one that draws the masks of `model.config`.
        train_dataset: e.g. `PretrainingSamples`; items hold the model's main input and, for runs that repeat exactly,
            `key`. With `args.max_batch_length` it has `lengths`, the input length of each item.

    The other arguments are `Trainer`'s.

    Example:
        >>> trainer = Data2VecTrainer(model, args, train_dataset=images)  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
    """

    args: Data2VecTrainingArguments

    def __init__(self, model: Any, args: Data2VecTrainingArguments, data_collator: Any = None, **kwargs: Any) -> None:
        if args.ddp_find_unused_parameters is None:
            # Without layerdrop every weight is used in each step.
            layerdrops = (getattr(model.config, name, 0.0) for name in ("layerdrop", "prenet_layerdrop"))
            args.ddp_find_unused_parameters = any(layerdrops)
        super().__init__(model, args, data_collator or mask_collator(model.config), **kwargs)
        if self.train_dataset is not None and hasattr(self.train_dataset, "__len__") and not len(self.train_dataset):
            raise ValueError("train_dataset is empty: there is nothing to train on. Check the path and the split.")
        self.teacher_callback = EMATeacherCallback()
        self.health_callback = HealthCallback()
        # First, so that whatever other callbacks see is the teacher of this step.
        self.callback_handler.callbacks.insert(0, self.teacher_callback)
        self.add_callback(self.health_callback)
        self._batch_sampler = self._length_batches() if args.max_batch_length else None
        listeners = [one for one in (self.train_dataset, self._batch_sampler) if hasattr(one, "set_epoch")]
        self.add_callback(EpochCallback(*listeners))
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(HealthProgressCallback())
        self._health: dict[str, Tensor] = {}
        self._samples_since_log = 0
        self._last_log_time = 0.0
        self._staging: Path | None = None

    # ---- training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train; `resume_from_checkpoint=True` goes on from the last complete checkpoint, if there is one.

        With `push_to_hub` the model is saved and pushed at the end.

        Raises:
            CollapseError: the run collapsed or diverged; a checkpoint of its last step has been written.
            PublishError: the model is saved, but could not be pushed.
        """
        if resume_from_checkpoint is True:
            folder = self.args.output_dir
            resume_from_checkpoint = get_last_checkpoint(folder) if os.path.isdir(folder) else None
        self._samples_since_log, self._last_log_time = 0, time.perf_counter()
        result = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        if self.health_callback.diagnosis and self.args.stop_on_collapse:
            raise CollapseError(self.health_callback.diagnosis)
        self.after_training()
        return result

    def _length_batches(self) -> LengthBatchSampler:
        lengths = getattr(self.train_dataset, "lengths", None)
        if lengths is None:
            raise ValueError(
                "max_batch_length needs a train_dataset with `lengths`, the input length of each sample, which streams "
                "don't have: use per_device_train_batch_size instead"
            )
        args = self.args
        return LengthBatchSampler(
            lengths,
            int(args.max_batch_length or 0),
            seed=args.data_seed if args.data_seed is not None else args.seed,
            num_processes=args.world_size,
            process=args.process_index,
        )

    def get_train_dataloader(self) -> DataLoader:
        """As `Trainer`'s, or batches of similar lengths with `max_batch_length`; each process draws its own share."""
        if self._batch_sampler is None:
            return super().get_train_dataloader()
        args = self.args
        return DataLoader(
            self.train_dataset,
            batch_sampler=self._batch_sampler,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
        )

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As `Trainer`'s, or the three stages of `args.tri_stage`."""
        if self.args.tri_stage is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if getattr(self, "lr_scheduler", None) is None:
            factor = tri_stage(num_training_steps, self.args.tri_stage)
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

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The micro-batches of an optimizer step, and how many positions each hides on average, over all processes.

        With that, `compute_loss` gives all hidden positions of a step the same weight, however unequally they are
        spread over micro-batches and processes: the step is that of one big batch, as in the authors' code.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches or not all("mask" in batch for batch in batches):
            return batches, None
        hidden = torch.stack([batch["mask"].sum().to(device) for batch in batches]).float().mean()
        return batches, self.accelerator.reduce(hidden, reduction="mean")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if num_items_in_batch is not None:
            loss = loss * (inputs["mask"].sum() / num_items_in_batch)
        if model.training:
            self._samples_since_log += len(outputs.targets)
        if model.training and self._is_last_before_log():
            self._health = measure_health(outputs, self.model.config)
        return (loss, outputs) if return_outputs else loss

    def _is_last_before_log(self) -> bool:
        """Whether this micro-batch completes an optimizer step that will be logged."""
        if not self.accelerator.sync_gradients:
            return False
        step = self.state.global_step + 1
        first = step == 1 and self.args.logging_first_step
        return first or step % max(1, self.state.logging_steps or 1) == 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the health figures (mean over processes), the teacher's decay and the speed."""
        if "loss" in logs and self._health:
            values = torch.stack([value.float() for value in self._health.values()])
            values = self.accelerator.reduce(values, reduction="mean")
            logs |= dict(zip(self._health, values.tolist(), strict=True))
            self._health = {}
        if "loss" in logs:
            if self.teacher_callback.decay is not None:
                logs["ema_decay"] = self.teacher_callback.decay
            now = time.perf_counter()
            samples = self._samples_since_log * self.args.world_size
            logs["samples_per_second"] = samples / (now - self._last_log_time)
            self._samples_since_log, self._last_log_time = 0, now
        super().log(logs, start_time)

    # ---- saving: complete or not at all ----

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint to a hidden folder beside its place, then rename it: there is never half a one."""
        run_dir = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        staging = run_dir / STAGING
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)  # what a killed run left
        self.accelerator.wait_for_everyone()
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            shutil.rmtree(staging, ignore_errors=True)
            last = get_last_checkpoint(run_dir) if run_dir.is_dir() else None
            raise OSError(
                f"{name} could not be saved to {run_dir}: {error} "
                f"Free some space or choose another output_dir. Complete so far: {last or 'no checkpoint'}; "
                "train(resume_from_checkpoint=True) goes on from there."
            ) from error
        finally:
            self._staging = None
        self.accelerator.wait_for_everyone()  # every process has written its random state
        if self.args.should_save:
            self._publish(staging / name, run_dir / name)
            rotate_checkpoints(
                output_dir=run_dir,
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=False,
            )
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self.push_checkpoint(run_dir / name)

    def _publish(self, staged: Path, final: Path) -> None:
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).parent == staged.parent:
            self.state.best_model_checkpoint = str(final.parent / Path(best).name)
            self.state.save_to_json(str(staged / "trainer_state.json"))
        if final.exists():
            shutil.rmtree(final)  # the same step saved twice, e.g. at the end of training
        os.replace(staged, final)
        staged.parent.rmdir()

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing is pushed from the hidden folder: `_save_checkpoint` pushes after the rename."""

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
        staging = final / STAGING
        try:
            super().save_model(str(staging), _internal_call=True)
        except Exception as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise OSError(f"the model could not be saved to {final}: {error} Free some space and try again.") from error
        if self.args.should_save:
            for file in staging.iterdir():
                os.replace(file, final / file.name)
            staging.rmdir()
