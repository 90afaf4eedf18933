"""A class for each pixel of an image."""

from random import Random
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, BeitImageProcessorPil

from ...data.samples import SampleReader, UnreadableError
from ...media.class_maps import IGNORED_CLASS, class_map
from ...media.image_transform import ImageTransform, decode_image
from ...modalities.image import IMAGES, load_images
from ...sources.loading import column_types, find_column, prepare_column, shown_type
from ..metrics import pixel_confusion, segmentation_metrics
from .task import Task

MAP_COLUMNS = ("label", "labels", "annotation", "mask", "segmentation_map")
SURVEYED = 200  # maps of the training split that are read to find the classes


class SemanticSegmentation(Task):
    """One class for each pixel; maps are images whose numbers are classes, and 255 does not count."""

    name, auto_class, main_input = "semantic-segmentation", AutoModelForSemanticSegmentation, "pixel_values"
    metric, label_smoothing, counts_labels = "miou", None, True
    column: str
    label_column: str

    @classmethod
    def load_processor(cls, name: str) -> Any:
        processor = AutoImageProcessor.from_pretrained(name)
        if hasattr(processor, "post_process_semantic_segmentation"):
            return processor
        # A classifier's makes no maps of logits, which pipelines ask of it.
        kept = ("size", "resample", "rescale_factor", "image_mean", "image_std")
        return BeitImageProcessorPil(do_center_crop=False, **{name: getattr(processor, name) for name in kept})

    def open(self, source: str, split: str) -> datasets.Dataset:
        options = self.options
        asked = options.column or "image"
        dataset, self.column = load_images(source, split=split, image_column=asked)
        self.label_column = find_column(
            dataset,
            source,
            "map",
            column=options.label_column,
            names=MAP_COLUMNS,
            advice="name the column with maps of classes with --label_column",
        )
        kind = column_types(dataset)[self.label_column]
        if isinstance(kind, datasets.ClassLabel) or shown_type(kind).startswith(("int", "uint", "float", "bool")):
            raise ValueError(
                f"column {self.label_column!r} of {source} holds a number or class for each image, not a map: give a "
                'table with a row for each image and its map, e.g. {"image": "images/1.jpg", "mask": "masks/1.png"}, '
                "or name the column with maps with --label_column"
            )
        return prepare_column(dataset, source, IMAGES, split=split, column=self.label_column)[0]

    def fit(self, train: datasets.Dataset) -> None:
        classes, asked = surveyed_classes(train, self.label_column), self.options.num_labels
        if len(classes) < 2 and (asked is None or len(train) <= SURVEYED):
            raise ValueError(
                f"the maps in column {self.label_column!r} hold {len(classes)} class(es), {sorted(classes)}, but "
                f"segmentation needs 2 or more: number classes from 0; {IGNORED_CLASS} marks what does not count, so a "
                "mask of 0 and 255 must become one of 0 and 1"
            )
        number = 1 + max(classes) if asked is None else asked
        if number < 2:
            raise ValueError(f"num_labels is {number}, but segmentation needs 2 classes or more")
        self.config.id2label = {index: str(index) for index in range(number)}
        self.config.label2id = {name: index for index, name in self.config.id2label.items()}
        self.config.semantic_loss_ignore_index = IGNORED_CLASS

    def reader(self, dataset: datasets.Dataset, *, training: bool) -> SampleReader:
        args = self.args
        transform = ImageTransform.from_processor(self.processor, crop_scale=(1.0, 1.0), horizontal_flip=False)
        number, flip = self.config.num_labels, training and args.horizontal_flip
        return MapReader(transform, self.column, self.label_column, number, crop_scale=args.crop_scale, flip=flip)

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: torch.stack([sample[name] for sample in samples]) for name in ("pixel_values", "labels")}

    def predictions(self, logits: Any, inputs: dict[str, Any]) -> Any:
        """Numbers of pixels [B, C, C] by true and by predicted class, which take less room than maps."""
        labels = inputs["labels"]
        upscaled = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
        pairs = zip(upscaled.argmax(1).cpu().numpy(), labels.cpu().numpy(), strict=True)
        number = self.config.num_labels
        counts = np.stack([pixel_confusion(guess.ravel(), truth.ravel(), number) for guess, truth in pairs])
        return logits.new_tensor(counts, dtype=torch.int64)

    def figures(self, predictions: Any, labels: np.ndarray) -> dict[str, float]:
        return segmentation_metrics(predictions.sum(0))

    def figure_names(self) -> tuple[str, ...]:
        return ("miou", "pixel_accuracy")


