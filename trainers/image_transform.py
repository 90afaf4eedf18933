"""From what a data set holds to a normalised tensor: decoding, and the recipe's augmentation without torchvision."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from .samples import UnreadableError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def decode_image(value: Any, num_channels: int) -> Image.Image | Tensor:
    """Bring what a dataset holds into one form: a PIL image for 1 and 3 channels, else a float [C, H, W] tensor.

    Args:
        value: {"bytes", "path"} as an undecoded image column gives it, a PIL image, or an array [H, W], [H, W, C] or
            [C, H, W] (floats are taken as 0 to 1, integers as 0 to 255).
        num_channels: channels of the model; grey and colour images are converted into each other.

    Raises:
        UnreadableError: the file can't be decoded.
        ValueError: an array with another number of channels.
    """
    if value is None or (isinstance(value, dict) and not value.get("bytes") and not value.get("path")):
        raise UnreadableError("the dataset holds no image here")
    if isinstance(value, dict):
        try:
            with Image.open(io.BytesIO(value["bytes"]) if value.get("bytes") else value["path"]) as image:
                image.load()
                value = image.copy()
        except Exception as error:  # decoders raise anything on broken data: OSError, SyntaxError, struct.error, ...
            raise UnreadableError(str(error)) from error
    if isinstance(value, Image.Image):
        if value.mode.startswith("I;16"):  # PIL would clip 16 bits instead of scaling them
            value = Image.fromarray((np.asarray(value) >> 8).astype(np.uint8))
        if num_channels in (1, 3):
            return value.convert("L" if num_channels == 1 else "RGB")
        value = np.asarray(value)
    array = np.asarray(value)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or num_channels not in (array.shape[0], array.shape[2]):
        raise ValueError(
            f"an image of shape {array.shape} does not have the model's {num_channels} channel(s): convert the data, "
            "or set num_channels"
        )
    if array.shape[2] == num_channels:
        array = array.transpose(2, 0, 1)
    tensor = torch.from_numpy(np.array(array, dtype=np.float32))
    return tensor if np.issubdtype(array.dtype, np.floating) else tensor / 255


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
    """

    size: tuple[int, int]
    num_channels: int = 3
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: bool = True
    color_jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)

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
        self._mean = torch.tensor(self.mean).view(-1, 1, 1)
        self._std = torch.tensor(self.std).view(-1, 1, 1)

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
            fp32 [channels, height, width], normalised.
        """
        is_tensor = isinstance(image, Tensor)
        if rng and any(self.color_jitter) and isinstance(image, Image.Image):
            image = self.jitter(image, rng)
        width, height = (image.shape[2], image.shape[1]) if isinstance(image, Tensor) else image.size
        left, top, right, bottom = self.crop_box(width, height, rng) if rng else (0, 0, width, height)
        if isinstance(image, Tensor):
            pixels = image[None, :, top:bottom, left:right]
            if pixels.shape[2:] != self.size:
                pixels = torch.nn.functional.interpolate(pixels, self.size, mode="bicubic", antialias=True)
            pixels = pixels[0]
        else:
            if image.size != self.size[::-1] or (left, top, right, bottom) != (0, 0, width, height):
                image = image.crop((left, top, right, bottom)).resize(self.size[::-1], Image.Resampling.BICUBIC)
            array = np.array(image, dtype=np.float32).reshape(*self.size, -1)  # [H, W, C]
            pixels = torch.from_numpy(array).permute(2, 0, 1) / 255
        if rng and self.horizontal_flip and rng.random() < 0.5:
            pixels = pixels.flip(2)
        assert is_tensor or pixels.shape[0] == self.num_channels
        return ((pixels - self._mean) / self._std).contiguous()
