"""What features look like as a set of points: CKA between two of them, alignment and uniformity of one."""

import numpy as np

CKA_BATCH = 512  # samples that are compared with each other at a time


def cka(first: np.ndarray, second: np.ndarray, *, batch_size: int = CKA_BATCH) -> np.ndarray:
    """Linear CKA between all layers of one encoder and all layers of another, on the same samples.

    1 means equal up to rotation and one common scale, 0 unrelated. The unbiased HSIC of Song et al. (2012, eq. 5) is
    averaged over batches before the ratio is taken (Nguyen et al. 2021, "Do Wide and Deep Networks Learn the Same
    Things?", eq. 3): the usual estimator approaches 1 for any features with more dimensions than samples, and depends
    on the size of a batch. Values a little below 0 are noise.

    Args:
        first: [L, N, D] features of L layers for N samples.
        second: [L', N, D'], of the same samples.
        batch_size: samples compared at a time; memory grows with (L + L') * batch_size².

    Returns:
        fp64 [L, L'], at most 1; NaN where a layer is the same for all samples.

    Raises:
        ValueError: for arrays of other shapes, unequal numbers of samples, or fewer than 4.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(1, 100, 8))
        >>> float(np.round(cka(x, -2 * x[..., ::-1])[0, 0], 6))
        1.0
    """
    if first.ndim != 3 or second.ndim != 3 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features have shapes {first.shape} and {second.shape}, but must be [layers, samples, channels] of the "
            "same samples"
        )
    count = first.shape[1]
    if min(count, batch_size) < 4:
        raise ValueError(f"CKA needs at least 4 samples (there are {count}) in batches of at least 4 ({batch_size})")
    batches = np.array_split(np.arange(count), max(1, count // max(4, batch_size)))
    between, own_first, own_second = np.zeros((len(first), len(second))), np.zeros(len(first)), np.zeros(len(second))
    for batch in batches:
        x, y = _centred_grams(first[:, batch]), _centred_grams(second[:, batch])  # [L, n * n], [L', n * n]
        pairs = len(batch) * (len(batch) - 3)
        between += x @ y.T / pairs
        own_first += (x * x).sum(1) / pairs
        own_second += (y * y).sum(1) / pairs
    scale = np.sqrt(own_first[:, None] * own_second)
    return np.divide(between, scale, out=np.full_like(between, np.nan), where=scale > 0)


def _centred_grams(features: np.ndarray) -> np.ndarray:
    """U-centred inner products of all pairs of samples (Székely and Rizzo 2014): [L, n, D] to [L, n * n].

    The inner product of two such matrices, over n (n - 3), is the unbiased HSIC.
    """
    x = features.astype(np.float64)
    x = x - x.mean(1, keepdims=True)
    x[np.abs(x).max((1, 2)) < 1e-12] = 0.0  # rounding errors of a constant are not a structure
    grams = x @ x.transpose(0, 2, 1)  # [L, n, n]
    count = grams.shape[1]
    diagonal = np.arange(count)
    grams[:, diagonal, diagonal] = 0.0
    rows = grams.sum(2) / (count - 2)  # [L, n]
    total = grams.sum((1, 2)) / ((count - 1) * (count - 2))  # [L]
    grams += total[:, None, None] - rows[:, :, None] - rows[:, None, :]
    grams[:, diagonal, diagonal] = 0.0
    return grams.reshape(len(grams), -1)  # [L, n * n]


def on_sphere(features: np.ndarray) -> np.ndarray:
    """Rows [N, D] scaled to length 1, fp64; a zero row stays."""
    x = np.asarray(features, dtype=np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def alignment(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distance on the unit sphere of each sample's two views (Wang and Isola 2020, section 4, alpha = 2).

    Args:
        first, second: [N, D] features of two views of N samples.

    Returns:
        fp64 [N], from 0 (the same direction) to 4 (opposite); their mean is the alignment loss: lower is better.

    Example:
        >>> alignment(np.array([[3.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 5.0]]))
        array([0., 2.])
    """
    return np.square(on_sphere(first) - on_sphere(second)).sum(-1)


def class_alignment(features: np.ndarray, labels: np.ndarray) -> float:
    """The alignment of pairs of different samples of one class: mean over all such pairs; NaN if there are none.

    Args:
        features: [N, D].
        labels: [N] classes; or bool [N, C], true at those that a sample has, where a pair counts once for each class
            that it shares.
    """
    x = on_sphere(features)
    total, pairs = 0.0, 0
    classes = labels.T if labels.ndim == 2 else [labels == name for name in np.unique(labels)]
    for own in classes:
        members = x[own]
        count = len(members)
        # Over all ordered pairs: sum |x - y|² = 2 n sum |x|² - 2 |sum x|².
        total += 2 * count * np.square(members).sum() - 2 * np.square(members.sum(0)).sum()
        pairs += count * (count - 1)
    return float(total / pairs) if pairs else float("nan")


def uniformity(features: np.ndarray) -> float:
    """Logarithm of the mean Gaussian potential of all pairs on the unit sphere (Wang and Isola 2020, section 4, t = 2).

    Args:
        features: [N, D], N at least 2.

    Returns:
        0 if all directions are the same, towards -4 the more evenly they fill the sphere (of many dimensions): lower is
        better.

    Example:
        >>> round(uniformity(np.array([[2.0, 0.0], [0.0, 1.0]])), 6)
        -4.0
    """
    x = on_sphere(features)
    above = np.triu_indices(len(x), 1)
    distances = 2 - 2 * (x @ x.T)[above]
    return float(np.log(np.exp(-2 * distances).mean()))
