"""Text: sources, what makes a tensor of tokens, batches with masks, baseline and pictures."""

import math
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..data.collators import Examples, MaskCollator, pad_inputs
from ..data.packing import UNKNOWN_LENGTH, SeparateDocuments, Tokenize, most_tokens, pack_documents, start_and_end
from ..data.samples import (
    LabelledSet,
    ReadLabels,
    SampleDataset,
    SampleReader,
    UnreadableError,
    as_samples,
    read_labelled,
)
from ..data.streams import shuffled
from ..media.tfidf import tfidf
from ..media.word_vectors import mean_word_vectors
from ..sources.loading import STRINGS, column_types, load_source, prepare_column, shown_type
from ..sources.opening import name_of
from ..sources.source_files import TEXT_SUFFIXES, Medium
from .base import Inputs, MadeUp, Modality, RawFeatures, Samples, require_sequences
from .drawing import TextCanvas

PROBE_TOKENS = 512  # the most that probes read of a text
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
    require_text(dataset, name_of(source), column)
    return dataset, column


def require_text(
    dataset: Any, source: str, column: str, *, option: str = "text_column (--column of the commands)"
) -> None:
    """Require that a column holds text, and not e.g. numbers, whose writing is not known any more.

    Args:
        dataset: with the column.
        source: for messages.
        column: that is read as text.
        option: for messages: what names another.

    Raises:
        ValueError: it holds something else.
    """
    kind = column_types(dataset)[column]
    if kind not in STRINGS:
        raise ValueError(
            f"column {column!r} of {source} holds {shown_type(kind)}, not text: name another with {option}, "
            "or write it as text, in JSON in quotes"
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
) -> tuple[list[Tensor], ReadLabels]:
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
        if not isinstance(text, str | None):
            raise ValueError(f"a text is held as {type(text).__name__}, but must be a string: convert the data")
        if not text or not text.strip():
            raise UnreadableError("its text is empty")
        if text.encode(errors="ignore").decode() != text:
            raise UnreadableError("its text holds half a character (a lone surrogate, \\ud...)")
        return self.read({"input_ids": self.tokenize([text])["input_ids"][0]})

    def name(self, example: dict[str, Any]) -> str | None:
        return None


# ---- batches, baseline, pictures ----


class TextMaskCollator(MaskCollator):
    """Pads token sequences to the longest and masks tokens.

    Raises:
        ValueError: a sequence is too short to hide one token and show another.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextConfig
        >>> collator = TextMaskCollator(Data2Vec2TextConfig(num_masks=4))
        >>> batch = collator([{"input_ids": torch.arange(n), "key": n} for n in (12, 8)])
        >>> tuple(batch["mask"].shape), batch["mask"].sum(2).tolist()
        ((2, 4, 12), [[6, 6, 6, 6], [4, 4, 4, 4]])
    """

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        sequences = [example["input_ids"] for example in examples]
        shortest = min(len(sequence) for sequence in sequences)
        if shortest < 2:
            raise ValueError(f"a sequence has {shortest} token(s), but masks need two: leave out empty texts")
        input_ids, attention_mask = pad_inputs(sequences, self.config.pad_token_id)
        grid = (int(input_ids.shape[1]),)
        if attention_mask is None:
            return {"input_ids": input_ids}, grid, None
        return {"input_ids": input_ids, "attention_mask": attention_mask}, grid, attention_mask.sum(1)


# ---- all of it ----


