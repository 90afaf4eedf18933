"""Pictures of samples: what the masks hide, and what the features of each position see; images, speech and text."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from torch import Tensor
from transformers import PreTrainedModel

from ..modalities.names import modality
from ..monitoring.curves import save_figure
from .baselines import random_weights
from .features import Inputs, frame_features
from .pooling import real_positions

SHOWN = 6  # samples of a picture, one a row
AVERAGED = 48  # samples that are enough for the mean features of each position


def plot_masks(
    model: PreTrainedModel, inputs: Inputs, masks: Tensor, path: str | PathLike[str], processor: Any = None
) -> Path:
    """Show what each mask leaves to the student: the first 6 samples, their masks side by side.

    Args:
        model: the model that the masks are for; it says what kind of samples they are.
        inputs: N samples: images [N, channels, height, width], or a list of images, waveforms [samples] or token ids
            [T].
        masks: bool [N, M, T], True where a position is hidden (drawn grey); padded at the end where samples differ in
            length. At most 5 masks of an image are shown, 3 of others.
        path: the PNG file to write, which is returned; its folder is made.
        processor: what made the inputs: an image processor, whose normalisation is undone; a feature extractor, which
            knows the sampling rate (else 16 kHz); or a tokenizer, which knows the words (else ids are shown).

    Raises:
        ValueError: if masks and samples don't fit together.
    """
    name = model.base_model.main_input_name
    lengths = [real_positions(model, {name: sample[None]}).shape[1] for sample in inputs]
    if masks.ndim != 3 or masks.shape[::2] != (len(inputs), max(lengths)):
        raise ValueError(
            f"masks has shape {tuple(masks.shape)}, but {len(inputs)} samples of at most {max(lengths)} positions "
            f"(patches, frames, tokens) need [{len(inputs)}, masks, {max(lengths)}]"
        )
    kind = modality(model.base_model)(model.base_model.config, processor)
    hidden = masks[:SHOWN, : kind.max_masks].bool().cpu().numpy()
    own = [mask[:, :length] for mask, length in zip(hidden, lengths, strict=False)]  # [M, T] of each sample
    shares = np.concatenate(own, axis=1).mean(1)
    titles = [f"mask {number}: {share:.0%} hidden" for number, share in enumerate(shares, start=1)]
    return save_figure(
        kind.canvas(inputs[:SHOWN]).draw_masks({title: [mask[m] for mask in own] for m, title in enumerate(titles)}),
        path,
    )


def pca_maps(
    model: PreTrainedModel, inputs: Inputs, path: str | PathLike[str], processor: Any = None, *, layer: int = -1
) -> Path:
    """Colour each position by the first three principal components of its features, beside an untrained encoder's.

    Each position's mean over the samples is taken out first: it says where a position is, and would outweigh what is
    there. Components are taken over all positions of all samples together, so that one colour means one thing in
    the whole column; each is stretched from its 2nd to its 98th percentile. Colours of different columns are unrelated.

    Args:
        model: any encoder that `extract_features` takes.
        inputs, path, processor: as for `plot_masks`; of more than 6 samples, 6 are shown, evenly spread, and all count
            for means and components. Images have a map beside them, clips a strip of frames under their spectrogram,
            and tokens stand on their colours.
        layer: as in `extract_features`.

    Raises:
        ValueError: for fewer than 3 positions in all, and as `extract_features`.
    """
    shown = np.linspace(0, len(inputs) - 1, min(SHOWN, len(inputs))).round().astype(int)
    colours = {}
    for title, encoder in (("model", model), ("random weights", random_weights(model))):
        of_each = _pca_colours(*frame_features(encoder, inputs, layer=layer))
        colours[title] = [of_each[number] for number in shown]
    kind = modality(model.base_model)(model.base_model.config, processor)
    return save_figure(kind.canvas([inputs[number] for number in shown]).draw_colours(colours), path)


def _pca_colours(features: np.ndarray, samples: np.ndarray) -> list[np.ndarray]:
    """Features [F, D] of all positions to RGB [T, 3] for each sample; `samples` [F] says whose they are."""
    if len(features) < 3:
        raise ValueError(f"{len(features)} position(s) are too few for 3 components: give more samples, or longer ones")
    content = without_position_means(features, samples)
    components = PCA(3, svd_solver="covariance_eigh").fit_transform(content)  # [F, 3]
    low, high = np.percentile(components, [2, 98], axis=0)
    colours = ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    return np.split(colours, np.flatnonzero(np.diff(samples)) + 1)


def without_position_means(features: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Take the mean over samples of each position out of its features.

    A position that only one sample has, e.g. the end of the longest clip, keeps its features less their overall mean.

    Args:
        features: [F, D] of all positions, sample after sample.
        samples: [F], whose they are, as `frame_features` gives them.

    Returns:
        [F, D].

    Example:
        >>> without_position_means(np.array([[1.0], [5.0], [3.0], [9.0]]), np.array([0, 0, 1, 1]))
        array([[-1.],
               [-2.],
               [ 1.],
               [ 2.]])
    """
    counts = np.bincount(samples)
    positions = np.concatenate([np.arange(count) for count in counts])  # [F]
    having = np.bincount(positions)  # [T], how many samples have each position
    sums = np.zeros((len(having), features.shape[1]))
    np.add.at(sums, positions, features)
    means = np.where(having[:, None] > 1, sums / having[:, None], features.mean(0))  # [T, D]
    return features - means[positions]
