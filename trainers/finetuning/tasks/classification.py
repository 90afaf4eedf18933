"""Classes of images, sounds and texts, and numbers for texts."""

from random import Random
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
)

from ...data.mixup import MixupCollator
from ...data.packing import most_tokens
from ...data.samples import SampleReader, UnreadableError
from ...data.sound_augment import SoundAugment
from ...data.spec_augment import SpecAugmentCollator
from ...media.randaugment import FinetuningTransform, RandAugment
from ...modalities.image import ImageReader, load_images
from ...modalities.spectrogram import SpectrogramReader
from ...modalities.speech import load_audio
from ...modalities.text import load_text, require_text
from ...sources.label_checks import (
    are_numbers_to_predict,
    check_classes,
    require_labels,
    require_no_fractions,
    require_no_lists_in_text,
    require_numbers,
    say_alike,
)
from ...sources.labels import LabelMap, is_list, label_column, label_values, rarities
from ...sources.loading import column_types, find_column
from ..metrics import MULTI_LABEL_FIGURES, classification_metrics, multi_label_metrics, regression_metrics
from .task import Labelled, SoundTask, Task, padded

MULTI_LABEL = "multi_label_classification"  # transformers' name of it in configs
FLOATS = {"float16", "float32", "float64"}


class ClassificationTask(Task):
    """Base of the classification tasks: one label for each sample, or any number of them where rows hold lists."""

    metric = "accuracy"
    labels: LabelMap | None = None  # None for numbers to predict
    column: str
    label_column: str

    def survey(self, table: datasets.Dataset) -> None:
        kind, values = column_types(table)[self.label_column], label_values(table, self.label_column)
        lists = f"to learn several classes a row, write lists in JSONL or parquet; --task {self.name} reads both"
        require_no_lists_in_text(values, self.label_column, lists)
        self.labels = LabelMap.of(table, self.label_column)
        if is_list(kind):
            return self._survey_lists(table)
        if not isinstance(kind, datasets.ClassLabel):
            require_no_fractions(values, self.label_column, f"--task {self.name}")
            check_classes(values, self.label_column)
        say_alike(values, self.label_column)
        self.labels.configure(self.config)
        self.config.problem_type = "single_label_classification"

    def _survey_lists(self, table: datasets.Dataset) -> None:
        """Each row has any number of classes, also none: their scores are learned one by one."""
        assert self.labels is not None
        if self.args is not None and self.args.label_smoothing_factor:
            raise ValueError(
                f"column {self.label_column!r} holds lists, of which any number of classes may be right: leave out "
                "--label_smoothing_factor, which is for one class a row"
            )
        say_alike(LabelMap.values(table, self.label_column), self.label_column)
        self.labels.configure(self.config)
        self.config.problem_type, self.metric = MULTI_LABEL, "map"

    @property
    def learns_several(self) -> bool:
        """Whether a sample may have several classes, as found by `survey`."""
        return self.labels is not None and self.config.problem_type == MULTI_LABEL

    def strata(self, table: datasets.Dataset) -> list[Any] | None:
        return None if self.labels is None or self.learns_several else label_values(table, self.label_column)

    def rarities(self, table: datasets.Dataset) -> list[float]:
        return super().rarities(table) if self.labels is None else rarities(label_values(table, self.label_column))

    def check(self, dataset: datasets.Dataset, split: str) -> None:
        if self.labels is not None:
            self.labels.check(dataset, self.label_column, split)

    def opened(self, dataset: datasets.Dataset, column: str, source: str) -> datasets.Dataset:
        """Remember the columns of a set of data."""
        self.column, self.label_column = column, label_column(dataset, source, self.options.label_column)
        return dataset

    def labelled(self, dataset: datasets.Dataset, reader: SampleReader) -> SampleReader:
        assert self.labels is not None
        numbers = self.labels.reader(dataset, self.label_column)
        if not self.learns_several:
            return Labelled(reader, numbers)
        return Labelled(reader, lambda example: self._marked(numbers(example)))

    def _marked(self, classes: list[int]) -> list[float]:
        """1.0 at the classes that a sample has, 0.0 at the others: [num_labels]."""
        has = set(classes)
        return [float(number in has) for number in range(self.config.num_labels)]

    def predictions(self, logits: Any, inputs: dict[str, Any]) -> Any:
        return logits.float().sigmoid() if self.learns_several else super().predictions(logits, inputs)

    def figures(self, predictions: Any, labels: np.ndarray) -> dict[str, float]:
        if self.learns_several:
            return multi_label_metrics(predictions, labels)
        return classification_metrics(predictions, labels, self.config.num_labels)

    def figure_names(self) -> tuple[str, ...]:
        if self.learns_several:
            return MULTI_LABEL_FIGURES
        of_two = ("f1", "accuracy_f1") if self.config.num_labels == 2 else ()
        return ("accuracy", "f1_macro", "matthews", *of_two)


