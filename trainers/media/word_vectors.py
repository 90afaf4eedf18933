"""Averaged word vectors, a baseline of texts: trained in seconds on the texts themselves.

Letters: N texts, T tokens of a text, V distinct tokens, D channels.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from torch import Tensor

Texts = Tensor | Sequence[Tensor]

WINDOW = 5  # tokens on either side that count as neighbours
CHANNELS = 200
SMOOTHING = 0.75  # power of the neighbours' frequencies, as in word2vec


def mean_word_vectors(train: Texts, test: Texts) -> tuple[np.ndarray, np.ndarray]:
    """Average the word vectors of each text; the vectors are singular vectors of how often tokens are neighbours.

    Positive pointwise mutual information of tokens at most 5 apart, its singular vectors times the roots of the
    singular values: as good as word2vec at equal settings (Levy, Goldberg and Dagan 2015), and a matter of seconds.
    The training texts need no labels.

    Args:
        train, test: N texts as token ids [T], without padding.

    Returns:
        fp32 [N, D] of both, D at most 200; a token that is not in `train` does not count.

    Example:
        >>> import torch
        >>> train = [torch.tensor(ids) for ids in ([1, 2, 3], [1, 2, 4], [5, 6, 7])]
        >>> x, y = mean_word_vectors(train, [torch.tensor([3, 4]), torch.tensor([99])])
        >>> x.shape, y.shape, float(abs(y[1]).sum())
        ((3, 6), (2, 6), 0.0)
    """
    names, ids = np.unique(np.concatenate([text.cpu().numpy() for text in train]), return_inverse=True)
    owners = np.repeat(np.arange(len(train)), [len(text) for text in train])
    vectors = neighbour_vectors(ids, owners, len(names))
    return _means(train, names, vectors), _means(test, names, vectors)


def neighbour_vectors(ids: np.ndarray, owners: np.ndarray, size: int, channels: int = CHANNELS) -> np.ndarray:
    """Vectors of tokens by their neighbours, as `mean_word_vectors` averages them.

    Args:
        ids: [T] tokens of all texts, one text after the other, below `size`.
        owners: [T] which text each is of.
        size: V, how many different tokens there may be.
        channels: D, at most V - 1.

    Returns:
        fp32 [V, D]; 0 for a token without neighbours. A single channel of 0 where nothing has any.

    Example:
        >>> neighbour_vectors(np.array([0, 1, 2, 0, 1]), np.array([0, 0, 0, 1, 1]), 4, channels=2).shape
        (4, 2)
    """
    from sklearn.decomposition import TruncatedSVD

    information = _positive_information(ids, owners, size)
    channels = min(channels, size - 1)
    if channels < 1 or not information.nnz:  # a single token, or no neighbours at all
        return np.zeros((size, 1), np.float32)
    svd = TruncatedSVD(channels, random_state=0)
    return (svd.fit_transform(information) / np.sqrt(np.maximum(svd.singular_values_, 1e-6))).astype(np.float32)


def _positive_information(ids: np.ndarray, owners: np.ndarray, size: int) -> csr_matrix:
    """max(0, log p(a, b) / (p(a) p(b))) of tokens at most WINDOW apart in the same text: [V, V]."""
    counts = csr_matrix((size, size), dtype=np.float64)
    for distance in range(1, WINDOW + 1):
        same = owners[distance:] == owners[:-distance]
        first, second = ids[:-distance][same], ids[distance:][same]
        counts = counts + coo_matrix((np.ones(len(first)), (first, second)), shape=(size, size)).tocsr()
    counts = (counts + counts.T).tocoo()
    own = np.asarray(counts.sum(1)).ravel()
    smooth = own**SMOOTHING
    expected = own[counts.row] * smooth[counts.col] / max(smooth.sum(), 1e-12)
    information = np.log(counts.data / expected)
    kept = information > 0
    return csr_matrix((information[kept], (counts.row[kept], counts.col[kept])), shape=(size, size))


def _means(texts: Texts, names: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    means = np.zeros((len(texts), vectors.shape[1]), np.float32)
    for row, text in enumerate(texts):
        tokens = text.cpu().numpy()
        places = np.searchsorted(names, tokens).clip(max=len(names) - 1)
        known = places[names[places] == tokens]
        if len(known):
            means[row] = vectors[known].mean(0)
    return means
