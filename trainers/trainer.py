"""transformers' Trainer with a teacher and health figures."""

import time
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, ProgressCallback

from .callbacks import EMATeacherCallback, HealthCallback, HealthProgressCallback
from .collators import mask_collator
from .health import CollapseError, measure_health
from .run_trainer import RunTrainer
from .training_arguments import Data2VecTrainingArguments


class Data2VecTrainer(RunTrainer):
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
        self.teacher_callback = EMATeacherCallback()
        self.health_callback = HealthCallback()
        # First, so that whatever other callbacks see is the teacher of this step.
        self.callback_handler.callbacks.insert(0, self.teacher_callback)
        self.add_callback(self.health_callback)
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(HealthProgressCallback())
        self._health: dict[str, Tensor] = {}
        self._samples_since_log = 0
        self._last_log_time = 0.0

    # ---- training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train; `resume_from_checkpoint=True` goes on from the last complete checkpoint, if there is one.

        With `push_to_hub` the model is saved and pushed at the end.

        Raises:
            CollapseError: the run collapsed or diverged; a checkpoint of its last step has been written.
            PublishError: the model is saved, but could not be pushed.
        """
        self._samples_since_log, self._last_log_time = 0, time.perf_counter()
        result = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        if self.health_callback.diagnosis and self.args.stop_on_collapse:
            raise CollapseError(self.health_callback.diagnosis)
        self.after_training()
        return result

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