class ImageClassification(ClassificationTask):
    """Classes of images."""

    name, auto_class, main_input = "image-classification", AutoModelForImageClassification, "pixel_values"
    label_smoothing = "batch"

    def open(self, source: str, split: str) -> datasets.Dataset:
        dataset, column = load_images(source, split=split, image_column=self.options.column)
        return self.opened(dataset, column, source)

    def reader(self, dataset: datasets.Dataset, *, training: bool) -> SampleReader:
        args = self.args
        transform = FinetuningTransform.from_processor(
            self.processor,
            crop_scale=tuple(args.crop_scale),
            horizontal_flip=args.horizontal_flip,
            rand_augment=RandAugment.from_text(args.rand_augment) if args.rand_augment else None,
            erasing=args.erasing,
        )
        if args.rand_augment and transform.num_channels not in (1, 3):
            raise ValueError(
                f"rand_augment is {args.rand_augment!r}, but images with {transform.num_channels} channels have no "
                "colours: leave it out"
            )
        return self.labelled(dataset, ImageReader(transform, self.column))

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "pixel_values": torch.stack([sample["pixel_values"] for sample in samples]),
            "labels": torch.tensor([sample["labels"] for sample in samples]),
        }

    def train_collator(self) -> Any:
        args = self.args
        if not (args.mixup or args.cutmix or args.label_smoothing_factor):
            return self.collate
        return MixupCollator(
            self.collate,
            self.config.num_labels,
            smoothing=args.label_smoothing_factor,
            mixup_alpha=args.mixup,
            cutmix_alpha=args.cutmix,
            prob=args.mix_prob,
            switch_prob=args.mix_switch_prob,
        )


class AudioClassification(SoundTask, ClassificationTask):
    """Classes of clips, of waveforms or spectrograms."""

    name, auto_class = "audio-classification", AutoModelForAudioClassification
    label_smoothing = "batch"

    def open(self, source: str, split: str) -> datasets.Dataset:
        dataset, column = load_audio(source, split=split, audio_column=self.options.column)
        return self.opened(dataset, column, source)

    def reader(self, dataset: datasets.Dataset, *, training: bool) -> SampleReader:
        options = self.options
        limits = {"min_seconds": options.min_seconds, "max_seconds": options.max_seconds}
        reader = self.sound.clip_reader(self.column, **limits)
        if training and (self.args.roll_clips or self.args.spectrogram_noise):
            if not isinstance(reader, SpectrogramReader):
                raise ValueError(
                    "--roll_clips and --spectrogram_noise are for spectrograms, but the model takes waveforms: "
                    "leave them out"
                )
            reader.augment = SoundAugment(self.args.roll_clips, self.args.spectrogram_noise)
        return self.labelled(dataset, reader)

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return padded(samples, self.processor.pad)

    def train_collator(self) -> Any:
        args, collate = self.args, super().train_collator()
        if args.mixup or args.label_smoothing_factor:
            collate = MixupCollator(
                collate,
                self.config.num_labels,
                input_name=self.main_input,
                smoothing=args.label_smoothing_factor,
                mixup_alpha=args.mixup,
                prob=args.mix_prob,
            )
        if not args.spec_augment:
            return collate
        if not self.sound.has_bands:
            raise ValueError(
                "--spec_augment hides parts of spectrograms, but the model takes waveforms: hide parts of its frames "
                "with --config mask_time_prob=0.05 mask_feature_prob=0.05"
            )
        return SpecAugmentCollator(collate, args.spec_augment, self.main_input)


