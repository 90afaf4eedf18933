"""From documents to training samples: tokens, joined and cut into blocks, or cut document by document."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from .streams import Position, Share, SharedStream, as_stream, in_chunks

logger = logging.get_logger(__name__)

# Models of transformers that count positions from the padding's id on, as RoBERTa does: fewer are left for tokens.
COUNT_FROM_PADDING = {
    *("data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert"),
    *("esm", "ibert", "longformer", "luke", "mpnet"),
}
UNKNOWN_LENGTH = 512  # tokens that a text is cut at where the model's config doesn't say how many it takes
MAP_BATCH = 100  # documents in memory at once; whole books are meant to fit


def pack_documents(
    dataset: Any, tokenizer: PreTrainedTokenizerBase, block_length: int, *, text_column: str = "text", pack: bool = True
) -> Any:
    """Tokenise documents, join them, and cut what results into blocks; without `pack` each document by itself.

    Each document ends with the end token. A block holds `block_length - 1` tokens, before which `TextReader` puts the
    start token; the last block, of the corpus or of each document, is shorter unless it happens to be full, so no token
    is lost. Map-style data are tokenised once and cached by `datasets`. Streams are tokenised as they come; `Stream`
    shuffles them before. Each worker of a stream packs its own documents.

    Args:
        dataset: a `datasets.Dataset` or `IterableDataset`, or a `Stream`.
        tokenizer: a fast one, with a start and an end token. Names of special tokens in the text are plain text.
        block_length: tokens of a sample, with the start token; at least 3.
        text_column: the column that holds the documents.
        pack: False for blocks of one document each: shorter ones, whose tokens all belong together.

    Returns:
        a data set of {"input_ids": tokens without the start token}, map-style or iterable as `dataset` is.

    Raises:
        ValueError: `block_length` is too small, the tokenizer is slow or lacks a token, or there is no text at all.

    Example:
        >>> from modeling_data2vec.trainers.modalities.tokenizer_training import train_tokenizer
        >>> texts = datasets.Dataset.from_dict({"text": ["one two", "three", "four five six"]})
        >>> blocks = pack_documents(texts, train_tokenizer(texts["text"], 280), 5)
        >>> [len(blocks[index]["input_ids"]) for index in range(len(blocks))]
        [4, 4, 1]
    """
    if block_length < 3:
        raise ValueError(f"block_length is {block_length}, but a start, a token and an end need 3")
    tokenize = Tokenize(tokenizer)
    if not isinstance(dataset, datasets.Dataset):
        return PackedStream(dataset, tokenize, text_column, block_length - 1, pack=pack)
    documents = dataset.map(
        tokenize,
        batched=True,
        batch_size=MAP_BATCH,
        input_columns=[text_column],
        remove_columns=dataset.column_names,
        features=datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))}),
        desc="Tokenizing",
    )
    return (PackedDocuments if pack else SeparateDocuments)(documents, block_length - 1)


def most_tokens(config: Any) -> float:
    """Tokens of the longest text that a model takes; infinity for a model of ours without learned positions.

    Example:
        >>> from transformers import BertConfig, Data2VecTextConfig
        >>> most_tokens(BertConfig()), most_tokens(Data2VecTextConfig(max_position_embeddings=514))
        (512, 512)
    """
    if hasattr(config, "max_tokens"):
        return config.max_tokens
    positions = int(getattr(config, "max_position_embeddings", UNKNOWN_LENGTH))
    return positions - (config.pad_token_id or 0) - 1 if config.model_type in COUNT_FROM_PADDING else positions


def start_and_end(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Ids of the tokens before a sample and after a document; BERT's [CLS] and [SEP] serve, too.

    Raises:
        ValueError: the tokenizer lacks one.
    """
    start = tokenizer.cls_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    if start is None or end is None:
        raise ValueError(
            f"the tokenizer has the special tokens {tokenizer.special_tokens_map}, but needs one for the start and one "
            "for the end of a text: set bos_token and eos_token"
        )
    return start, end


