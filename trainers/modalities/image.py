"""Images: sources, what makes a tensor of one, batches with masks, baseline and pictures."""

from collections.abc import Mapping
from math import prod
from random import Random
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, PreTrainedConfig, PreTrainedModel, ViTImageProcessorPil

from ..data.collators import Examples, MaskCollator
from ..data.samples import LabelledSet, ReadLabels, SampleReader, read_labelled
from ..media.image_transform import IMAGENET_MEAN, IMAGENET_STD, ImageTransform, decode_image
from ..option_checks import check_keys
from ..sources.loading import load_source, prepare_column
from ..sources.source_files import IMAGE_SUFFIXES, Medium
from .base import Inputs, MadeUp, Modality, RawFeatures, flattened

AUGMENTATION_KEYS = {"crop_scale", "crop_ratio", "horizontal_flip", "color_jitter", "mean", "std"}  # in recipes
IMAGES = Medium(noun="image", suffixes=IMAGE_SUFFIXES, columns=("image", "img", "pixel_values"), feature=datasets.Image)


def load_images(
    source: str, *, split: str = "train", image_column: str | None = None, streaming: bool = False
) -> tuple[Any, str]:
    """Open a set of images.

    Args:
        source: "digits" (scikit-learn's), or what `load_source` takes: a folder of images, a table or a folder of
            tables, a folder that `Dataset.save_to_disk` wrote, or a Hub id.
        split: the split to take where the source has several.
        image_column: the column that holds images; found by itself where there is only one.
        streaming: read the source as it comes, without an index.

    Returns:
        (dataset, image column); images are not decoded yet.

    Raises:
        ValueError: the source is missing, has no such split or column, or is empty.
    """
    if source != "digits":
        return load_source(source, IMAGES, split=split, column=image_column, streaming=streaming)
    dataset = digits(split).to_iterable_dataset() if streaming else digits(split)
    return prepare_column(dataset, source, IMAGES, column=image_column)


def digits(split: str = "train") -> datasets.Dataset:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey: 1,297 to train on and, fixed, 500 to test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    chosen = {"train": order[500:], "test": order[:500]}
    if split not in chosen:
        raise ValueError(f"digits has the splits 'train' and 'test', not {split!r}")
    images = (bunch.images[chosen[split]] * (255 / 16)).round().astype(np.uint8)  # [N, 8, 8], 0 to 255
    return datasets.Dataset.from_dict(
        {"image": [Image.fromarray(image) for image in images], "label": bunch.target[chosen[split]].tolist()},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(i) for i in range(10)])}
        ),
    )


class ImageReader:
    """Makes `pixel_values` [channels, height, width] of an example.

    Args:
        transform: what makes a tensor of a decoded image.
        image_column: the column that holds the images.
    """

    noun = "image"

    def __init__(self, transform: ImageTransform, image_column: str = "image") -> None:
        self.transform, self.image_column = transform, image_column

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Tensor]:
        image = decode_image(example[self.image_column], self.transform.num_channels)
        return {"pixel_values": self.transform(image, rng)}

    def name(self, example: dict[str, Any]) -> str | None:
        value = example[self.image_column]
        return value.get("path") if isinstance(value, dict) else None


def load_labelled_images(
    source: str,
    transform: ImageTransform,
    *,
    split: str,
    image_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
) -> tuple[Tensor, ReadLabels]:
    """Images and labels of a split, whole and in memory, for probes.

    Args:
        source, split, image_column: as for `load_images`.
        transform: resizes and normalises; its crops and flips are not used.
        label_column, limit: as for `read_labelled`.

    Returns:
        ([N, channels, H, W], [N] labels); unreadable images are left out with a warning.
    """
    dataset, image_column = load_images(source, split=split, image_column=image_column)
    reader = ImageReader(transform, image_column)
    samples, labels = read_labelled(dataset, reader, source=source, split=split, label_column=label_column, limit=limit)
    return torch.stack([sample["pixel_values"] for sample in samples]), labels


# ---- batches ----


