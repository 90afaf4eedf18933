"""Images for pretraining: any `datasets` source, with files that can't be read passed over."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from transformers.utils import logging

from .image_transform import ImageTransform, UnreadableImageError, decode_image

logger = logging.get_logger(__name__)

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


# ---- sources ----


def load_images(
    source: str, *, split: str = "train", image_column: str | None = None, streaming: bool = False
) -> tuple[Any, str]:
    """Open a set of images.

    Args:
        source: "digits" (scikit-learn's), a folder of images, a folder or file of parquet, a folder that
            `Dataset.save_to_disk` wrote, or a Hub id.
        split: the split to take where the source has several.
        image_column: the column that holds images; found by itself where there is only one.
        streaming: read the source as it comes, without an index (not for arrow folders and digits).

    Returns:
        (dataset, image column); images are not decoded yet.

    Raises:
        ValueError: the source is missing, has no such split or column, or is empty.
    """
    path = Path(source)
    if source == "digits":
        dataset = digits(split)
    elif path.is_dir() and any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
        try:
            loaded = datasets.load_from_disk(source)
        except IndexError as error:  # what datasets makes of no rows at all
            raise ValueError(f"{source} is empty: there is nothing to train on") from error
        dataset = _choose_split(loaded, split, source) if isinstance(loaded, datasets.DatasetDict) else loaded
    elif path.suffix == ".parquet" or (path.is_dir() and any(path.rglob("*.parquet"))):
        files = sorted(map(str, path.rglob("*.parquet"))) if path.is_dir() else source
        try:
            dataset = datasets.load_dataset("parquet", data_files={split: files}, split=split, streaming=streaming)
        except ValueError as error:
            if "corresponds to no data" not in str(error):
                raise
            raise ValueError(f"{source} is empty: there is nothing to train on") from error
    elif path.is_dir():
        if not any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.rglob("*")):
            raise ValueError(
                f"{source} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}), no parquet and no saved dataset"
            )
        loaded = datasets.load_dataset("imagefolder", data_dir=source, streaming=streaming, drop_labels=False)
        dataset = _choose_split(loaded, split, source)
    elif path.exists() or path.is_absolute() or source.startswith("."):
        raise ValueError(f"{source} is not a folder of images, a parquet file or a saved dataset, or does not exist")
    else:
        dataset = datasets.load_dataset(source, split=split, streaming=streaming)

    if image_column is None:
        features = dataset.features or {}
        candidates = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
        candidates = candidates or [name for name in ("image", "img", "pixel_values") if name in features]
        if len(candidates) != 1:
            raise ValueError(
                f"{source} has {len(candidates)} image columns among {sorted(features)}: name one with image_column"
            )
        image_column = candidates[0]
    elif dataset.features is not None and image_column not in dataset.features:
        raise ValueError(f"{source} has no column {image_column!r}, only {sorted(dataset.features)}")
    if dataset.features is not None and isinstance(dataset.features[image_column], datasets.Image):
        # Decoded here, so that a broken file can be named and passed over.
        dataset = dataset.cast_column(image_column, datasets.Image(decode=False))
    if not streaming and not len(dataset):
        raise ValueError(f"{source} (split {split!r}) is empty: there is nothing to train on")
    return dataset, image_column


def _choose_split(loaded: Any, split: str, source: str) -> Any:
    if split not in loaded:
        raise ValueError(f"{source} has no split {split!r}, only {sorted(loaded)}")
    return loaded[split]


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


# ---- labelled images for probes ----


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
        label_column: found by itself where there is one class column, or one named "label".
        limit: at most so many images, chosen at random but always the same.

    Returns:
        ([N, channels, H, W], [N] int labels); unreadable images are left out with a warning.
    """
    dataset, image_column = load_images(source, split=split, image_column=image_column)
    if label_column is None:
        candidates = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.ClassLabel)]
        candidates = candidates or [name for name in ("label", "labels", "fine_label") if name in dataset.features]
        if len(candidates) != 1:
            raise ValueError(
                f"{source} has {len(candidates)} label columns among {sorted(dataset.features)}: "
                + ("name one with label_column" if candidates else "probes need labels")
            )
        label_column = candidates[0]
    elif label_column not in dataset.features:
        raise ValueError(f"{source} has no column {label_column!r}, only {sorted(dataset.features)}")
    if limit is not None and limit < len(dataset):
        dataset = dataset.select(np.sort(np.random.default_rng(0).permutation(len(dataset))[:limit]))
    pixels, labels = [], []
    for index, example in enumerate(dataset):
        try:
            pixels.append(transform(decode_image(example[image_column], transform.num_channels)))
        except UnreadableImageError as error:
            logger.warning(f"Leaving out image {index} of split {split!r}: {error}")
            continue
        labels.append(example[label_column])
    if not pixels:
        raise ValueError(f"none of the {len(dataset)} images of {source} (split {split!r}) can be read")
    return torch.stack(pixels), np.unique(labels, return_inverse=True)[1] if isinstance(labels[0], str) else (
        np.asarray(labels)
    )


