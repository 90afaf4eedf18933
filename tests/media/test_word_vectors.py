"""Averaged word vectors: neighbours decide, on real text and where there is next to nothing."""

import pydoc_data.topics
import re

import numpy as np
import torch

from modeling_data2vec.trainers.media.word_vectors import mean_word_vectors


def cosine(x, y):
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_tokens_with_the_same_neighbours_are_alike():
    """3 and 4 are never in one text, but stand between the same tokens; 5 stands elsewhere."""
    rng = np.random.default_rng(0)
    pairs = [(10, 11, 3), (10, 11, 4), (20, 21, 5)]
    texts = [torch.tensor([first, token, last]) for first, last, token in (pairs[i] for i in rng.integers(0, 3, 300))]
    x, y = mean_word_vectors(texts, [torch.tensor([token]) for token in (3, 4, 5)])
    assert x.dtype == y.dtype == np.float32 and len(x) == 300
    assert cosine(y[0], y[1]) > 0.9 and cosine(y[0], y[2]) < 0.1


def test_words_of_real_text_that_are_used_alike():
    words = [re.findall(r"\w+", topic.lower()) for topic in pydoc_data.topics.topics.values()]
    ids = {word: number for number, word in enumerate(sorted({word for topic in words for word in topic}))}
    texts = [torch.tensor([ids[word] for word in topic]) for topic in words]
    chosen = ["int", "float", "import"]
    _, y = mean_word_vectors(texts, [torch.tensor([ids[word]]) for word in chosen])
    assert y.shape == (3, 200) and cosine(y[0], y[1]) > cosine(y[0], y[2]) + 0.1


def test_next_to_nothing():
    unknown = [torch.tensor([9])]
    for texts in ([torch.tensor([1])], [torch.tensor([1]), torch.tensor([2])], [torch.tensor([1, 1])]):
        x, y = mean_word_vectors(texts, unknown)
        assert x.shape[0] == len(texts) and np.isfinite(x).all() and not y.any()