class ImageMaskCollator(MaskCollator):
    """Stacks images of one size.

    Example:
        >>> from modeling_data2vec import Data2Vec2VisionConfig
        >>> collator = ImageMaskCollator(Data2Vec2VisionConfig(image_size=64, num_masks=4))
        >>> batch = collator([{"pixel_values": torch.zeros(3, 64, 64), "key": i} for i in range(2)])
        >>> {name: tuple(value.shape) for name, value in batch.items()}["mask"]
        (2, 4, 16)
    """

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        pixel_values = torch.stack([example["pixel_values"] for example in examples])  # [B, channels, H, W]
        height, width = pixel_values.shape[2:]
        return {"pixel_values": pixel_values}, (height // self.config.patch_size, width // self.config.patch_size), None


def patch_grid(config: PreTrainedConfig, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of patches that an encoder with `config.patch_size` makes of an image of that many pixels."""
    size = getattr(config, "patch_size", None)
    if size is None:
        raise ValueError(f"{type(config).__name__} has no patch_size: only encoders of image patches can be evaluated")
    rows, columns = (size, size) if isinstance(size, int) else size
    return height // rows, width // columns


# ---- all of it ----


class ImageModality(Modality):
    """Images: resized and cropped to the model's size, flipped, normalised."""

    name, input_name, title = "vision", "pixel_values", "images"
    sample, position = "image", "patch"
    medium = IMAGES
    processor_class = AutoImageProcessor
    pipeline_tag = "image-feature-extraction"
    data_keys = frozenset({"augmentation"})
    color = "#009E73"
    max_masks, picture_title = 5, "image"
    probe_pooling, probe_layers = "grid4", "last"  # where things are is half of what an image holds
    any_extra_tokens = True

    @classmethod
    def default_processor(cls, config: Any) -> Any:
        """Normalises colours by ImageNet's mean and deviation, other channels from [0, 1] to [-1, 1]."""
        halves = (0.5,) * config.num_channels
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config.num_channels == 3 else (halves, halves)
        return ViTImageProcessorPil(image_mean=list(mean), image_std=list(std))

    @classmethod
    def made_up(cls, config: Mapping[str, Any]) -> MadeUp | None:
        mode = {1: "L", 3: "RGB"}.get(config.get("num_channels", 3))
        return MadeUp("from PIL import Image", f'Image.new("{mode}", (64, 48))') if mode else None

    def align(self, *, new_model: bool) -> None:
        config, processor = self.config, self.processor
        height, width = config.image_shape
        processor.size = {"height": height, "width": width}
        processor.resample = Image.Resampling.BICUBIC  # as `ImageTransform` does, for those who call the processor
        processor.do_convert_rgb = config.num_channels == 3
        augmentation = self.data.get("augmentation", {})
        plain = {"mean": processor.image_mean or [0.0] * config.num_channels}  # of one that does not normalise
        plain["std"] = processor.image_std or [1.0] * config.num_channels
        mean = augmentation.get("mean", plain["mean"])
        if len(mean) != config.num_channels:
            raise ValueError(
                f"mean and std are of {len(mean)} channel(s), but the model takes {config.num_channels}: give as many "
                "values as channels, in the recipe or in the image processor"
            )
        processor.image_mean = list(mean)
        processor.image_std = list(augmentation.get("std", plain["std"]))

    def check_data(self, where: str) -> None:
        check_keys(self.data.get("augmentation", {}), AUGMENTATION_KEYS, f"{where}, augmentation")

    def transform(self) -> ImageTransform:
        given = self.data.get("augmentation", {})
        crop_and_flip = {name: value for name, value in given.items() if name not in ("mean", "std")}
        return ImageTransform.from_processor(self.processor, **crop_and_flip)

    def load(
        self, source: str, *, split: str = "train", column: str | None = None, streaming: bool = False
    ) -> tuple[Any, str]:
        return load_images(source, split=split, image_column=column, streaming=streaming)

    def reader(self, column: str) -> SampleReader:
        return ImageReader(self.transform(), column)

    def labelled(
        self, source: str, *, split: str, column: str | None, label_column: str | None = None, limit: int | None = None
    ) -> LabelledSet:
        return load_labelled_images(
            source, self.transform(), split=split, image_column=column, label_column=label_column, limit=limit
        )

    def collator(self) -> MaskCollator:
        return ImageMaskCollator(self.config)

    def grid(self, sample: Tensor) -> tuple[int, ...]:
        return patch_grid(self.config, *sample.shape[-2:])

    def pad(self, samples: Any) -> tuple[Tensor, Tensor | None]:
        return torch.stack(list(samples)), None

    def real_positions(self, encoder: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
        values = inputs[self.input_name]
        if values.ndim != 4:
            raise ValueError(
                f"a batch has {self.input_name} of shape {tuple(values.shape)}, but they must be [B, channels, height, "
                "width], as a split of all of them, e.g. inputs.split(32), gives them"
            )
        return torch.ones(len(values), prod(patch_grid(encoder.config, *values.shape[2:])), dtype=torch.bool)

    def example(self, length: float | None = None) -> Tensor:
        return torch.empty(self.config.num_channels, *self.config.image_shape, device="meta")

    def local_products(self, example: Tensor) -> list[tuple[int, int, int]]:
        inputs = self.config.num_channels * prod(self.config.patch_shape)
        return [(prod(self.grid(example)), inputs, self.config.hidden_size)]

    def raw_features(self) -> list[RawFeatures]:
        return [RawFeatures("raw pixels", lambda train, test: (flattened(train), flattened(test)))]

    def pictures(self, inputs: Inputs) -> list[np.ndarray]:
        """Grey for 1 channel, else the first 3, or the mean of 2.

        Without an image processor, whose mean and deviation were used, the range of all pixels becomes black to white.
        """
        pixels = torch.stack(list(inputs)).detach().float().cpu()  # [N, C, H, W]
        if self.processor is None:
            low, high = pixels.amin(), pixels.amax()
            pixels = (pixels - low) / (high - low).clamp_min(1e-12)
        else:
            mean, std = (
                torch.as_tensor(value).reshape(-1, 1, 1)
                for value in (self.processor.image_mean, self.processor.image_std)
            )
            pixels = pixels * std + mean
        pixels = pixels[:, :3] if pixels.shape[1] >= 3 else pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        return list(pixels.clamp(0, 1).permute(0, 2, 3, 1).numpy())
