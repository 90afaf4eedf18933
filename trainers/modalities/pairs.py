"""Paired samples, e.g. a picture with its written and its spoken name: tables of them, and their batches."""

from collections.abc import Mapping
from random import Random
from typing import Any

import datasets
import torch
from torch import Tensor

from modeling_data2vec import Data2Vec2Config
from modeling_data2vec.cross_modal import PAIRS
from modeling_data2vec.modeling_data2vec2_joint import MODALITY_OF_INPUT

from ..data.collators import Examples, MaskCollator, mask_collator
from ..data.packing import Tokenize
from ..data.samples import SampleReader, UnreadableError
from ..sources.loading import column_types, open_source, prepare_column
from ..sources.source_files import Medium
from .audio import AUDIO
from .images import IMAGES
from .text import TEXTS, TextReader, require_text

TABLE = Medium(noun="table of pair", suffixes=frozenset(), columns=(), numbers=AUDIO.numbers)
MEDIA = {"audio": AUDIO, "text": TEXTS, "vision": IMAGES}
INPUTS = {name: main_input for main_input, name in MODALITY_OF_INPUT.items()}


def load_pairs(
    source: str, *, split: str = "train", columns: Mapping[str, str] | None = None
) -> tuple[datasets.Dataset, dict[str, str]]:
    """Open a table of paired samples.

    Args:
        source: a manifest (JSONL, CSV, TSV, parquet) with a column for each modality, or a folder of them: paths of
            images and audio files, relative to it, and texts themselves. Or another source of `load_source`.
        split: the split to take where the source has several.
        columns: the column of each modality, "audio", "text" and "vision". By default those of the usual names, e.g.
            "audio", "text" and "image".

    Returns:
        (dataset, the column of each modality); nothing is decoded yet.

    Raises:
        ValueError: the source is missing, has no such split or columns, fewer than two modalities, or is empty.
    """
    dataset = open_source(source, TABLE, split=split)
    found = column_types(dataset)
    if columns is None:
        columns = {
            name: next(column for column in medium.columns if column in found)
            for name, medium in MEDIA.items()
            if any(column in found for column in medium.columns)
        }
    if len(columns) < 2:
        usual = ", ".join(repr(medium.columns[0]) for medium in MEDIA.values())
        raise ValueError(
            f"{source} has the columns {', '.join(sorted(found))}, but pairs need those of two or more modalities: "
            f"call them {usual}, or name them with columns"
        )
    for name, column in columns.items():
        if name not in MEDIA:
            raise ValueError(f"columns has {name!r}, but the modalities are {', '.join(MEDIA)}")
        dataset, _ = prepare_column(dataset, source, MEDIA[name], split=split, column=column)
        if MEDIA[name] is TEXTS:
            require_text(dataset, source, column)
    return dataset, dict(columns)


class SentenceReader:
    """Makes `input_ids` [tokens] of an example's text, which is a sample of its own: start token, text, end token.

    Args:
        tokenizer: the model's.
        text_column: the column that holds the texts.
        max_length: tokens that a text is cut at.
    """

    noun = "text"

    def __init__(self, tokenizer: Any, text_column: str = "text", max_length: int = 64) -> None:
        self.tokenize = Tokenize(tokenizer, max_length - 1)
        self.read, self.text_column = TextReader(tokenizer), text_column

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Tensor]:
        text = example[self.text_column]
        if not text or not text.strip():
            raise UnreadableError("its text is empty")
        return self.read({"input_ids": self.tokenize([text])["input_ids"][0]})

    def name(self, example: dict[str, Any]) -> str | None:
        return None


class PairsReader:
    """Makes the inputs of all modalities of an example; one that lacks any of them is passed over.

    Args:
        readers: of each modality.

    Example:
        >>> reader = PairsReader({"text": SentenceReader(tokenizer), "vision": ImageReader(transform)})
        ... # doctest: +SKIP
        >>> samples = SampleDataset(load_pairs("birds.jsonl")[0], reader)  # doctest: +SKIP
    """

    noun = "pair"

    def __init__(self, readers: Mapping[str, SampleReader]) -> None:
        self.readers = dict(readers)

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Any]:
        parts = {}
        for name, reader in self.readers.items():
            try:
                parts[name] = reader(example, rng)
            except UnreadableError as error:
                raise UnreadableError(f"its {reader.noun} can't be used: {error}") from error
        return {PAIRS: parts}

    def name(self, example: dict[str, Any]) -> str | None:
        return next(filter(None, (reader.name(example) for reader in self.readers.values())), None)


class PairsCollator:
    """Makes a batch of paired samples: `inputs` and, where something is padded, `attention_mask` of each modality.

    Nothing is masked: the whole of one modality predicts the whole of another.

    Args:
        collators: of each modality.
    """

    def __init__(self, collators: Mapping[str, MaskCollator]) -> None:
        self.collators = dict(collators)

    @classmethod
    def of(cls, config: Data2Vec2Config) -> "PairsCollator":
        """That of a joint model, in which nothing is cropped."""
        return cls({name: mask_collator(config.of(name)) for name in config.modalities})

    def __call__(self, examples: Examples) -> dict[str, dict[str, dict[str, Tensor]]]:
        keys = torch.tensor([int(example.get("key", 0)) for example in examples], dtype=torch.int32)
        batch = {}
        for name in examples[0][PAIRS]:
            inputs, _, _ = self.collators[name].batch([example[PAIRS][name] for example in examples], keys)
            batch[name] = {"inputs" if key == INPUTS[name] else key: value for key, value in inputs.items()}
        return {PAIRS: batch}
