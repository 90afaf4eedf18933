"""Token embeddings that are word vectors of the data and stay so: for corpora too small to learn them."""

from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import nn
from transformers.utils import logging

from ..data.packing import PackedDocuments
from ..media.word_vectors import neighbour_vectors

logger = logging.get_logger(__name__)

NOTHING = 1e-6  # vectors of a smaller size are those of tokens without neighbours
MOST_TOKENS = 10_000_000  # of the data that are counted: a matter of a minute and a GB


def keep_word_vectors(embeddings: nn.Embedding, samples: Any) -> None:
    """Let token embeddings be vectors of the tokens by their neighbours in the data, which training does not change.

    A recipe's `data.word_vectors` asks for it. The trunk then learns from the first step on what goes together;
    embeddings that are trained on a few million tokens lose more than they gain (docs/learning.md). A token without
    neighbours keeps its random embedding. Streams and data with few different tokens have none; a warning says so.

    Args:
        embeddings: those of a new model; their spread stays what it is.
        samples: what it is to be trained on, of `TextModality.samples`.
    """
    if not isinstance(samples.dataset, PackedDocuments):
        say_random("a stream's texts are not known before training")
        return
    size, width = embeddings.weight.shape
    every = -(-int(samples.dataset.ends[-1]) // MOST_TOKENS)  # document of large data
    rows = samples.dataset.documents[::every]["input_ids"]
    ids, owners = (part.to_numpy() for part in (pc.list_flatten(rows), pc.list_parent_indices(rows)))
    vectors = torch.from_numpy(neighbour_vectors(ids.astype(np.int64), owners, size, width))  # [vocabulary, width]
    known = vectors.abs().sum(1) > NOTHING
    if int(known.sum()) <= width:
        say_random(f"only {int(known.sum())} tokens have neighbours, too few for vectors of hidden_size {width}")
        return
    with torch.no_grad():
        embeddings.weight[known] = vectors[known] * (embeddings.weight.std() / vectors[known].std())
    embeddings.requires_grad_(False)


def say_random(why: str) -> None:
    """Warn that there are no word vectors."""
    logger.warning(f"Token embeddings begin at random and are trained, not word vectors: {why}.")