def surveyed_classes(dataset: datasets.Dataset, column: str) -> set[int]:
    """Classes in the first maps of a split, without what does not count.

    Raises:
        ValueError: none of these maps can be read.
    """
    classes: set[int] = set()
    faults = []
    for example in dataset.select(range(min(len(dataset), SURVEYED))):
        try:
            classes |= set(np.unique(class_map(example[column])).tolist())
        except UnreadableError as error:
            faults.append(f"{_name(example[column]) or 'the first'}: {error}")
    if len(faults) == min(len(dataset), SURVEYED):
        raise ValueError(f"none of {len(faults)} maps in column {column!r} can be used; {faults[0]}")
    return classes - {IGNORED_CLASS}


def _name(value: Any) -> str | None:
    return value.get("path") if isinstance(value, dict) else None


class MapReader:
    """Makes `pixel_values` [channels, H, W] and `labels` [H, W] of an image and its map, cropped and flipped alike.

    Args:
        transform: size and normalisation.
        column, map_column: with the image, and with its map.
        num_labels: classes; a map with others is refused.
        crop_scale: smallest and largest share of the image that a random crop takes.
        flip: flip every second image at random.
    """

    noun = "image"

    def __init__(
        self, transform: ImageTransform, column: str, map_column: str, num_labels: int, *, crop_scale: Any, flip: bool
    ) -> None:
        self.transform, self.column, self.map_column, self.num_labels = transform, column, map_column, num_labels
        self.crop, self.flip = ImageTransform(transform.size, crop_scale=tuple(crop_scale)), flip

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Any]:
        image = decode_image(example[self.column], self.transform.num_channels)
        map_name = _name(example[self.map_column]) or "its map"
        try:
            classes = class_map(example[self.map_column])
        except UnreadableError as error:
            raise UnreadableError(f"{map_name}: {error}") from error
        if not isinstance(image, Image.Image):
            raise UnreadableError("it is an array of values rather than an image in grey or colour")
        if image.size != classes.shape[::-1]:
            height, width = classes.shape
            raise UnreadableError(
                f"it has {image.width} x {image.height} pixels, but {map_name} {width} x {height}: both must be "
                "equally large, upright (an image's orientation tag turns it)"
            )
        highest = classes[classes != IGNORED_CLASS].max(initial=0)
        if highest >= self.num_labels:
            raise ValueError(
                f"{map_name} has the class {highest}, but the model {self.num_labels} classes: raise --num_labels, or "
                "mark with 255 what does not count"
            )
        mirrored = bool(rng and self.flip and rng.random() < 0.5)
        box = self.crop.crop_box(*image.size, rng) if rng else (0, 0, *image.size)
        pixels = self.transform(image.crop(box))
        height, width = self.transform.size
        # The nearest pixel's class, in integers: [H', W'] to [H, W]
        part = torch.from_numpy(classes[box[1] : box[3], box[0] : box[2]].copy())
        rows = torch.arange(height) * part.shape[0] // height
        columns = torch.arange(width) * part.shape[1] // width
        labels = part[rows][:, columns]
        return {
            "pixel_values": pixels.flip(2) if mirrored else pixels,
            "labels": labels.flip(1) if mirrored else labels,
        }

    def name(self, example: dict[str, Any]) -> str | None:
        return _name(example[self.column])
