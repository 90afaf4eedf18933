"""transformers' Trainer with layer-wise learning rates, mixed labels and figures of a task."""

from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback

from ..data.samplers import WeightedBatchSampler
from ..runs.base_trainer import BaseTrainer
from ..runs.loaders import loader_options, share_of_process
from .arguments import FinetuningArguments
from .freezing import GradientsReachLayersCallback, HeadOnlyCallback
from .layer_decay import parameter_groups
from .metrics import IGNORED
from .tasks.classification import MULTI_LABEL
from .tasks.task import Task


class FinetuningTrainer(BaseTrainer):
    """Fine-tunes a model with a head on a task.

    What it adds to `BaseTrainer`: the learning rate of each layer by `args.layer_decay`, a head that is trained alone
    first, labels that are distributions, a draw of samples by how rare their classes are, early stopping, and the
    task's figures.

    Args:
        model: with a head for the task; or an adapter (peft) around one.
        args: `FinetuningArguments`.
        task: makes batches and figures.

    The other arguments are `Trainer`'s.
    """

    args: FinetuningArguments
    optimizer: Any
    data_collator: Any

    def __init__(self, model: Any, args: FinetuningArguments, task: Task, **kwargs: Any) -> None:
        if args.head_only_steps and args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = True
        self.task, self.train_collator = task, task.train_collator()
        super().__init__(model, args, task.collate, compute_metrics=task, processing_class=task.processor, **kwargs)
        # Losses here are means over a micro-batch, whatever arguments a model's forward would take.
        self.model_accepts_loss_kwargs = False
        if task.label_smoothing != "loss":
            self.label_smoother = None
        self.add_callback(GradientsReachLayersCallback())
        if args.head_only_steps:
            self.add_callback(HeadOnlyCallback(model, self.encoder, args.head_only_steps))
        if args.patience is not None:
            self.add_callback(EarlyStoppingCallback(early_stopping_patience=args.patience))

    def has_stopped(self) -> bool:
        """Whether patience had run out at the checkpoint that the run goes on from."""
        return any(one.early_stopping_patience_counter >= one.early_stopping_patience for one in self._patience())

    def _patience(self) -> list[EarlyStoppingCallback]:
        return [one for one in self.callback_handler.callbacks if isinstance(one, EarlyStoppingCallback)]

    def _init_training_state(self, *arguments: Any, **kwargs: Any) -> tuple[int, int]:
        progress = super()._init_training_state(*arguments, **kwargs)
        kept = self.state.stateful_callbacks.get(EarlyStoppingCallback.__name__, {}).get("attributes", {})
        for callback in self._patience():
            callback.early_stopping_patience_counter = kept.get("early_stopping_patience_counter", 0)
        return progress

    @property
    def encoder(self) -> str:
        """The encoder's name within the model."""
        model = self.accelerator.unwrap_model(self.model)
        return (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model_prefix

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train; evaluations after training can't stop a run, so patience is removed at the end."""
        result = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        self.remove_callback(EarlyStoppingCallback)
        return result

    def create_optimizer(self, model: nn.Module | None = None) -> Any:
        """Create the optimizer, with one group of weights for each depth if `layer_decay` is not 1."""
        args = self.args
        if args.layer_decay == 1 or self.optimizer is not None:
            return super().create_optimizer(model)
        chosen: Any = self.model if model is None else model
        groups = parameter_groups(
            chosen,
            self.encoder,
            learning_rate=args.learning_rate,
            layer_decay=args.layer_decay,
            weight_decay=args.weight_decay,
            decayed=self.get_decay_parameter_names(chosen),
            decay_feature_encoder=args.decay_feature_encoder,
        )
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(args, chosen)
        self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def own_loader(self) -> DataLoader | None:
        """With `args.weighted_draw` a loader of samples that are drawn by how rare their classes are."""
        args, samples = self.args, self.train_dataset
        if not args.weighted_draw:
            return super().own_loader()
        weights = self.task.rarities(samples.dataset)
        size = args.train_batch_size
        sampler = WeightedBatchSampler(weights, args.weighted_draw, size, **share_of_process(args))
        return DataLoader(samples, batch_sampler=sampler, **loader_options(args, self.train_collator))

    def get_train_dataloader(self) -> Any:
        """Batches of the task for training, which may be mixed."""
        plain, self.data_collator = self.data_collator, self.train_collator
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = plain

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The model's own loss; of fp32 labels [B, ..., C], the cross entropy where each row is a distribution over
        classes, the binary one where each class is true or not; what is -100 does not count."""
        labels = inputs.get("labels")
        if labels is None or labels.ndim < 2 or not labels.is_floating_point():
            return super().compute_loss(model, inputs, return_outputs=return_outputs)
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        logits = outputs.logits.float()
        several = self.task.config.problem_type == MULTI_LABEL
        if several:
            real = labels != IGNORED
            loss = F.binary_cross_entropy_with_logits(logits[real], labels[real])
        else:
            loss = F.cross_entropy(logits, labels)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Evaluate a batch, and keep only what the task needs of its logits."""
        loss, logits, labels = super().prediction_step(model, dict(inputs), prediction_loss_only, ignore_keys)
        if logits is not None:
            logits = self.task.predictions(logits[0] if isinstance(logits, tuple) else logits, inputs)
        if labels is not None and self.task.counts_labels:
            labels = labels.flatten(1)[:, :1]  # whole maps of all images would take much room
        return loss, logits, labels
