"""Paired samples, e.g. a picture with its written and its spoken name: tables of them, and their batches."""

from collections.abc import Collection, Mapping
from random import Random
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from modeling_data2vec import Data2Vec2Config
from modeling_data2vec.cross_modal import PAIRS

from ..data.collators import Examples, MaskCollator
from ..data.samples import SampleReader, UnreadableError, readable_inputs
from ..sources.loading import column_types, open_source
from ..sources.source_files import Medium
from .names import mask_collator, modalities


def load_pairs(
    source: str,
    *,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    names: Collection[str] | None = None,
    streaming: bool = False,
) -> tuple[Any, dict[str, str]]:
    """Open a table of paired samples.

    Args:
        source: a manifest (JSONL, CSV, TSV, parquet) with a column for each modality, or a folder of them: paths of
            images and audio files, relative to it, and texts themselves. Or another source of `load_source`.
        split: the split to take where the source has several.
        columns: the column of each modality, "audio", "text" and "vision". By default those of the usual names, e.g.
            "audio", "text" and "image".
        names: the modalities to look for then; default: all, and of two that read the same files the first.
        streaming: read the table as it comes, without an index.

    Returns:
        (dataset, the column of each modality); nothing is decoded yet.

    Raises:
        ValueError: the source is missing, has no such split or columns, fewer than two modalities, or is empty.
    """
    known = modalities()
    looked_for = {name: kind.medium for name, kind in known.items() if names is None or name in names}
    numbers = dict.fromkeys(column for medium in looked_for.values() for column in medium.numbers)
    table = Medium(noun="table of pair", suffixes=frozenset(), columns=(), numbers=tuple(numbers))
    dataset = open_source(source, table, split=split, streaming=streaming)
    found = column_types(dataset)
    if columns is None:
        columns = {}
        for name, medium in looked_for.items():
            column = next((column for column in medium.columns if column in found), None)
            if column is not None and column not in columns.values():
                columns[name] = column
    if len(columns) < 2:
        usual = ", ".join(dict.fromkeys(repr(medium.columns[0]) for medium in looked_for.values()))
        raise ValueError(
            f"{source} has the columns {', '.join(sorted(found))}, but pairs need those of two or more modalities: "
            f"call them {usual}, or name them with columns"
        )
    for name, column in columns.items():
        if name not in known:
            raise ValueError(f"columns has {name!r}, but the modalities are {', '.join(known)}")
        dataset, _ = known[name].prepare(dataset, source, split=split, column=column)
    return dataset, dict(columns)


def shuffled_pairs(dataset: datasets.Dataset, columns: Mapping[str, str], seed: int = 0) -> datasets.Dataset:
    """The same rows with their pairs broken: a control for whatever is learned from pairs.

    Rows stand in a circle, in random order, and the n-th modality moves by n places. So each cell is still there once,
    and no two of a row belong together.

    Args:
        dataset, columns: of `load_pairs`.
        seed: of the order.

    Raises:
        ValueError: there are not more rows than columns.

    Example:
        >>> rows = datasets.Dataset.from_dict({"image": [0, 1, 2, 3], "text": ["0", "1", "2", "3"]})
        >>> broken = shuffled_pairs(rows, {"vision": "image", "text": "text"})
        >>> sorted(broken["text"]), any(str(image) == text for image, text in zip(broken["image"], broken["text"]))
        (['0', '1', '2', '3'], False)
    """
    if len(dataset) <= len(columns):
        raise ValueError(f"{len(dataset)} pairs of {len(columns)} columns can't be broken: more rows are needed")
    order = np.random.default_rng(seed).permutation(len(dataset))
    moved = []
    for places, column in enumerate(columns.values()):
        source = np.empty_like(order)
        source[order] = np.roll(order, places)  # the row that gives its cell to each
        moved.append(dataset.select_columns(column).select(source.tolist()).flatten_indices())
    return datasets.concatenate_datasets(moved, axis=1)


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
                parts[name] = readable_inputs(reader, example, rng)
            except UnreadableError as error:
                raise UnreadableError(f"its {reader.noun} can't be used: {error}") from error
        return {PAIRS: parts}

    def name(self, example: dict[str, Any]) -> str | None:
        return next(filter(None, (reader.name(example) for reader in self.readers.values())), None)


class PairsCollator:
    """Makes a batch of paired samples: `inputs` and, where something is padded, `attention_mask` of each modality.

    Args:
        collators: of each modality.
        masked: whether to draw masks, with `ids_keep` and `noise_keys`, as for batches of a single modality, for models
            with `cross_attention_layers`. By default nothing is masked: the whole of one modality predicts the whole of
            another.
    """

    def __init__(self, collators: Mapping[str, MaskCollator], *, masked: bool = False) -> None:
        self.collators, self.masked = dict(collators), masked

    @classmethod
    def of(cls, config: Data2Vec2Config) -> "PairsCollator":
        """That of a joint model, in which nothing is cropped."""
        collators = {name: mask_collator(config.of(name)) for name in config.modalities}
        return cls(collators, masked=bool(config.cross_attention_layers))

    def __call__(self, examples: Examples) -> dict[str, dict[str, dict[str, Tensor]]]:
        keys = torch.tensor([int(example.get("key", 0)) for example in examples], dtype=torch.int32)
        batch = {}
        for name in examples[0][PAIRS]:
            collator = self.collators[name]
            samples = [example[PAIRS][name] | {"key": key} for example, key in zip(examples, keys, strict=True)]
            inputs = collator(samples) if self.masked else collator.batch(samples, keys)[0]
            own_name = modalities()[name].input_name
            batch[name] = {"inputs" if key == own_name else key: value for key, value in inputs.items()}
        return {PAIRS: batch}
