"""Classes of samples of any kind of data, read as its `Modality` says."""

from typing import Any

import datasets
import torch
import transformers

from modeling_data2vec import Data2Vec2ForPooledClasses
from modeling_data2vec.auto import auto_classes

from ...data.samples import SampleReader
from ...modalities.names import modality_of_input
from .classification import ClassificationTask
from .task import Task, stacked_labels


class AnyClassification(ClassificationTask):
    """One class for each sample of a data2vec 2.0 model, the kinds of data in files of one's own included.

    What a task for one kind of data adds, such as mixup of images and pairs of texts, it does without.
    """

    name = "classification"
    has_pipeline = False  # none knows kinds of data of one's own

    @classmethod
    def for_model(cls, config: Any) -> type[Task] | None:
        for auto_name, model_class in auto_classes(config.model_type).items():
            if issubclass(model_class, Data2Vec2ForPooledClasses):
                found = {"auto_class": getattr(transformers, auto_name), "main_input": model_class.main_input_name}
                return type(cls.__name__, (cls,), found)
        return None

    def open(self, source: str, split: str) -> datasets.Dataset:
        self.modality = modality_of_input(self.main_input)(self.config, self.processor)
        return self.opened(*self.modality.load(source, split=split, column=self.options.column), source)

    def reader(self, dataset: datasets.Dataset, *, training: bool) -> SampleReader:
        return self.labelled(dataset, self.modality.whole_reader(self.column))

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        keys = torch.zeros(len(samples), dtype=torch.int32)
        inputs, _, _ = self.modality.collator().batch(samples, keys)
        return inputs | {"labels": stacked_labels([sample["labels"] for sample in samples])}