# ---- datasets for the trainer ----


class SampleImages:
    """What both kinds of data sets share: crops, flips and masks are a function of a sample's place alone.

    Args:
        dataset: a `datasets.Dataset`, or an `IterableDataset` for a stream.
        transform: what makes a tensor of a decoded image.
        image_column: the column that holds the images.
        seed: the run's seed.
        augment: whether crops and flips are drawn; False for evaluation.
    """

    def __init__(
        self,
        dataset: Any,
        transform: ImageTransform,
        *,
        image_column: str = "image",
        seed: int = 0,
        augment: bool = True,
    ) -> None:
        self.dataset, self.transform, self.image_column = dataset, transform, image_column
        self.seed, self.augment = seed, augment
        # Shared memory, here and below: worker processes see a new epoch and report unreadable images.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def sample(self, value: Any, *place: int) -> dict[str, Any]:
        """The training sample of an image: `pixel_values` and the `key` that its masks are drawn from.

        Raises:
            UnreadableImageError: the image can't be decoded.
        """
        image = decode_image(value, self.transform.num_channels)
        rng = Random(" ".join(map(str, (self.seed, int(self._epoch), *place))))
        key = rng.getrandbits(31)
        return {"pixel_values": self.transform(image, rng if self.augment else None), "key": key}


class PretrainingImages(SampleImages, Dataset):
    """A map-style set of images; (seed, epoch, index) decide crops and masks. Arguments: see `SampleImages`.

    An unreadable image is replaced by the next readable one, marked and named by `unreadable()`.
    """

    def __init__(self, dataset: Any, transform: ImageTransform, **kwargs: Any) -> None:
        super().__init__(dataset, transform, **kwargs)
        self._unreadable = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        for step in range(len(self)):
            position = (int(index) + step) % len(self)
            if self._unreadable[position]:
                continue
            try:
                return self.sample(self.dataset[position][self.image_column], int(index))
            except UnreadableImageError as error:
                self._unreadable[position] = True
                logger.warning(f"Passing over {self.name(position)}: {error}")
        raise ValueError(f"none of the {len(self)} images can be read; the first is {self.name(0)}")

    def name(self, index: int) -> str:
        """Where an image comes from: its path if the dataset knows it, else its index."""
        value = self.dataset[index][self.image_column]
        path = value.get("path") if isinstance(value, dict) else None
        return str(path) if path else f"image {index}"

    def unreadable(self) -> list[str]:
        """Names of the images that could not be read so far."""
        return [self.name(int(i)) for i in self._unreadable.nonzero().flatten()]


class StreamedImages(SampleImages, IterableDataset):
    """Images that come in a stream, e.g. from the Hub. Arguments: see `SampleImages`.

    A sample's number is its place in its worker's stream, so crops and masks repeat as long as that does.
    """

    def __init__(self, dataset: Any, transform: ImageTransform, **kwargs: Any) -> None:
        super().__init__(dataset, transform, **kwargs)
        self._num_unreadable = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.dataset.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        for index, example in enumerate(self.dataset):
            try:
                yield self.sample(example[self.image_column], worker.id if worker else 0, index)
            except UnreadableImageError as error:
                self._num_unreadable += 1
                logger.warning(f"Passing over image {index} of the stream: {error}")

    def unreadable(self) -> list[str]:
        """One line that counts the images that could not be read, in each epoch anew; their places were logged."""
        count = int(self._num_unreadable)
        return [f"{count} images of the stream"] if count else []
