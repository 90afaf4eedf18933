"""Word vectors that a core trains in seconds: what a text model has to beat.

A word is what it stands beside: counts of words within five places, as positive pointwise mutual information, reduced
to their largest singular vectors. Levy and Goldberg (NeurIPS 2014) show that word2vec factorizes nearly that matrix.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORD = re.compile(r"\w+|[^\w\s]")
WINDOW = 5  # words on either side


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
    def train(cls, texts: list[str], dimensions: int = 128, least: int = 3) -> "WordVectors":
        """Make vectors of all words that occur in `texts` at least `least` times."""
        from scipy import sparse
        from sklearn.utils.extmath import randomized_svd

        documents = [words_of(text) for text in texts]
        counts = Counter(word for words in documents for word in words)
        numbers = {word: row for row, (word, count) in enumerate(counts.most_common()) if count >= least}
        gap = [-1] * WINDOW  # between documents, which are no neighbours
        ids = np.array([number for words in documents for number in (*(numbers.get(w, -1) for w in words), *gap)])
        size = len(numbers)
        pairs = sparse.csr_matrix((size, size))
        for distance in range(1, WINDOW + 1):
            left, right = ids[:-distance], ids[distance:]
            both = (left >= 0) & (right >= 0)
            found = sparse.coo_matrix((np.ones(both.sum()), (left[both], right[both])), shape=(size, size)).tocsr()
            pairs = pairs + found + found.T
        totals = np.asarray(pairs.sum(1)).ravel()
        context = totals**0.75  # frequent words count less as contexts, as in word2vec
        pairs = pairs.tocoo()
        information = np.log(pairs.data * context.sum() / (totals[pairs.row] * context[pairs.col]))
        kept = information > 0
        matrix = sparse.csr_matrix((information[kept], (pairs.row[kept], pairs.col[kept])), shape=(size, size))
        left, strengths, _ = randomized_svd(matrix, dimensions, n_iter=3, random_state=0)
        return cls(numbers, (left * np.sqrt(strengths)).astype(np.float32))

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
