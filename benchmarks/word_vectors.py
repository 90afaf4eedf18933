"""Averages of word vectors that a core makes in seconds of unlabelled texts: what a text model has to beat."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modeling_data2vec.trainers.media.word_vectors import neighbour_vectors

WORD = re.compile(r"\w+|[^\w\s]")
LEAST = 3  # times that a word has to occur


def words_of(text: str) -> list[str]:
    """Words and signs, in small letters.

    Example:
        >>> words_of("It's one.")
        ['it', "'", 's', 'one', '.']
    """
    return WORD.findall(text.lower())


@dataclass(frozen=True)
class WordVectors:
    """Vectors of words by their names.

    Attributes:
        numbers: the row of each word.
        vectors: [words, channels].
    """

    numbers: dict[str, int]
    vectors: np.ndarray

    @classmethod
    def train(cls, texts: list[str], channels: int) -> "WordVectors":
        """Make vectors of all words that occur in `texts` at least three times; rarer ones are left out."""
        documents = [words_of(text) for text in texts]
        counts = Counter(word for words in documents for word in words)
        numbers = {word: row for row, (word, count) in enumerate(counts.most_common()) if count >= LEAST}
        numbered = [[numbers[word] for word in words if word in numbers] for words in documents]
        owners = np.repeat(np.arange(len(numbered)), [len(document) for document in numbered])
        ids = np.concatenate(numbered).astype(np.int64)
        return cls(numbers, neighbour_vectors(ids, owners, len(numbers), channels))

    def mean(self, texts: list[str]) -> np.ndarray:
        """Average vector of the known words of each text, [texts, channels]; 0 where there is none."""
        means = np.zeros((len(texts), self.vectors.shape[1]), np.float32)
        for row, text in enumerate(texts):
            known = [self.numbers[word] for word in words_of(text) if word in self.numbers]
            if known:
                means[row] = self.vectors[known].mean(0)
        return means

    def save(self, file: Path) -> None:
        np.savez(file, words=np.array(list(self.numbers)), vectors=self.vectors)

    @classmethod
    def load(cls, file: Path) -> "WordVectors":
        with np.load(file) as arrays:
            return cls({str(word): row for row, word in enumerate(arrays["words"])}, arrays["vectors"])
