"""From the states of a sample's positions (patches, frames, tokens) to one vector, whatever its padding.

Letters: B samples of a batch, E extra tokens, T positions, D channels, N bins.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from modeling_data2vec import Data2Vec2PreTrainingConfig
from modeling_data2vec.embedding import mean_over_positions

from ..modalities.names import modality
from .options import pooling_parts

Grid = tuple[int, ...]

# ---- which positions are real ----


def real_positions(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Which positions of a batch hold something of the sample, and not of its padding.

    Args:
        model: any encoder that `extract_features` takes.
        inputs: its inputs: `pixel_values` [B, channels, height, width], or `input_values` [B, samples] or `input_ids`
            [B, T] with an `attention_mask` of the same shape; without one nothing is padding. Or those of another
            modality.

    Returns:
        bool [B, T].

    Raises:
        ValueError: for inputs of another shape, samples without any position, or an encoder whose positions can't be
            counted.
    """
    encoder = model.base_model
    real = modality(encoder)(encoder.config).real_positions(encoder, inputs)
    if not real.any(1).all():
        raise ValueError("a sample has no position at all: leave out clips shorter than one frame, and empty texts")
    return real


def without_extra_tokens(states: Tensor, real: Tensor, encoder: PreTrainedModel) -> Tensor:
    """[B, E + T, D] without the extra tokens: [B, T, D]."""
    num_extra = states.shape[1] - real.shape[1] if states.ndim == 3 else -1
    own = encoder.config.num_extra_tokens if isinstance(encoder.config, Data2Vec2PreTrainingConfig) else 0
    # How many extra tokens another image encoder has, only its output tells.
    if num_extra < 0 or (not modality(encoder).any_extra_tokens and num_extra != own):
        raise ValueError(
            f"the encoder gives states of shape {tuple(states.shape)} for {real.shape[1]} positions (patches, frames, "
            "tokens), but must give one token for each: convolutional and hierarchical encoders are not supported, and "
            "an encoder that drops patches must be told not to (mask_ratio=0)"
        )
    return states[:, num_extra:]


# ---- one vector of them ----


def pool_states(
    states: Tensor, real: Tensor, inputs: Mapping[str, Tensor], pooling: str, encoder: PreTrainedModel
) -> Tensor:
    """Pool a batch.

    Args:
        states: [B, E + T, D] of one layer.
        real: bool [B, T], from `real_positions`.
        inputs: what the encoder was given: they tell the grid of the positions.
        pooling: as in `extract_features`.
        encoder: that gave the states.

    Returns:
        [B, D'], the poolings side by side.

    Raises:
        ValueError: the pooling is unknown, or the encoder or a sample does not have it.
    """
    positions = without_extra_tokens(states, real, encoder)  # [B, T, D]
    kind = modality(encoder)(encoder.config)
    found = []
    for name, bins in pooling_parts(pooling):
        if name == "mean":
            found.append(mean_over_positions(positions, real))
        elif name == "max":
            found.append(positions.masked_fill(~real[..., None], -torch.inf).amax(1))
        elif name == "std":
            mean = mean_over_positions(positions, real)[:, None]
            found.append(mean_over_positions((positions - mean).square(), real).sqrt())
        elif name == "cls":
            found.append(_cls_token(states, states.shape[1] - real.shape[1], encoder))
        elif name == "flatten":
            if not real.all():
                raise ValueError('pooling is "flatten", but samples are padded: choose "mean" or "max"')
            found.append(positions.flatten(1))
        else:
            grids = kind.real_grids(inputs, real)
            _check_grid(name, pooling, grids[0], kind.first_axis_is_time, kind.title)
            found.append(_by_grid(positions, real, grids, BINNED[name], bins))
    return torch.cat(found, dim=1)


def _cls_token(states: Tensor, num_extra: int, encoder: PreTrainedModel) -> Tensor:
    if num_extra == 0 and not modality(encoder).starts_with_cls:  # a text begins with its tokenizer's CLS token
        raise ValueError('pooling is "cls", but the encoder has no extra tokens: choose "mean" or "max"')
    ours = num_extra and isinstance(encoder.config, Data2Vec2PreTrainingConfig)
    return states[:, num_extra - 1 if ours else 0]


