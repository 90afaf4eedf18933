"""Pretraining, evaluation and what a person sees of them."""

from .data.collators import ImageMaskCollator
from .data.samples import PretrainingSamples, StreamedSamples
from .media.image_transform import ImageTransform
from .modalities.audio import AudioReader, load_audio
from .modalities.images import ImageReader, load_images
from .modalities.mixture import MixedSamples, Source
from .monitoring.health import CollapseError, diagnose, measure_health
from .pretraining.trainer import Data2VecTrainer
from .runs.arguments import Data2VecTrainingArguments
from .runs.stopping import StoppedError

__all__ = [
    "AudioReader",
    "CollapseError",
    "Data2VecTrainer",
    "Data2VecTrainingArguments",
    "ImageMaskCollator",
    "ImageReader",
    "ImageTransform",
    "MixedSamples",
    "PretrainingSamples",
    "Source",
    "StoppedError",
    "StreamedSamples",
    "diagnose",
    "load_audio",
    "load_images",
    "measure_health",
]
