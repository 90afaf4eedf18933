"""Two views of a sample that show the same thing: what the alignment of features is measured on."""

import math
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..features import Inputs

SHARE = 0.5  # of a sample's pixels, samples of sound or tokens that a view shows
SHORTEST_CLIP = 800  # samples of sound in a view, so that it makes a frame


def two_views(inputs: Inputs, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Two random crops of each sample, drawn independently; each shows half of it.

    | sample | a view |
    |---|---|
    | image [C, H, W] | a crop of half its area and its aspect ratio, resized to the image's size |
    | waveform [samples], floating point | a stretch of half its length, at least 800 samples |
    | token ids [T], integers | a stretch of half the tokens between the first and the last one, which stay |

    Crops are defined for any encoder. Dropout as an augmentation is not: many are published without it. Flips and
    colours are not used, since whether they leave the meaning alone depends on the data.

    Args:
        inputs: N unbatched samples, a list or a tensor of images.
        seed: decides the crops.

    Example:
        >>> first, second = two_views([torch.arange(1000.0)])
        >>> first[0].shape, second[0].shape
        (torch.Size([800]), torch.Size([800]))
    """
    rng = Random(seed)
    views = [(_crop(sample, rng), _crop(sample, rng)) for sample in inputs]
    return [first for first, _ in views], [second for _, second in views]


def _crop(sample: Tensor, rng: Random) -> Tensor:
    if sample.ndim == 3:
        height, width = sample.shape[1:]
        rows, columns = (max(1, round(math.sqrt(SHARE) * size)) for size in (height, width))
        top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
        crop = sample[None, :, top : top + rows, left : left + columns].float()
        return interpolate(crop, (height, width), mode="bicubic", antialias=True)[0].to(sample.dtype)
    if sample.is_floating_point():
        return _stretch(sample, max(math.ceil(SHARE * len(sample)), SHORTEST_CLIP), rng)
    inner = sample[1:-1]
    return torch.cat([sample[:1], _stretch(inner, math.ceil(SHARE * len(inner)), rng), sample[1:][-1:]])


def _stretch(sample: Tensor, length: int, rng: Random) -> Tensor:
    length = min(length, len(sample))
    start = rng.randint(0, len(sample) - length)
    return sample[start : start + length]
