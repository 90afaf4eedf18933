"""Turn a picture of any form into a normalised tensor: decoding, and the recipe's augmentation without torchvision."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from ..data.samples import UnreadableError
from .encoded_files import array_of
from .image_files import eight_bits, open_image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def decode_image(value: Any, num_channels: int) -> Image.Image | Tensor:
    """Bring what a dataset holds into one form: a PIL image for 1 and 3 channels, else a float [C, H, W] tensor.

    Files are turned upright as their orientation tag says, and give 8 bits a channel (see `eight_bits`).

    Args:
        value: a file (its path, its bytes, or {"bytes", "path"} as an undecoded image column gives it), a PIL image, or
            an array [H, W], [H, W, C] or [C, H, W]: floats from 0 to 1, integers from 0 to 255, or uint16.
        num_channels: channels of the model; grey and colour images are converted into each other.

    Raises:
        UnreadableError: the file can't be decoded, or its values have no range that says how bright they are.
        ValueError: an array with another number of channels, or something that is no image.
    """
    if is_array(value):
        return _from_array(value, num_channels)
    image = eight_bits(open_image(value))
    if num_channels not in (1, 3):
        return _from_array(image, num_channels)
    mode = "L" if num_channels == 1 else "RGB"
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError as error:
        raise UnreadableError(f"its colours are {image.mode}, which can't become RGB: convert it to PNG") from error


def is_array(value: Any) -> bool:
    """Whether a data set holds values themselves, as an array or as nested lists, and not a file."""
    if isinstance(value, (np.ndarray, Tensor)):
        return value.ndim != 1
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], (list, tuple, np.ndarray))


def _from_array(value: Any, num_channels: int) -> Tensor:
    """[C, H, W] from 0 to 1."""
    try:
        array = array_of(value)
    except ValueError as error:
        raise UnreadableError("its rows are not equally long") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"an image is an array of {array.dtype}, but must hold numbers: convert the data")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or num_channels not in (array.shape[0], array.shape[2]):
        raise ValueError(
            f"an image of shape {array.shape} does not have the model's {num_channels} channel(s): convert the data, "
            "or set num_channels"
        )
    if not array.size:
        raise UnreadableError(f"it is an array of shape {array.shape}, which has no pixels")
    if array.shape[2] == num_channels:
        array = array.transpose(2, 0, 1)
    tensor = torch.from_numpy(np.array(array, dtype=np.float32))
    return tensor / _brightest(array)


def _brightest(array: np.ndarray) -> int:
    """The value that stands for 1, by the type of an array [C, H, W] alone."""
    low, high = array.min(), array.max()
    if not np.isfinite([low, high]).all():
        raise UnreadableError("it holds NaN or infinite values")
    brightest = 1 if array.dtype.kind in "bf" else 255
    if array.shape[0] not in (1, 3):  # measurements rather than colours, with a mean and deviation of their own
        return brightest
    brightest = 65535 if array.dtype == np.uint16 else brightest
    if low < 0 or high > brightest:
        found = f"its {array.dtype} values reach from {low:g} to {high:g}"
        raise UnreadableError(f"{found}, but must be from 0 to {brightest}: scale the data")
    return brightest


@dataclass
class ImageTransform:
    """Colour jitter, random resized crop, flip and normalisation, without torchvision (the published augmentation).

    Args:
        size: (height, width) of the result.
        num_channels: channels of the result.
        mean, std: of each channel, for pixel values between 0 and 1.
        crop_scale: smallest and largest share of the image's area that a crop takes; (1, 1) takes the whole image.
        crop_ratio: smallest and largest aspect ratio of a crop.
        horizontal_flip: flip every second image at random.
        color_jitter: by how much brightness, contrast and saturation may be multiplied or divided, as a share: factors
            from 1 - x to 1 + x, in random order, before the crop. For grey and colour images; (0, 0, 0) for none.
        normalize: False leaves pictures as bytes, for `normalized` to be called later; arrays are normalised anyway.
    """

    size: tuple[int, int]
    num_channels: int = 3
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: bool = True
    color_jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    normalize: bool = True

    @classmethod
    def from_processor(cls, processor: Any, **kwargs: Any) -> "ImageTransform":
        """The resize and normalisation of an image processor, e.g. one from `AutoImageProcessor`.

        Args:
            processor: reads `size`, `image_mean` and `image_std`.
            kwargs: the other arguments of `ImageTransform`.
        """
        size = processor.size
        if "height" in size:
            shape = (size["height"], size["width"])
        else:
            shape = (size["shortest_edge"], size["shortest_edge"])
        given = {"mean": processor.image_mean, "std": processor.image_std} | kwargs
        return cls(shape, len(given["mean"]), **given)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.num_channels:
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} values, but images have {self.num_channels} channel(s)"
                )
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale is {self.crop_scale}, but must be two increasing numbers in (0, 1]")
        if len(self.color_jitter) != 3 or min(self.color_jitter) < 0:
            raise ValueError(
                f"color_jitter is {self.color_jitter}, but must be three shares, of brightness, contrast and saturation"
            )
        if any(self.color_jitter) and self.num_channels not in (1, 3):
            raise ValueError(
                f"color_jitter is {self.color_jitter}, but images with {self.num_channels} channels have no colours: "
                "leave it out"
            )
        self.statistics = torch.tensor(self.mean).view(-1, 1, 1), torch.tensor(self.std).view(-1, 1, 1)

    def jitter(self, image: Image.Image, rng: Random) -> Image.Image:
        """Brightness, contrast and saturation changed by random factors, in random order."""
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        changes = [(enhance, share) for enhance, share in zip(enhancers, self.color_jitter, strict=True) if share]
        rng.shuffle(changes)
        for enhance, share in changes:
            image = enhance(image).enhance(rng.uniform(max(0.0, 1 - share), 1 + share))
        return image

    def crop_box(self, width: int, height: int, rng: Random) -> tuple[int, int, int, int]:
        """A random crop (left, top, right, bottom): ten tries, then the largest centred one."""
        if self.crop_scale == (1.0, 1.0):
            return 0, 0, width, height
        for _ in range(10):
            area = width * height * rng.uniform(*self.crop_scale)
            ratio = math.exp(rng.uniform(math.log(self.crop_ratio[0]), math.log(self.crop_ratio[1])))
            crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                left, top = rng.randint(0, width - crop_width), rng.randint(0, height - crop_height)
                return left, top, left + crop_width, top + crop_height
        crop_width = min(width, round(height * self.crop_ratio[1]))
        crop_height = min(height, round(width / self.crop_ratio[0]))
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        return left, top, left + crop_width, top + crop_height

    def __call__(self, image: Image.Image | Tensor, rng: Random | None = None) -> Tensor:
        """Transform a decoded image.

        Args:
            image: from `decode_image`.
            rng: decides colours, crop and flip; None for no augmentation, only the resize.

        Returns:
            fp32 [channels, height, width], normalised; uint8 without `normalize`.
        """
        is_tensor = isinstance(image, Tensor)
        if rng and any(self.color_jitter) and isinstance(image, Image.Image):
            image = self.jitter(image, rng)
        width, height = (image.shape[2], image.shape[1]) if isinstance(image, Tensor) else image.size
        left, top, right, bottom = self.crop_box(width, height, rng) if rng else (0, 0, width, height)
        flip = bool(rng and self.horizontal_flip and rng.random() < 0.5)
        if isinstance(image, Tensor):
            pixels = image[None, :, top:bottom, left:right]
            if pixels.shape[2:] != self.size:
                pixels = torch.nn.functional.interpolate(pixels, self.size, mode="bicubic", antialias=True)
            pixels = pixels[0]
        else:
            if image.size != self.size[::-1] or (left, top, right, bottom) != (0, 0, width, height):
                image = image.crop((left, top, right, bottom)).resize(self.size[::-1], Image.Resampling.BICUBIC)
            pixels = self._bytes(image, flip)
        if flip and is_tensor:
            pixels = pixels.flip(2)
        assert is_tensor or pixels.shape[0] == self.num_channels
        return normalized(pixels, *self.statistics) if self.normalize or is_tensor else pixels

    def _bytes(self, image: Image.Image, flip: bool) -> Tensor:
        """A picture of the right size as uint8 [C, H, W]; flipped while it is small: a byte a value."""
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image).reshape(*self.size, -1)).permute(2, 0, 1).contiguous()  # from [H, W, C]


def normalized(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Subtract the mean and divide by the standard deviation, in one pass over the values.

    Args:
        pixels: [..., C, H, W], floats from 0 to 1 or uint8 from 0 to 255.
        mean, std: [C, 1, 1], for values from 0 to 1.

    Returns:
        fp32 of the same shape.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> normalized(torch.tensor([[[0, 51]]], dtype=torch.uint8), 0.5 * one, 0.25 * one)
        tensor([[[-2.0000, -1.2000]]])
    """
    is_bytes = pixels.dtype == torch.uint8
    scale = 1 / (std * (255 if is_bytes else 1))
    values = pixels.float()
    return torch.addcmul(-mean / std, values, scale, out=values if is_bytes else None)  # which are a copy then
