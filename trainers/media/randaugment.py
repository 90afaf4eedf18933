"""RandAugment and random erasing, with PIL and torch alone (arXiv 1909.13719, 1708.04896)."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from .image_transform import ImageTransform

MAX_LEVEL = 10.0
SPEC = re.compile(r"rand((?:-(?:m\d+(?:\.\d+)?|n\d+|mstd\d+(?:\.\d+)?|inc1|p\d+(?:\.\d+)?))*)")


# ---- one operation each: an image and a strength from 0 to 1 ----


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    fill = (128,) * len(image.getbands())
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        resample=Image.Resampling.BICUBIC,
        fillcolor=fill if len(fill) > 1 else 128,
    )


def _signed(rng: Random, value: float) -> float:
    return value if rng.random() < 0.5 else -value


def _rotate(image: Image.Image, strength: float, rng: Random) -> Image.Image:
    angle = math.radians(_signed(rng, 30 * strength))
    x, y = image.width / 2, image.height / 2
    cos, sin = math.cos(angle), math.sin(angle)
    return _affine(image, (cos, sin, x - x * cos - y * sin, -sin, cos, y + x * sin - y * cos))


def _shear_x(image: Image.Image, strength: float, rng: Random) -> Image.Image:
    return _affine(image, (1, _signed(rng, 0.3 * strength), 0, 0, 1, 0))


def _shear_y(image: Image.Image, strength: float, rng: Random) -> Image.Image:
    return _affine(image, (1, 0, 0, _signed(rng, 0.3 * strength), 1, 0))


def _translate_x(image: Image.Image, strength: float, rng: Random) -> Image.Image:
    return _affine(image, (1, 0, _signed(rng, 0.45 * strength) * image.width, 0, 1, 0))


def _translate_y(image: Image.Image, strength: float, rng: Random) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, _signed(rng, 0.45 * strength) * image.height))


def _posterize(image: Image.Image, strength: float, rng: Random) -> Image.Image:
    return ImageOps.posterize(image, max(1, 4 - int(4 * strength)))


def _solarize(image: Image.Image, strength: float, rng: Random) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(256 * strength))


def _solarize_add(image: Image.Image, strength: float, rng: Random) -> Image.Image:
    added = int(110 * strength)
    return image.point(
        [min(255, value + added) if value < 128 else value for value in range(256)] * len(image.getbands())
    )


def _enhance(enhancer: type) -> Callable[[Image.Image, float, Random], Image.Image]:
    def change(image: Image.Image, strength: float, rng: Random) -> Image.Image:
        return enhancer(image).enhance(max(0.1, 1 + _signed(rng, 0.9 * strength)))

    return change


OPERATIONS: tuple[Callable[[Image.Image, float, Random], Image.Image], ...] = (
    lambda image, strength, rng: ImageOps.autocontrast(image),
    lambda image, strength, rng: ImageOps.equalize(image),
    lambda image, strength, rng: ImageOps.invert(image),
    *(_rotate, _shear_x, _shear_y, _translate_x, _translate_y, _posterize, _solarize, _solarize_add),
    *(_enhance(one) for one in (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness)),
    _enhance(ImageEnhance.Sharpness),
)


@dataclass(frozen=True)
class RandAugment:
    """A few random operations on a grey or colour PIL image, of those whose effect grows with the magnitude.

    Args:
        magnitude: mean strength, from 0 to 10.
        magnitude_std: its standard deviation.
        num_ops: operations drawn for an image, each done with probability `prob`.
        prob: see `num_ops`.

    Example:
        >>> RandAugment.from_text("rand-m9-mstd0.5-inc1")
        RandAugment(magnitude=9.0, magnitude_std=0.5, num_ops=2, prob=0.5)
    """

    magnitude: float = 9.0
    magnitude_std: float = 0.5
    num_ops: int = 2
    prob: float = 0.5

    @classmethod
    def from_text(cls, text: str) -> "RandAugment":
        """Read timm's notation: m magnitude, mstd its spread, n operations, p probability; inc1 is always on.

        Raises:
            ValueError: it is written in another way, or the magnitude is above 10.
        """
        match = SPEC.fullmatch(text)
        values = dict(re.findall(r"-(mstd|m|n|p)(\d+(?:\.\d+)?)", match[1])) if match else {}
        if match is None or not 0 <= float(values.get("m", 9)) <= MAX_LEVEL:
            raise ValueError(
                f"rand_augment is {text!r}, but must be like 'rand-m9-mstd0.5-inc1': m from 0 to 10, mstd, n "
                "operations, p their probability"
            )
        return cls(
            float(values.get("m", 9)),
            float(values.get("mstd", 0)),
            int(values.get("n", 2)),
            float(values.get("p", 0.5)),
        )

    def __call__(self, image: Image.Image, rng: Random) -> Image.Image:
        for operation in rng.choices(OPERATIONS, k=self.num_ops):
            if rng.random() < self.prob:
                level = rng.gauss(self.magnitude, self.magnitude_std)
                image = operation(image, min(MAX_LEVEL, max(0.0, level)) / MAX_LEVEL, rng)
        return image


def erase(pixels: Tensor, rng: Random) -> Tensor:
    """A random rectangle, 2 to 33% of the image, replaced with normal noise (arXiv 1708.04896).

    Args:
        pixels: normalised [channels, H, W].
        rng: decides place, shape and noise.
    """
    height, width = pixels.shape[1:]
    for _ in range(10):
        area = height * width * rng.uniform(0.02, 1 / 3)
        ratio = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < tall < height and 0 < wide < width:
            top, left = rng.randint(0, height - tall), rng.randint(0, width - wide)
            generator = torch.Generator().manual_seed(rng.getrandbits(31))
            erased = pixels.clone()
            erased[:, top : top + tall, left : left + wide] = torch.randn(len(pixels), tall, wide, generator=generator)
            return erased
    return pixels


@dataclass
class FinetuningTransform(ImageTransform):
    """Turns a training image into a tensor: crop, RandAugment, flip, normalisation, erasing.

    Args:
        rand_augment: for images of 1 or 3 channels.
        erasing: probability of `erase`.

    The other arguments are those of `ImageTransform`.
    """

    rand_augment: RandAugment | None = None
    erasing: float = 0.0

    def __call__(self, image: Image.Image | Tensor, rng: Random | None = None) -> Tensor:
        """Transform an image; arguments and result as in `ImageTransform`."""
        if rng is None:
            return super().__call__(image)
        if self.rand_augment is None or not isinstance(image, Image.Image):
            pixels = super().__call__(image, rng)
        else:
            box = self.crop_box(*image.size, rng)
            image = image.crop(box).resize(self.size[::-1], Image.Resampling.BICUBIC)
            pixels = super().__call__(self.rand_augment(image, rng))
            if self.horizontal_flip and rng.random() < 0.5:
                pixels = pixels.flip(2)
        return erase(pixels, rng) if rng.random() < self.erasing else pixels
