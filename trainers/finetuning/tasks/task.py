"""Base class of the tasks of fine-tuning: model, labels, samples, batches and figures."""

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

from modeling_data2vec.modeling_data2vec2_tasks import Data2Vec2ForTask

from ...data.samples import SampleDataset, SampleReader, each_readable
from ...modalities.clips import SoundModality
from ...modalities.names import modality_of_input
from ..arguments import FinetuningArguments
from ..metrics import IGNORED


class Task:
    """One task, for one model and one set of data.

    Args:
        config: the model's; `fit` writes labels or vocabulary into it.
        processor: what makes the model's inputs.
        options: of `data2vec finetune`.
        args: training arguments.
    """

    name: ClassVar[str]
    auto_class: ClassVar[Any]  # of transformers, which leads to the model
    main_input: ClassVar[str]  # of the models that can do it
    metric: str  # that decides which checkpoint is the best
    has_pipeline: ClassVar[bool] = True  # whether transformers has one that runs the model
    counts_labels: ClassVar[bool] = False  # whether `predictions` has what the figures need of the labels
    label_smoothing: ClassVar[str | None] = "loss"  # where labels are smoothed: in the "loss", in a "batch", nowhere

    def __init__(self, config: Any, processor: Any, options: Any, args: FinetuningArguments) -> None:
        self.config, self.processor, self.options, self.args = config, processor, options, args

    # ---- what a task adds ----

    @classmethod
    def for_model(cls, config: Any) -> "type[Task] | None":
        """The task as it is for models of a config; None where they can't do it."""
        return cls if type(config) in cls.auto_class._model_mapping else None

    @classmethod
    def load_processor(cls, name: str) -> Any:
        """The processor of a model folder or Hub id."""
        return modality_of_input(cls.main_input).load_processor(name)

    def open(self, source: str, split: str) -> datasets.Dataset:
        """A split with the columns that the task needs; remembers their names.

        Raises:
            ValueError: there is no such split or column.
        """
        raise NotImplementedError

    def survey(self, table: datasets.Dataset) -> None:
        """Check all rows to train on, before some are held out, and take the classes from them.

        Raises:
            ValueError: says what is wrong, and in which rows.
        """

    def fit(self, train: datasets.Dataset) -> None:
        """Learn what the training split alone decides, such as letters."""

    def strata(self, table: datasets.Dataset) -> list[Any] | None:
        """The class of each row, for a held-out part with all classes; None where rows have no single class."""
        return None

    def rarities(self, table: datasets.Dataset) -> list[float]:
        """How rare the classes of each row are, for `weighted_draw`.

        Raises:
            ValueError: the task has no classes of whole samples.
        """
        raise ValueError(f"--weighted_draw draws by classes, which --task {self.name} does not have here: leave it out")

    def check(self, dataset: datasets.Dataset, split: str) -> None:
        """Require that another split fits the classes or letters of the training split.

        Raises:
            ValueError: says what isn't.
        """

    def reader(self, dataset: datasets.Dataset, *, training: bool) -> SampleReader:
        """Makes the model's inputs and `labels` of an example."""
        raise NotImplementedError

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of samples."""
        raise NotImplementedError

    def train_collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """The collator of training batches."""
        return self.collate

    def predictions(self, logits: Any, inputs: dict[str, Any]) -> Any:
        """The part of the model's output [B, ...] that figures are computed from."""
        return logits.argmax(-1)

    def figures(self, predictions: Any, labels: np.ndarray) -> dict[str, float]:
        """Figures of all predictions of a split."""
        raise NotImplementedError

    def figure_names(self) -> tuple[str, ...]:
        """Names of what `figures` gives; known after `fit`."""
        raise NotImplementedError

    # ---- what all share ----

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        return self.figures(prediction.predictions, prediction.label_ids)

    def training_samples(self, dataset: datasets.Dataset) -> SampleDataset:
        """Augmented samples; unreadable ones are replaced by their neighbours, with a warning."""
        return SampleDataset(dataset, self.reader(dataset, training=True), seed=self.args.seed)

    def evaluation_samples(self, dataset: datasets.Dataset, split: str) -> SampleDataset:
        """Samples as they are; unreadable ones are left out, with a warning, so that each counts once.

        Raises:
            ValueError: none can be read.
        """
        reader = self.reader(dataset, training=False)
        kept = [row for row, _, _ in each_readable(dataset, reader, range(len(dataset)), split)]
        return SampleDataset(dataset.select(kept), reader, augment=False)


class SoundTask(Task):
    """A task of recordings, for models of waveforms and of spectrograms; `sound` says how they are read."""

    main_input = "input_values"
    sound: SoundModality

    @classmethod
    def for_model(cls, config: Any) -> type[Task] | None:
        if (found := super().for_model(config)) is None:
            return None
        model_class = cls.auto_class._model_mapping[type(config)]
        # Other libraries' models take other features by the same name, which their own extractors make.
        if not issubclass(model_class, Data2Vec2ForTask) or model_class.main_input_name == cls.main_input:
            return found
        return type(cls.__name__, (cls,), {"main_input": model_class.main_input_name})

    def __init__(self, config: Any, processor: Any, options: Any, args: FinetuningArguments) -> None:
        super().__init__(config, processor, options, args)
        kind = modality_of_input(self.main_input)
        assert issubclass(kind, SoundModality)
        self.sound = kind(config, processor)


class Labelled:
    """A reader of examples that also gives their `labels`.

    Args:
        reader: makes the model's inputs.
        label: gives the label of an example.
    """

    def __init__(self, reader: SampleReader, label: Callable[[dict[str, Any]], Any]) -> None:
        self.reader, self.label, self.noun = reader, label, reader.noun

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Any]:
        return {**self.reader(example, rng), "labels": self.label(example)}

    def name(self, example: dict[str, Any]) -> str | None:
        return self.reader.name(example)


def padded(samples: list[dict[str, Any]], pad: Callable[..., Any]) -> dict[str, Any]:
    """A batch of samples of unequal length; labels that are sequences are padded with -100.

    Args:
        samples: inputs and `labels`; `key` is left out.
        pad: of a feature extractor or tokenizer.
    """
    inputs = [{name: value for name, value in sample.items() if name not in ("labels", "key")} for sample in samples]
    batch = dict(pad(inputs, return_tensors="pt"))
    batch["labels"] = stacked_labels([sample["labels"] for sample in samples])
    return batch


def stacked_labels(labels: list[Any]) -> Tensor:
    """Labels [B], or [B, longest] padded with -100."""
    tensors = [torch.as_tensor(label) for label in labels]
    if tensors[0].ndim == 0:
        return torch.stack(tensors)
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=IGNORED)
