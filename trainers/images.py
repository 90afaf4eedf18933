"""Images for pretraining: any `datasets` source, the recipe's augmentation, files that can't be read."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

logger = logging.get_logger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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


# ---- decoding and augmentation ----


class UnreadableImageError(ValueError):
    """A file that is no image, or a broken one."""


def decode_image(value: Any, num_channels: int) -> Image.Image | Tensor:
    """Bring what a dataset holds into one form: a PIL image for 1 and 3 channels, else a float [C, H, W] tensor.

    Args:
        value: {"bytes", "path"} as an undecoded image column gives it, a PIL image, or an array [H, W], [H, W, C] or
            [C, H, W] (floats are taken as 0 to 1, integers as 0 to 255).
        num_channels: channels of the model; grey and colour images are converted into each other.

    Raises:
        UnreadableImageError: the file can't be decoded.
        ValueError: an array with another number of channels.
    """
    if value is None or (isinstance(value, dict) and not value.get("bytes") and not value.get("path")):
        raise UnreadableImageError("the dataset holds no image here")
    if isinstance(value, dict):
        try:
            with Image.open(io.BytesIO(value["bytes"]) if value.get("bytes") else value["path"]) as image:
                image.load()
                value = image.copy()
        except Exception as error:  # decoders raise anything on broken data: OSError, SyntaxError, struct.error, ...
            raise UnreadableImageError(str(error)) from error
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
    """Random resized crop, flip and normalisation, without torchvision (the published recipe's augmentation).

    Args:
        size: (height, width) of the result.
        num_channels: channels of the result.
        mean, std: of each channel, for pixel values between 0 and 1.
        crop_scale: smallest and largest share of the image's area that a crop takes; (1, 1) takes the whole image.
        crop_ratio: smallest and largest aspect ratio of a crop.
        horizontal_flip: flip every second image at random.
    """

    size: tuple[int, int]
    num_channels: int = 3
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: bool = True

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
        self._mean = torch.tensor(self.mean).view(-1, 1, 1)
        self._std = torch.tensor(self.std).view(-1, 1, 1)

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
            rng: decides crop and flip; None for no augmentation, only the resize.

        Returns:
            fp32 [channels, height, width], normalised.
        """
        is_tensor = isinstance(image, Tensor)
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


def sample_rng(*place: int) -> Random:
    """The random numbers of one sample, a function of its place alone: (seed, epoch, index)."""
    return Random(" ".join(map(str, place)))


def new_key(rng: Random) -> int:
    """A key for `ImageMaskCollator`, int32."""
    return rng.getrandbits(31)


class PretrainingImages(Dataset):
    """A map-style set of images whose crops and masks are a function of (seed, epoch, sample) alone.

    An unreadable image is replaced by the next readable one, marked and named by `unreadable()`.

    Args:
        dataset: a `datasets.Dataset`.
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
        # Shared memory: worker processes see a new epoch and report unreadable images.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._unreadable = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = sample_rng(self.seed, int(self._epoch), int(index))
        key = new_key(rng)
        for step in range(len(self)):
            position = (int(index) + step) % len(self)
            if self._unreadable[position]:
                continue
            try:
                image = decode_image(self.dataset[position][self.image_column], self.transform.num_channels)
            except UnreadableImageError as error:
                self._unreadable[position] = True
                logger.warning(f"Passing over {self.name(position)}: {error}")
                continue
            return {"pixel_values": self.transform(image, rng if self.augment else None), "key": key}
        raise ValueError(f"none of the {len(self)} images can be read; the first is {self.name(0)}")

    def name(self, index: int) -> str:
        """Where an image comes from: its path if the dataset knows it, else its index."""
        value = self.dataset[index][self.image_column]
        path = value.get("path") if isinstance(value, dict) else None
        return str(path) if path else f"image {index}"

    def unreadable(self) -> list[str]:
        """Names of the images that could not be read so far."""
        return [self.name(int(i)) for i in self._unreadable.nonzero().flatten()]


class StreamedImages(IterableDataset):
    """Images that come in a stream, e.g. from the Hub; arguments as for `PretrainingImages`.

    A sample's number is its place in its worker's stream, so crops and masks repeat as long as that does.
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
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._num_unreadable = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)
        self.dataset.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        for index, example in enumerate(self.dataset):
            try:
                image = decode_image(example[self.image_column], self.transform.num_channels)
            except UnreadableImageError as error:
                self._num_unreadable += 1
                logger.warning(f"Passing over image {index} of the stream: {error}")
                continue
            rng = sample_rng(self.seed, int(self._epoch), worker.id if worker else 0, index)
            key = new_key(rng)
            yield {"pixel_values": self.transform(image, rng if self.augment else None), "key": key}

    def unreadable(self) -> list[str]:
        """One line that counts the images that could not be read so far; their places were logged."""
        count = int(self._num_unreadable)
        return [f"{count} images of the stream"] if count else []
