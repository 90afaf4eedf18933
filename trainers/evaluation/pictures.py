"""Pictures of samples: what the masks hide, and what the features of each position see; images, speech and text."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import eigh
from torch import Tensor
from transformers import PreTrainedModel

from ..modalities.names import modality
from ..monitoring.curves import save_figure
from .baselines import random_weights
from .features import Inputs, frame_features
from .pooling import real_positions

SHOWN = 6  # samples of a picture, one a row
AVERAGED = 48  # samples that components are taken over
OUTWEIGHED = 0.03  # share of the mean variance that is added to that of positions


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
    """Colour each position by three components of its features, beside an untrained encoder's.

    Plain principal components would mostly show where a position is. These are the directions in which samples differ
    most at one and the same position, compared with how much positions differ (`content_axes`). They are taken
    over all positions of all samples together, so that one colour means one thing in the whole column; each is
    stretched from its 2nd to its 98th percentile. Colours of different columns are unrelated.

    Args:
        model: any encoder that `extract_features` takes.
        inputs, path, processor: as for `plot_masks`; of more than 6 samples, 6 are shown, evenly spread, and all count
            for the components. Images have a map beside them, clips a strip of frames under their spectrogram,
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
    require_positions(features)
    mean, axes = content_axes(features, samples)
    components = (features - mean) @ axes
    colours = stretched(components, *np.percentile(components, [2, 98], axis=0))
    return np.split(colours, np.flatnonzero(np.diff(samples)) + 1)


def place_in_sample(samples: np.ndarray) -> np.ndarray:
    """Which position of its sample each row is: int64 [F], from 0; `samples` [F] says whose they are."""
    return np.concatenate([np.arange(count) for count in np.bincount(samples)])


def content_axes(features: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three directions in which features tell samples apart, rather than positions.

    Of all directions these have the most variance between samples at the same position, in units of the variance of
    the positions' means (Fisher's criterion) plus a small share of the mean variance, which keeps directions out that
    hardly vary at all. Where position plays no role they are the principal components.

    Args:
        features: [F, D] of all positions, sample after sample.
        samples: [F], whose they are, as `frame_features` gives them.

    Returns:
        (mean [D], axes [D, 3]), fp64.

    Example: the first channel says where a position is, the others what is there.
        >>> position, content = np.tile(np.arange(4.0), 25), np.random.default_rng(0).normal(size=(100, 3))
        >>> features = np.column_stack([9 * position, content])
        >>> mean, axes = content_axes(features, np.repeat(np.arange(25), 4))
        >>> bool(abs(np.corrcoef(((features - mean) @ axes).T, position)[3, :3]).max() < 0.3)
        True
    """
    positions = place_in_sample(samples)  # [F]
    having = np.bincount(positions)  # [T], how many samples have each position
    mean = features.mean(0, dtype=np.float64)
    centred = features - mean
    sums = np.zeros((len(having), features.shape[1]))
    np.add.at(sums, positions, centred)
    # A position that only one sample has, e.g. the end of the longest clip, says nothing about positions.
    means = np.where(having[:, None] > 1, sums / having[:, None], 0.0)[positions]  # [F, D]
    content = (centred - means).T @ (centred - means) / len(features)  # [D, D]
    place = means.T @ means / len(features)
    small = OUTWEIGHED * np.trace(content + place) / len(place) + 1e-12
    return mean, eigh(content, place + small * np.eye(len(place)))[1][:, :-4:-1]


def stretched(components: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Numbers [F, 3] as colours from 0 at `low` to 1 at `high`, [3] each."""
    return ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1)


def require_positions(features: np.ndarray) -> None:
    """Raise a ValueError for fewer than 3 positions, of which no 3 components can be taken."""
    if len(features) < 3:
        raise ValueError(f"{len(features)} position(s) are too few for 3 components: give more samples, or longer ones")
