"""A class for each word of a text: names, parts of speech and the like."""

from random import Random
from typing import Any

import datasets
import numpy as np
from transformers import AutoModelForTokenClassification, AutoTokenizer

from ...data.samples import SampleReader, UnreadableError
from ...modalities.text import TEXTS
from ...sources.label_checks import in_rows
from ...sources.labels import LabelMap, is_list
from ...sources.loading import STRINGS, column_types, find_column, open_source, shown_type
from ..metrics import IGNORED, token_metrics
from .classification import max_length
from .task import Task, padded

WORD_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("tags", "ner_tags", "pos_tags", "labels")


class TokenClassification(Task):
    """One class for each word; a word of several tokens is classified at its first one."""

    name, auto_class, main_input = "token-classification", AutoModelForTokenClassification, "input_ids"
    metric = "f1"
    labels: LabelMap
    column: str
    label_column: str

    @classmethod
    def load_processor(cls, name: str) -> Any:
        # A byte-level tokenizer has other tokens for a word at the start of a text than after a space.
        return AutoTokenizer.from_pretrained(name, add_prefix_space=True)

    def open(self, source: str, split: str) -> datasets.Dataset:
        options = self.options
        dataset = open_source(source, TEXTS, split=split)
        self.column, self.label_column = (
            find_column(dataset, source, noun, column=asked, names=names, advice=f"name one with {option}")
            for noun, asked, names, option in (
                ("word", options.column, WORD_COLUMNS, "--column"),
                ("tag", options.label_column, TAG_COLUMNS, "--label_column"),
            )
        )
        return dataset

    def survey(self, table: datasets.Dataset) -> None:
        self._check_rows(table)
        self.labels = LabelMap.of(table, self.label_column)
        self.labels.configure(self.config)

    def check(self, dataset: datasets.Dataset, split: str) -> None:
        try:
            self._check_rows(dataset)
        except ValueError as error:
            raise ValueError(f"split {split!r}, {error}") from error
        self.labels.check(dataset, self.label_column, split)

    def _check_rows(self, dataset: datasets.Dataset) -> None:
        """Require a list of words and as many tags in each row."""
        for column, what in ((self.column, "words"), (self.label_column, "tags")):
            kind = column_types(dataset)[column]
            if not is_list(kind):
                raise ValueError(
                    f"column {column!r} holds {shown_type(kind)}, not lists of {what} (row 1: "
                    f"{dataset[0][column]!r}). A CSV or TSV can't hold lists: write the table as JSONL or parquet"
                )
        words = column_types(dataset)[self.column].feature
        if words not in STRINGS:
            raise ValueError(
                f"column {self.column!r} holds lists of {shown_type(words)}, not of words: name another --column"
            )
        sentences = dataset[self.column][:]
        sizes = zip(sentences, dataset[self.label_column][:], strict=True)
        counts = [(len(words or []), len(tags or [])) for words, tags in sizes]
        unequal = [row for row, (words, tags) in enumerate(counts) if words != tags]
        if unequal:
            words, tags = counts[unequal[0]]
            raise ValueError(
                f"{in_rows(unequal)} of {len(counts):,}: there must be as many tags as words, but the first has "
                f"{words} words and {tags} tags"
            )
        if lacking := [row for row, words in enumerate(sentences) if None in (words or [])]:
            raise ValueError(
                f"column {self.column!r}: there is an empty place (null) among the words of {in_rows(lacking)}: write "
                "the word, or remove the place and its tag"
            )

    def reader(self, dataset: datasets.Dataset, *, training: bool) -> SampleReader:
        length = max_length(self.config, self.options, self.processor.num_special_tokens_to_add())
        return WordReader(self.processor, self.column, self.labels.reader(dataset, self.label_column), length)

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return padded(samples, self.processor.pad)

    def figures(self, predictions: Any, labels: np.ndarray) -> dict[str, float]:
        return token_metrics(predictions, labels, self.labels.names)

    def figure_names(self) -> tuple[str, ...]:
        return ("accuracy", "f1", "f1_macro")


class WordReader:
    """Makes a tokenizer's outputs of an example's words, and `labels`: the word's class at its first token, else -100.

    Args:
        tokenizer: a fast one.
        column: with a list of words.
        tags: gives the classes of an example's words.
        max_length: tokens; longer texts are cut.
    """

    noun = "text"

    def __init__(self, tokenizer: Any, column: str, tags: Any, max_length: int) -> None:
        self.tokenizer, self.column, self.tags, self.max_length = tokenizer, column, tags, max_length

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Any]:
        words, tags = example[self.column], self.tags(example)
        if not words:
            raise UnreadableError("it is empty")
        encoding = self.tokenizer(words, is_split_into_words=True, truncation=True, max_length=self.max_length)
        labels, last = [], None
        for word in encoding.word_ids():
            labels.append(IGNORED if word is None or word == last else tags[word])
            last = word
        return dict(encoding) | {"labels": labels}

    def name(self, example: dict[str, Any]) -> str | None:
        return None
