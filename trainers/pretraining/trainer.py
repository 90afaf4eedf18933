"""transformers' Trainer with a teacher and health figures."""

import os
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, TrainerControl, TrainingArguments

from modeling_data2vec.auto import pretraining_class_of

from ..data.mixture_order import MixtureOrder
from ..data.samples import IterableSampleDataset
from ..hub.provenance import Provenance
from ..modalities.mixture import JointCollator, MixtureDataset, MixtureSource
from ..modalities.names import config_of, loss_weight_of, modality_of
from ..monitoring.gradient_cosine import GradientCosine
from ..monitoring.modality_logs import ModalityFigures
from ..recipes.building import say_lengths_are_unknown
from ..runs.arguments import Data2VecTrainingArguments, pretraining_arguments
from ..runs.base_trainer import BaseTrainer
from ..runs.callbacks import EMATeacherCallback, HealthCallback, HealthProgressCallback
from ..runs.loaders import loader_options, share_of_process
from .clipping import ModalityClipping
from .device_normalization import DeviceNormalization, kept_as_bytes
from .given_data import GivenData, knows_lengths, modalities_of_samples, processor_of
from .step_loss import OptimizerStep, StepLoss, has_loss


class Data2VecTrainer(BaseTrainer):
    """Pretrains any `...ForPreTraining` model of this package.

    What it adds to `Trainer`: the teacher moves once per optimizer step; health figures are part of every log; a
    collapsed run stops with `CollapseError` after a checkpoint; weight decay leaves out biases, norms and tokens; and a
    checkpoint appears under its name only when it is complete, so that a run killed at any time, or a full disk, leaves
    the last one loadable.

    Args:
        model: a model with a teacher, e.g. `Data2Vec2VisionForPreTraining`; or a folder or Hub id of a pretraining
            model or of transformers' own data2vec models.
        args: `Data2VecTrainingArguments`; of a plain `TrainingArguments`, what differs from its defaults.
        data_collator: by default one that draws the masks of `model.config`. With one of your own, the datasets are
            left as they are.
        train_dataset, eval_dataset: a `datasets.Dataset` or `IterableDataset`, or any dataset of dicts, with a raw
            column (image, audio, text), or with the model's main input as lists, arrays or tensors; or what
            `recipe.build` makes. `MixtureDataset` for several modalities: it brings its own sizes of micro-batches.
        processing_class: what makes inputs of raw columns: image processor, feature extractor or tokenizer. Default:
            that of the model's folder or Hub id, else a plain one; text needs a tokenizer.
        provenance: what the model card says beside what the run knows; default: what `recipe.build` knows of the data.

    The other arguments are `Trainer`'s.

    Raises:
        ValueError: the data have no column that can be read, or lack a processor.

    Example:
        >>> trainer = Data2VecTrainer(model, args, train_dataset=photos)  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
    """

    args: Data2VecTrainingArguments

    def __init__(
        self,
        model: Any,
        args: TrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        provenance: Provenance | None = None,
        **kwargs: Any,
    ) -> None:
        provenance = provenance or getattr(train_dataset, "provenance", None) or Provenance()
        if isinstance(model, str | os.PathLike):
            provenance = replace(provenance, base_model=str(model))
            model = pretraining_class_of(str(model)).from_pretrained(model)
        args = pretraining_arguments(args)
        self._given = None if data_collator else GivenData(model, processing_class, args)
        if self._given:
            samples = self._given.samples(train_dataset, "train_dataset")
            eval_dataset = self._given.samples(eval_dataset, "eval_dataset", augment=False)
            modalities = modalities_of_samples(samples)
            if processing_class is None or samples is not train_dataset:  # else it is the caller's own choice
                processing_class = processor_of(model, modalities) or processing_class
            train_dataset = samples
            data_collator = JointCollator(model.config, {name: one.collator() for name, one in modalities.items()})
        if args.max_batch_length and not knows_lengths(train_dataset):
            say_lengths_are_unknown(args.per_device_train_batch_size)
            args.max_batch_length = None
        self._normalization: DeviceNormalization | None = None
        if args.normalize_on_device:
            train_dataset, self._normalization = kept_as_bytes(train_dataset)
        self._figures = ModalityFigures(model.config)
        self._order: MixtureOrder | None = None  # of a mix
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = _leaves_weights_unused(model.config, self._figures.names)
        super().__init__(
            model,
            args,
            data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            provenance=provenance,
            health_callback=HealthCallback(),
            **kwargs,
        )
        self.stop_on_collapse = args.stop_on_collapse
        self.teacher_callback = EMATeacherCallback()
        # First, so that whatever other callbacks see is the teacher of this step.
        self.callback_handler.callbacks.insert(0, self.teacher_callback)
        self.remove_callback(PrinterCallback)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(HealthProgressCallback())
        self._cosine = self._gradient_cosine()
        self._clipping = self._modality_clipping()
        self._step = OptimizerStep([], None)
        self._samples_since_log = 0
        self._last_log_time = 0.0

    def own_loader(self) -> DataLoader | None:
        """A loader of a mix, or what fine-tuning has as well."""
        mix, args = self.train_dataset, self.args
        if isinstance(mix, IterableSampleDataset):
            # As a mix of one, a stream begins again where it ends, and a resumed run finds its place in each epoch.
            (name,) = self._figures.names
            order = MixtureOrder({name: 1}, args.gradient_accumulation_steps)
            alone = MixtureDataset({name: MixtureSource(mix, args.train_batch_size)})
            return alone.loader(order, share_of_process(args), **loader_options(args, self.data_collator))
        if not isinstance(mix, MixtureDataset):
            return super().own_loader()
        for name in mix.sources:
            config_of(self.model.config, name)  # says which modalities there are
        self._order = MixtureOrder(mix.shares, args.gradient_accumulation_steps, args.mixing, exact=mix.exact)
        return mix.loader(self._order, share_of_process(args), **loader_options(args, self.data_collator))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """As `Trainer`'s, with the last, smaller batch; `eval_dataset` may be whatever the constructor takes."""
        if self._given and not isinstance(eval_dataset, str):
            eval_dataset = self._given.samples(eval_dataset, "eval_dataset", augment=False)
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = drop_last

    def _gradient_cosine(self) -> GradientCosine | None:
        args = self.args
        if not args.gradient_cosine_steps:
            return None
        if self._order is None or len(self._order.shares) < 2 or args.mixing != "accumulate":
            raise ValueError(
                f"gradient_cosine_steps is {args.gradient_cosine_steps}, but gradients are compared between the "
                'modalities of one optimizer step: train on several, with mixing "accumulate", or set it to 0'
            )
        if self.is_fsdp_enabled:
            raise ValueError(
                f"gradient_cosine_steps is {args.gradient_cosine_steps}, but gradients that are sharded (FSDP) are not "
                "compared: set it to 0"
            )
        return GradientCosine(self.model.base_model.trunk.parameters(), self._mean_over_processes)

    def _modality_clipping(self) -> ModalityClipping | None:
        if not self.args.clip_modalities:
            return None
        if self._order is None or len(self._order.shares) < 2:
            raise ValueError(
                "clip_modalities is given, but the run has one modality, whose gradient is clipped anyway: leave it out"
            )
        return ModalityClipping(self.model.parameters(), self.args.max_grad_norm)

    # ---- training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train; `resume_from_checkpoint=True` goes on from the last complete checkpoint, if there is one.

        With `push_to_hub` the model is saved and pushed at the end.

        Raises:
            CollapseError: the run collapsed or diverged; a checkpoint of its last step has been written.
            PublishError: the model is saved, but could not be pushed.
        """
        self._figures.clear()
        self._samples_since_log, self._last_log_time = 0, time.perf_counter()
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def has_stopped(self) -> bool:
        """Whether the log that the run goes on with is that of a collapsed one, which must stop."""
        self.health_callback.on_log(self.args, self.state, TrainerControl())
        return bool(self.health_callback.diagnosis) and self.args.stop_on_collapse

    def unlogged(self) -> dict[str, Any]:
        clipped = self._clipping.counts if self._clipping else {}
        return super().unlogged() | {"figures": self._figures.state(), "clipped": clipped}

    def load_unlogged(self, state: dict[str, Any]) -> None:
        super().load_unlogged(state)
        self._figures.load(state["figures"], self.args.device)
        if self._clipping:
            self._clipping.counts = dict(state.get("clipped", {}))

    # ---- an optimizer step ----

    def _mean_over_processes(self, values: Tensor) -> Tensor:
        return self.accelerator.reduce(values, reduction="mean")

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, None]:
        """Take the micro-batches of an optimizer step, and count how much each weighs in its loss."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        loss = None
        if batches and all(map(has_loss, batches)):
            weights = {name: loss_weight_of(self.model.config, name) for name in self._figures.names}
            loss = StepLoss.from_batches(batches, weights, device, self._mean_over_processes)
        self._step = OptimizerStep([modality_of(batch) for batch in batches], loss)
        if self._clipping:
            self._clipping.begin_step()
        return batches, None

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        return self._normalization(inputs) if self._normalization else inputs

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        name = modality_of(inputs)
        if self._clipping and self._step.has_all_of(name):
            self._clipping.clip(name, self._step.loss.shares[name] if self._step.loss else 1.0)
        if self._cosine and self._step.has_all_of(name) and self._is_cosine_step():
            self._cosine.record(name)
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        if not has_loss(inputs):  # the model would draw them: not from the sample's key, and not each time anew
            raise ValueError(
                f"the data_collator makes batches of {', '.join(inputs)} without a mask: leave it out, or take "
                "mask_collator(model.config)"
            )
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if model.training:
            name, step = modality_of(inputs), self._step
            step.advance()
            if step.loss is not None:
                mean_part = step.loss.mean_part(loss, inputs)
                loss = step.loss.weighted(mean_part, name)
                mean_loss = mean_part / self.current_gradient_accumulation_steps
                self._figures.add_loss(name, mean_loss, completes_step=step.has_all_of(name))
            if step.has_all_of(name) and self._is_last_before_log(name):
                self._figures.measure(name, outputs)
            self._samples_since_log += len(outputs.targets)
        return (loss, outputs) if return_outputs else loss

    def _logged_step(self) -> int:
        """The optimizer step, this one or a later one, that is logged next."""
        step = self.state.global_step + 1
        every = max(1, self.state.logging_steps or 1)
        return step if step == 1 and self.args.logging_first_step else -(-step // every) * every

    def _is_last_before_log(self, name: str) -> bool:
        """Whether no later optimizer step with this modality comes before the next log."""
        if self._order is None:
            return self._logged_step() == self.state.global_step + 1
        later = range(self.state.global_step + 1, self._logged_step())  # counted from 0
        return not any(name in self._order.step(number) for number in later)

    def _is_cosine_step(self) -> bool:
        step = self.state.global_step + 1
        return step == self._logged_step() and step % self.args.gradient_cosine_steps == 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the figures of each modality (mean over processes), the teacher's decay and the speed."""
        if "loss" in logs:
            logs |= self._figures.take(self._mean_over_processes)
            if self._cosine:
                logs |= self._cosine.take()
            if self._clipping:
                logs |= self._clipping.take()
            if self.teacher_callback.decay is not None:
                logs["ema_decay"] = self.teacher_callback.decay
            now = time.perf_counter()
            samples = self._samples_since_log * self.args.world_size
            logs["samples_per_second"] = samples / (now - self._last_log_time)
            self._samples_since_log, self._last_log_time = 0, now
        super().log(logs, start_time)


def _leaves_weights_unused(config: Any, modalities: tuple[str, ...]) -> bool:
    """Whether a step may use only some of the weights, which DDP must know.

    Without layerdrop every weight of a modality is used in each step; of several modalities the micro-batch that
    gradients are averaged after uses one's, and the others' are complete.
    """
    return len(modalities) > 1 or any(getattr(config, name, 0.0) for name in ("layerdrop", "prenet_layerdrop"))
