"""Text for pretraining and probes: sources, and what makes a tensor of tokens."""

import re
from random import Random
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..data.packing import Tokenize, start_and_end
from ..data.samples import UnreadableError, read_labelled
from ..sources.loading import STRINGS, column_types, load_source, prepare_column
from ..sources.source_files import TEXT_SUFFIXES, Medium

TEXTS = Medium(noun="text", suffixes=TEXT_SUFFIXES, columns=("text", "content", "document", "sentence"))


# ---- sources ----


def load_text(
    source: str, *, split: str = "train", text_column: str | None = None, streaming: bool = False
) -> tuple[Any, str]:
    """Open a set of documents.

    Args:
        source: "python-docs" (chapters of the language reference that come with Python, a paragraph a document), or
            a `.txt` file or a folder of them, in UTF-8, where an empty line ends a document; or what `load_source`
            takes: a table (parquet, JSONL, CSV, TSV) or a folder of tables, a folder that `Dataset.save_to_disk`
            wrote, or a Hub id.
        split: the split to take where the source has several.
        text_column: the column that holds text; found by itself if it has one of the usual names.
        streaming: read the source as it comes, without an index.

    Returns:
        (dataset, text column).

    Raises:
        ValueError: the source is missing, has no such split or column, is not text, or is empty.

    Example:
        >>> dataset, column = load_text("python-docs")
        >>> column, len(dataset) > 1_000
        ('text', True)
    """
    if source == "python-docs":
        dataset = python_docs(split).to_iterable_dataset() if streaming else python_docs(split)
        return prepare_column(dataset, source, TEXTS, split=split, column=text_column)
    dataset, column = load_source(source, TEXTS, split=split, column=text_column, streaming=streaming)
    require_text(dataset, source, column)
    return dataset, column


def require_text(dataset: Any, source: str, column: str) -> None:
    """Require that a column holds text, and not e.g. numbers, whose writing is not known any more.

    Raises:
        ValueError: it holds something else.
    """
    kind = column_types(dataset)[column]
    if kind not in STRINGS:
        raise ValueError(
            f"column {column!r} of {source} holds {kind}, not text: name another with text_column (--column of the "
            "commands), or write it as text, in JSON in quotes"
        )


def python_docs(split: str = "train") -> datasets.Dataset:
    """Paragraphs of the language reference that Python's `help` shows, each once; "train" is the only split."""
    from pydoc_data.topics import topics

    if split != "train":
        raise ValueError(f"python-docs has the split 'train' alone, not {split!r}")
    paragraphs = (paragraph.strip("\n") for name in sorted(topics) for paragraph in re.split(r"\n\s*\n", topics[name]))
    return datasets.Dataset.from_dict({"text": [text for text in dict.fromkeys(paragraphs) if text.strip()]})


# ---- what fits together ----


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """Rows that an embedding of all the tokenizer's ids needs; ids may have gaps."""
    return max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: Any, block_length: int) -> None:
    """Require that a model can take the tokenizer's ids and sequences of `block_length` tokens.

    Raises:
        ValueError: it can't; the message says what to change.
    """
    size = vocabulary_size(tokenizer)
    if size > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {size} tokens, but the model's vocab_size is {config.vocab_size}: set vocab_size to "
            f"at least {size}, or use the tokenizer that belongs to the model"
        )
    if tokenizer.pad_token_id != config.pad_token_id:
        raise ValueError(
            f"the tokenizer's pad token has the id {tokenizer.pad_token_id}, but the model's pad_token_id is "
            f"{config.pad_token_id}, an id that it never learns: set pad_token_id to the tokenizer's"
            + ("" if tokenizer.pad_token_id is not None else ", after giving it a pad_token of its own")
        )
    if block_length > config.max_tokens:
        raise ValueError(
            f"block_length is {block_length}, but the model's max_position_embeddings leaves room for "
            f"{config.max_tokens} tokens: lower block_length, or raise max_position_embeddings"
        )
    start_and_end(tokenizer)


# ---- reading ----


class TextReader:
    """Makes `input_ids` [tokens] of an example of `pack_documents`: the start token, then the example's.

    Args:
        tokenizer: the one that the documents were tokenised with.
    """

    noun = "text"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.start = start_and_end(tokenizer)[0]

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Tensor]:
        tokens = example["input_ids"]
        if not len(tokens):
            raise UnreadableError("it is empty")
        return {"input_ids": torch.from_numpy(np.concatenate([[self.start], tokens]).astype(np.int64))}

    def name(self, example: dict[str, Any]) -> str | None:
        return None


def load_labelled_text(
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str,
    max_length: int,
    text_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
) -> tuple[list[Tensor], np.ndarray]:
    """Texts and labels of a split, whole and in memory, for probes.

    Args:
        source, split, text_column: as for `load_text`.
        tokenizer: as for `pack_documents`.
        max_length: tokens, with those for start and end, that a text is cut at.
        label_column, limit: as for `read_labelled`.

    Returns:
        (N int64 tensors [tokens], [N] labels); empty texts are left out with a warning.
    """
    dataset, text_column = load_text(source, split=split, text_column=text_column)
    tokenize = Tokenize(tokenizer, max_length - 1)
    # Tokenised when an example is read: of a large set, `limit` leaves most alone.
    dataset = dataset.with_transform(lambda batch: {**batch, **tokenize(batch[text_column])})
    samples, labels = read_labelled(
        dataset, TextReader(tokenizer), source=source, split=split, label_column=label_column, limit=limit
    )
    return [sample["input_ids"] for sample in samples], labels