# ---- bins of a grid ----


def possible_bins(grid: Grid, first_axis_is_time: bool) -> list[str]:
    """Which of "grid", "time" and "bands" positions on a grid have."""
    in_a_line = len(grid) == 1
    possible = {
        "grid": not in_a_line,
        "time": in_a_line or first_axis_is_time,
        "bands": first_axis_is_time and not in_a_line,
    }
    return [name for name, has in possible.items() if has]


def _check_grid(name: str, pooling: str, grid: Grid, first_axis_is_time: bool, title: str) -> None:
    possible, axes = possible_bins(grid, first_axis_is_time), name.partition("_")[0]
    if axes not in possible:
        needs = {
            "grid": "a grid of two axes or more, as images and spectrograms have",
            "time": "positions that follow each other in time, as those of sound and text do",
            "bands": "bands beside time, as spectrograms have",
        }
        others = ["mean", "max", "std", *(one for one in ("grid2", "time6", "bands") if one.rstrip("26") in possible)]
        raise ValueError(
            f"pooling is {pooling!r}, but {name!r} needs {needs[axes]}, and this is a model of {title}: choose "
            f"{', '.join(others)}"
        )


def bin_means(values: Tensor, axis: int, bins: int) -> Tensor:
    """Means of `bins` equal stretches of an axis: [..., n, ...] to [..., bins, ...].

    Stretch i goes from floor(i n / bins) to ceil((i + 1) n / bins), as in torch's adaptive pooling: neighbours share a
    place where n is no multiple of `bins`, and places repeat where n is smaller.

    Example:
        >>> bin_means(torch.arange(5.0), 0, 2)
        tensor([1., 3.])
        >>> bin_means(torch.arange(2.0), 0, 4)
        tensor([0., 0., 1., 1.])
    """
    size = values.shape[axis]
    place = torch.arange(size, device=values.device)
    first = torch.arange(bins, device=values.device)[:, None] * size
    inside = (place >= first // bins) & (place < -(-(first + size) // bins))  # [bins, n]
    weights = inside.to(values.dtype) / inside.sum(1, keepdim=True)
    return torch.tensordot(weights, values, dims=([1], [axis])).movedim(0, axis)


def _grid_means(cells: Tensor, bins: int) -> Tensor:
    """[B, rows, columns, ..., D] to [B, N * N * ... * D]."""
    for axis in range(1, cells.ndim - 1):
        cells = bin_means(cells, axis, bins)
    return cells.flatten(1)


def _time_means(cells: Tensor, bins: int) -> Tensor:
    """[B, time, ..., D] to [B, N * ... * D]: each frame holds its bands side by side."""
    return bin_means(cells, 1, bins).flatten(1)


def _band_means(cells: Tensor, bins: int) -> Tensor:
    """[B, time, bands, ..., D] to [B, bands * ... * D]."""
    return cells.mean(1).flatten(1)


def _band_maxima(cells: Tensor, bins: int) -> Tensor:
    """[B, time, bands, ..., D] to [B, bands * ... * D]."""
    return cells.amax(1).flatten(1)


def _band_deviations(cells: Tensor, bins: int) -> Tensor:
    """[B, time, bands, ..., D] to [B, bands * ... * D]; biased, so that one place in time has a deviation of 0."""
    return cells.std(1, correction=0).flatten(1)


BINNED: dict[str, Callable[[Tensor, int], Tensor]] = {
    "grid": _grid_means,
    "time": _time_means,
    "bands": _band_means,
    "bands_max": _band_maxima,
    "bands_std": _band_deviations,
}


def _by_grid(
    positions: Tensor, real: Tensor, grids: Sequence[Grid], means: Callable[[Tensor, int], Tensor], bins: int
) -> Tensor:
    """Means over the real part of each sample, samples of one grid together: [B, T, D] to [B, D']."""
    pooled: dict[int, Tensor] = {}
    for grid in dict.fromkeys(grids):
        rows = [row for row, own in enumerate(grids) if own == grid]
        cells = positions[rows][real[rows]].unflatten(0, (len(rows), *grid))  # [b, rows, columns, ..., D]
        pooled |= zip(rows, means(cells, bins), strict=True)
    return torch.stack([pooled[row] for row in range(len(grids))])
