"""Pretraining, evaluation and what a person sees of them."""

from .collators import ImageMaskCollator
from .health import CollapseError, diagnose, measure_health
from .image_transform import ImageTransform
from .images import PretrainingImages, StreamedImages, load_images
from .trainer import Data2VecTrainer
from .training_arguments import Data2VecTrainingArguments

__all__ = [
    "CollapseError",
    "Data2VecTrainer",
    "Data2VecTrainingArguments",
    "ImageMaskCollator",
    "ImageTransform",
    "PretrainingImages",
    "StreamedImages",
    "diagnose",
    "load_images",
    "measure_health",
]