class TextModality(Modality):
    """Text: documents tokenised, joined and cut into blocks; with `pack: false` in a recipe's data each by itself."""

    name, input_name, title = "text", "input_ids", "text"
    sample, position = "sequence", "token"
    medium = TEXTS
    processor_class = AutoTokenizer
    data_keys = frozenset({"block_length", "pack", "tokenizer", "word_vectors"})
    color = "#D55E00"
    takes_tokenizer = starts_with_cls = True
    length_name = "tokens"

    @classmethod
    def made_up(cls, config: Mapping[str, Any]) -> MadeUp:
        return MadeUp("", '"A text."')

    def check_data(self, where: str) -> None:
        for name in ("pack", "word_vectors"):
            if not isinstance(value := self.data.get(name, True), bool):
                raise ValueError(f"{where}: data.{name} is {value!r}, but must be true or false")
        positions = getattr(self.config, "max_tokens", math.inf)
        if self.data.get("block_length", 0) > positions:
            raise ValueError(
                f"{where}: data.block_length is {self.data['block_length']}, but the model takes {positions} tokens: "
                "lower it, or raise max_position_embeddings in config_overrides"
            )

    @classmethod
    def default_processor(cls, config: Any) -> Any:
        """There is none: ids mean nothing without their tokenizer."""
        raise ValueError(
            "processing_class is missing: pass the tokenizer that the model's vocabulary is of (`data2vec tokenizer` "
            "trains one), or columns of input_ids"
        )

    @property
    def longest(self) -> int:
        """Tokens that the model takes."""
        return int(min(getattr(self.config, "max_position_embeddings", UNKNOWN_LENGTH), most_tokens(self.config)))

    @property
    def block_length(self) -> int:
        """Tokens that a sample has in training."""
        return self.data.get("block_length", self.longest)

    def align(self, *, new_model: bool) -> None:
        config, tokenizer = self.config, self.processor
        if new_model and tokenizer.pad_token_id is not None:
            config.vocab_size = vocabulary_size(tokenizer)
            for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
                setattr(config, name, getattr(tokenizer, name))
        if hasattr(config, "mask_token"):  # data2vec 1.0 shows one at hidden positions
            if tokenizer.mask_token_id is None:
                raise ValueError(
                    "the tokenizer has no mask token, which data2vec 1.0 puts at hidden positions: give it one "
                    "(tokenizer.add_special_tokens), or use a tokenizer that `data2vec tokenizer` trained"
                )
            config.mask_token_id = tokenizer.mask_token_id
        check_tokenizer(tokenizer, config, self.block_length)

    def load(
        self, source: str, *, split: str = "train", column: str | None = None, streaming: bool = False
    ) -> tuple[Any, str]:
        return load_text(source, split=split, text_column=column, streaming=streaming)

    @classmethod
    def prepare(cls, dataset: Any, source: str, *, split: str = "train", column: str | None = None) -> tuple[Any, str]:
        dataset, column = super().prepare(dataset, source, split=split, column=column)
        require_text(dataset, source, column)
        return dataset, column

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        dataset, column = self.load(source, split=split, column=column, streaming=streaming)
        documents = shuffled(dataset, seed)  # before they are cut
        pack = self.data.get("pack", True)
        blocks = pack_documents(documents, self.processor, self.block_length, text_column=column, pack=pack)
        samples = as_samples(blocks, TextReader(self.processor), seed)
        if isinstance(blocks, SeparateDocuments):
            samples.lengths = (blocks.sizes + 1).tolist()  # with the start token
        return samples

    def reader(self, column: str) -> SampleReader:
        return SentenceReader(self.processor, column, min(self.block_length, self.processor.model_max_length))

    def whole_reader(self, column: str) -> SampleReader:
        return SentenceReader(self.processor, column, min(self.longest, self.processor.model_max_length))

    def labelled(
        self, source: str, *, split: str, column: str | None, label_column: str | None = None, limit: int | None = None
    ) -> LabelledSet:
        columns = {"text_column": column, "label_column": label_column}
        longest = min(self.longest, PROBE_TOKENS)
        return load_labelled_text(source, self.processor, split=split, max_length=longest, limit=limit, **columns)

    def collator(self) -> MaskCollator:
        return TextMaskCollator(self.config)

    def num_positions(self, samples: Samples) -> int | None:
        if samples.lengths is not None:
            return sum(samples.lengths)
        return len(samples) * self.block_length if isinstance(samples, SampleDataset) else None

    def grid(self, sample: Tensor) -> tuple[int, ...]:
        return (len(sample),)

    def pad(self, samples: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        return pad_inputs(samples, getattr(self.config, "pad_token_id", None) or 0)

    def real_positions(self, encoder: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
        values, mask = inputs[self.input_name], inputs.get("attention_mask")
        require_sequences(self.input_name, values)
        return torch.ones(values.shape, dtype=torch.bool) if mask is None else mask.bool().cpu()

    def default_length(self) -> float | None:
        return self.data.get("block_length") or min(self.config.max_tokens, self.config.max_position_embeddings)

    def example(self, length: float | None = None) -> Tensor:
        tokens = int(length or self.default_length() or 0)
        if tokens > self.config.max_tokens:
            raise ValueError(
                f"tokens is {tokens}, but the model takes {self.config.max_tokens}: give shorter sequences"
            )
        return torch.empty(tokens, dtype=torch.int64, device="meta")

    def local_products(self, example: Tensor) -> list[tuple[int, int, int]]:
        return []  # tokens are looked up

    def raw_features(self) -> list[RawFeatures]:
        return [RawFeatures("TF-IDF", tfidf), RawFeatures("word vectors", mean_word_vectors)]

    def canvas(self, inputs: Inputs) -> TextCanvas:
        return TextCanvas(list(inputs), self.processor)
