"""Images on their way to the device as bytes, a quarter of their size in fp32; the device normalises them."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..media.image_transform import ImageTransform, normalized
from ..modalities.image import ImageReader
from ..modalities.mixture import MixtureDataset


@dataclass
class DeviceNormalization:
    """Normalises the images of a batch that are bytes.

    Args:
        mean, std: [C, 1, 1], for values from 0 to 1.

    Example:
        >>> half = torch.full((1, 1, 1), 0.5)
        >>> batch = {"pixel_values": torch.tensor([[[[0, 255]]]], dtype=torch.uint8), "key": 3}
        >>> DeviceNormalization(half, half)(batch)["pixel_values"].round()
        tensor([[[[-1.,  1.]]]])
    """

    mean: Tensor
    std: Tensor
    _there: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, inputs: Any) -> Any:
        """A batch with images as fp32; all else as it is."""
        if isinstance(inputs, Mapping):
            return {name: self(value) for name, value in inputs.items()}
        if not isinstance(inputs, Tensor) or inputs.dtype != torch.uint8:
            return inputs
        if inputs.device not in self._there:  # copied once: each copy would wait for a GPU
            self._there[inputs.device] = self.mean.to(inputs.device), self.std.to(inputs.device)
        return normalized(inputs, *self._there[inputs.device])


def kept_as_bytes(samples: Any) -> tuple[Any, DeviceNormalization]:
    """Samples whose images stay bytes, and what normalises them.

    Args:
        samples: a data set of image files or pictures, or a mix with one; it is left as it is.

    Raises:
        ValueError: it has no such images.
    """
    if isinstance(samples, MixtureDataset):
        for name, source in samples.sources.items():
            if isinstance(getattr(source.samples, "reader", None), ImageReader):
                its_samples, normalization = kept_as_bytes(source.samples)
                mix = copy(samples)
                mix.sources = samples.sources | {name: replace(source, samples=its_samples)}
                return mix, normalization
    reader = getattr(samples, "reader", None)
    if not isinstance(reader, ImageReader) or type(reader.transform) is not ImageTransform:
        raise ValueError(
            "normalize_on_device is given, but train_dataset has no image files or pictures that this package "
            "crops and normalises: leave normalize_on_device out"
        )
    samples, samples_reader = copy(samples), copy(reader)
    samples_reader.transform = replace(reader.transform, normalize=False)
    samples.reader = samples_reader
    return samples, DeviceNormalization(*reader.transform.statistics)
