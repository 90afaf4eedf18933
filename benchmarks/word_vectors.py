"""Word vectors that a core makes in seconds: a text model has to beat them, or its token embeddings begin with them.

A word is what it stands beside: counts of neighbours within five places, as positive pointwise mutual information,
reduced to their largest singular vectors. Levy and Goldberg (NeurIPS 2014) show that word2vec factorizes nearly that
matrix.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORD = re.compile(r"\w+|[^\w\s]")
WINDOW = 5  # places on either side


def neighbour_vectors(documents: list, size: int, dimensions: int = 128) -> np.ndarray:
    """Vectors of numbered words, fp32 [size, dimensions]; 0 for those that have no neighbours.

    Args:
        documents: sequences of numbers below `size`; -1 for words that are left out.
        size: how many words there are.
        dimensions: of a vector.

    Example:
        >>> neighbour_vectors([[0, 1, 2], [0, 1, 3]], 5, dimensions=2).shape
        (5, 2)
    """
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    gap = [-1] * WINDOW  # words of two documents are no neighbours
    numbers = np.array([number for document in documents for number in (*document, *gap)])
    counts = sparse.csr_matrix((size, size))
    for distance in range(1, WINDOW + 1):
        left, right = numbers[:-distance], numbers[distance:]
        both = (left >= 0) & (right >= 0)
        pairs = sparse.coo_matrix((np.ones(both.sum()), (left[both], right[both])), shape=(size, size)).tocsr()
        counts = counts + pairs + pairs.T
    totals = np.asarray(counts.sum(1)).ravel()
    context = totals**0.75  # frequent words count less as neighbours, as in word2vec
    counts = counts.tocoo()
    information = np.log(counts.data * context.sum() / (totals[counts.row] * context[counts.col]))
    kept = information > 0
    matrix = sparse.csr_matrix((information[kept], (counts.row[kept], counts.col[kept])), shape=(size, size))
    vectors, strengths, _ = randomized_svd(matrix, dimensions, n_iter=3, random_state=0)
    return (vectors * np.sqrt(strengths)).astype(np.float32)


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
        vectors: [words, dimensions].
    """

    numbers: dict[str, int]
    vectors: np.ndarray

    @classmethod
    def train(cls, texts: list[str], least: int = 3) -> "WordVectors":
        """Make vectors of all words that occur in `texts` at least `least` times."""
        documents = [words_of(text) for text in texts]
        counts = Counter(word for words in documents for word in words)
        numbers = {word: row for row, (word, count) in enumerate(counts.most_common()) if count >= least}
        numbered = [[numbers.get(word, -1) for word in words] for words in documents]
        return cls(numbers, neighbour_vectors(numbered, len(numbers)))

    def mean(self, texts: list[str]) -> np.ndarray:
        """Average vector of the known words of each text, [texts, dimensions]; 0 where there is none."""
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
