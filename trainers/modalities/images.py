"""Images for pretraining and probes: sources, and what makes a tensor of one."""

from random import Random
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.samples import read_labelled
from ..media.image_transform import ImageTransform, decode_image
from ..sources.loading import load_source, prepare_column
from ..sources.source_files import IMAGE_SUFFIXES, Medium

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
) -> tuple[Tensor, np.ndarray]:
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