class TextClassification(ClassificationTask):
    """Classes, or one number, for each text or pair of texts."""

    name, auto_class, main_input = "text-classification", AutoModelForSequenceClassification, "input_ids"

    def open(self, source: str, split: str) -> datasets.Dataset:
        options = self.options
        dataset, column = load_text(source, split=split, text_column=options.column)
        if options.pair_column is not None:
            find_column(dataset, source, "text", column=options.pair_column, advice="")
            require_text(dataset, source, options.pair_column, option="--pair_column")
        dataset = self.opened(dataset, column, source)
        read = [name for name in (column, options.pair_column, self.label_column) if name]
        if len(set(read)) < len(read):
            raise ValueError(
                f"text, pair and label are read from the columns {', '.join(map(repr, read))}, but each needs one of "
                "its own: name others with --column, --pair_column and --label_column"
            )
        return dataset

    def survey(self, table: datasets.Dataset) -> None:
        if not self._predicts_numbers(table):
            return super().survey(table)
        require_numbers(label_values(table, self.label_column), self.label_column)
        self.metric = "pearson_spearman"
        self.config.id2label, self.config.label2id = {0: "score"}, {"score": 0}
        self.config.problem_type = "regression"

    def _predicts_numbers(self, table: datasets.Dataset) -> bool:
        kind = column_types(table)[self.label_column]
        if self.options.regression or is_list(kind) or isinstance(kind, datasets.ClassLabel):
            return self.options.regression
        values = label_values(table, self.label_column)
        require_labels(values, self.label_column)
        return are_numbers_to_predict(values, self.label_column, of_floats=kind.dtype in FLOATS)

    def check(self, dataset: datasets.Dataset, split: str) -> None:
        super().check(dataset, split)
        if self.labels is None:
            try:
                require_numbers(label_values(dataset, self.label_column), self.label_column)
            except ValueError as error:
                raise ValueError(f"split {split!r}, {error}") from error

    def reader(self, dataset: datasets.Dataset, *, training: bool) -> SampleReader:
        pair = self.options.pair_column
        length = max_length(self.config, self.options, self.processor.num_special_tokens_to_add(pair is not None))
        sentences = SentenceReader(self.processor, self.column, pair, length)
        if self.labels is None:
            return Labelled(sentences, self._number)
        return self.labelled(dataset, sentences)

    def _number(self, example: dict[str, Any]) -> float:
        return float(example[self.label_column])

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return padded(samples, self.processor.pad)

    def predictions(self, logits: Any, inputs: dict[str, Any]) -> Any:
        return super().predictions(logits, inputs) if self.labels else logits.squeeze(-1)

    def figures(self, predictions: Any, labels: np.ndarray) -> dict[str, float]:
        if self.labels is None:
            return regression_metrics(predictions, labels)
        return super().figures(predictions, labels)

    def figure_names(self) -> tuple[str, ...]:
        if self.labels is None:
            return ("pearson", "spearman", "pearson_spearman", "mse")
        return super().figure_names()


def max_length(config: Any, options: Any, special_tokens: int) -> int:
    """Tokens that a text is cut at: the option, or what the model takes.

    Args:
        config: the model's.
        options: of `data2vec finetune`.
        special_tokens: that the tokenizer adds to a text, or to a pair.

    Raises:
        ValueError: the option asks for more than the model takes, or leaves no room for text.
    """
    longest, asked = most_tokens(config), options.max_length
    if asked is not None and asked > longest:
        raise ValueError(f"--max_length is {asked}, but the model takes {longest} tokens: lower it")
    if asked is not None and asked <= special_tokens:
        raise ValueError(
            f"--max_length is {asked}, but the tokenizer's {special_tokens} special tokens fill it: raise it"
        )
    return int(min(asked or 512, longest))


class SentenceReader:
    """Makes a tokenizer's outputs of an example's text, or of a pair of texts, as pipelines do.

    Args:
        tokenizer: makes tokens; with its special tokens.
        column, pair_column: with the text, and with that which follows it.
        max_length: tokens; longer texts are cut.
    """

    noun = "text"

    def __init__(self, tokenizer: Any, column: str, pair_column: str | None, max_length: int) -> None:
        self.tokenizer, self.column, self.pair_column, self.max_length = tokenizer, column, pair_column, max_length

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Tensor]:
        texts = [example[name] for name in (self.column, self.pair_column) if name]
        if any(not text or text.isspace() for text in texts):
            raise UnreadableError("it is empty")
        return dict(self.tokenizer(*texts, truncation=True, max_length=self.max_length))

    def name(self, example: dict[str, Any]) -> str | None:
        return None