class Tokenize:
    """Texts to token ids that end with the end token; an empty text has none.

    It holds a copy of the tokenizer's fast part alone, whose settings nobody changes: `datasets` finds what it cached.

    Args:
        tokenizer: a fast tokenizer.
        max_tokens: longer texts are cut, end token included; at least 2.

    Raises:
        ValueError: a slow tokenizer, one without an end token, or `max_tokens` below 2.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int | None = None) -> None:
        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} is a slow tokenizer: load one with a tokenizer.json")
        if max_tokens is not None and max_tokens < 2:
            raise ValueError(f"texts of {max_tokens + 1} tokens have no room for a start, a token and an end: allow 3")
        self.backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_truncation()
        self.backend.no_padding()
        self.end = start_and_end(tokenizer)[1]
        self.max_tokens = max_tokens

    def __call__(self, texts: list[str | None]) -> dict[str, list[list[int]]]:
        self.backend.encode_special_tokens = True  # a "</s>" in a text is three characters; not kept by a pickle
        kept = [text if text and not text.isspace() else "" for text in texts]
        encodings = self.backend.encode_batch_fast(kept, add_special_tokens=False)
        limit = None if self.max_tokens is None else self.max_tokens - 1
        tokens = (encoding.ids[:limit] for encoding in encodings)
        return {"input_ids": [[*ids, self.end] if ids else [] for ids in tokens]}


class PackedDocuments:
    """Blocks of a tokenised, map-style data set; a block is put together when it is asked for.

    Args:
        documents: rows of `input_ids`.
        length: tokens of a block; those of the last one may be fewer.

    Raises:
        ValueError: there are no tokens.
    """

    def __init__(self, documents: datasets.Dataset, length: int) -> None:
        self.documents, self.length = documents.with_format("arrow"), length
        sizes = pc.list_value_length(self.documents[:]["input_ids"]).to_numpy()
        self.ends = np.cumsum(sizes, dtype=np.int64)  # [documents], in tokens
        if not len(sizes) or not self.ends[-1]:
            raise ValueError(f"the {len(sizes)} documents hold no text: there is nothing to train on")
        if empty := int((sizes == 0).sum()):
            logger.warning(f"Passing over {empty} of {len(sizes)} documents: they are empty.")

    def __len__(self) -> int:
        return -(-int(self.ends[-1]) // self.length)

    def bounds(self, index: int) -> tuple[int, int]:
        """First token of a block, and the one behind its last, counted over all documents."""
        start = range(0, int(self.ends[-1]), self.length)[index]  # IndexError beyond the end, as of a list
        return start, min(start + self.length, int(self.ends[-1]))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        start, stop = self.bounds(index)
        first, last = np.searchsorted(self.ends, [start, stop - 1], side="right")
        tokens = pc.list_flatten(self.documents[int(first) : int(last) + 1]["input_ids"])
        skipped = start - (int(self.ends[first - 1]) if first else 0)
        return {"input_ids": tokens.slice(skipped, stop - start).to_numpy()}


class SeparateDocuments(PackedDocuments):
    """Blocks of a tokenised, map-style data set, none of two documents; the last one of each may be shorter.

    Args, Raises: as for `PackedDocuments`.

    Attributes:
        sizes: [blocks] tokens of each.
    """

    def __init__(self, documents: datasets.Dataset, length: int) -> None:
        super().__init__(documents, length)
        sizes = np.diff(self.ends, prepend=0)  # [documents]
        blocks = -(-sizes // length)
        number = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)  # of a block in its document
        self.starts = np.repeat(self.ends - sizes, blocks) + length * number
        self.sizes = np.minimum(length, np.repeat(self.ends, blocks) - self.starts)

    def __len__(self) -> int:
        return len(self.starts)

    def bounds(self, index: int) -> tuple[int, int]:
        start = int(self.starts[index])
        return start, start + int(self.sizes[index])


class PackedStream(SharedStream):
    """Tokens of a stream of documents, which each reader joins and cuts into blocks.

    Args:
        documents: a stream with a column of texts.
        tokenize: makes their tokens.
        column: the texts'.
        length: tokens of a block.
        pack: False for blocks of one document each.
    """

    def __init__(self, documents: Any, tokenize: Tokenize, column: str, length: int, *, pack: bool = True) -> None:
        self.documents, self.tokenize, self.column = as_stream(documents), tokenize, column
        self.length, self.pack = length, pack
        self.source = self.documents.source

    def read(self, epoch: int, share: Share, position: Position | None = None) -> Iterator[tuple[Any, Position]]:
        return in_chunks(lambda start: self._blocks(epoch, share, start), position)

    def _blocks(self, epoch: int, share: Share, start: Position) -> Iterator[tuple[Position, list[Any]]]:
        """(where it starts, blocks) of some documents after the other; tokens that fill no block go on to the next."""
        read = self.documents.read(epoch, share, start.get("documents"))
        tokens, reached = list(start.get("tokens", [])), start.get("documents")
        while some := list(islice(read, MAP_BATCH)):
            here = {"documents": reached, "tokens": list(tokens)}
            rows = self.tokenize([document[self.column] for document, _ in some])["input_ids"]
            if self.pack:
                tokens += chain.from_iterable(rows)
                end = len(tokens) // self.length * self.length
                rows, tokens = [tokens[:end]], tokens[end:]
            blocks = (row[first : first + self.length] for row in rows for first in range(0, len(row), self.length))
            yield here, [{"input_ids": block} for block in blocks]
            reached = some[-1][1]
        if tokens:
            yield {"documents": reached, "tokens": tokens}, [{"input_ids": tokens}]
