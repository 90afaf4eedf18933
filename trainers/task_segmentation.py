"""A class for each pixel of an image."""

from random import Random
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, BeitImageProcessorPil

from .image_transform import ImageTransform, decode_image
from .images import IMAGES, load_images
from .metrics import pixel_confusion, segmentation_metrics
from .samples import SampleReader, UnreadableError
from .sources import find_column, prepare_column
from .tasks import Task

MAP_COLUMNS = ("label", "labels", "annotation", "mask", "segmentation_map")
IGNORED_CLASS = 255
SURVEYED = 200  # maps of the training split that are read to find the classes


class SemanticSegmentation(Task):
    """One class for each pixel; maps are images whose grey values are classes, and 255 does not count."""

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
        return prepare_column(dataset, source, IMAGES, split=split, column=self.label_column)[0]

    def fit(self, train: datasets.Dataset) -> None:
        if self.options.num_labels is not None:
            number = self.options.num_labels
        else:
            maps = (class_map(example[self.label_column]) for example in train.select(range(min(len(train), SURVEYED))))
            number = 1 + max(int(one[one != IGNORED_CLASS].max(initial=0)) for one in maps)
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


def class_map(value: Any) -> np.ndarray:
    """Classes [H, W] of what a data set holds; 255 does not count."""
    image = decode_image(value, 1) if not isinstance(value, Image.Image) else value.convert("L")
    assert isinstance(image, Image.Image)
    return np.asarray(image).astype(np.int64)


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
        classes = class_map(example[self.map_column])
        if not isinstance(image, Image.Image) or image.size != classes.shape[::-1]:
            raise UnreadableError(f"image and map differ in size, or have no colours: the map has {classes.shape}")
        highest = classes[classes != IGNORED_CLASS].max(initial=0)
        if highest >= self.num_labels:
            raise ValueError(
                f"a map has the class {highest}, but the model {self.num_labels} classes: raise --num_labels, or "
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
        value = example[self.column]
        return value.get("path") if isinstance(value, dict) else None
