"""TF-IDF of token ids, a baseline of texts."""

from typing import Any

import numpy as np

from .word_vectors import Texts


def tfidf(train: Texts, test: Texts) -> tuple[Any, Any]:
    """TF-IDF of single tokens and pairs of neighbours, weighted by how rare they are in `train`.

    Args:
        train, test: N texts as token ids [T], without padding.

    Returns:
        Two sparse fp32 matrices [N, distinct tokens and pairs in train], rows of length 1.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        tokenizer=lambda ids: [str(token) for token in ids.tolist()],
        lowercase=False,
        token_pattern=None,
        ngram_range=(1, 2),
        dtype=np.float32,
    )
    return vectorizer.fit_transform(train), vectorizer.transform(test)
