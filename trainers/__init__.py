"""Pretraining, evaluation and what a person sees of them."""

from .audio import AudioReader, load_audio
from .collators import ImageMaskCollator
from .health import CollapseError, diagnose, measure_health
from .image_transform import ImageTransform
from .images import ImageReader, load_images
from .mixed_samples import MixedSamples, Source
from .samples import PretrainingSamples, StreamedSamples
from .stopping import StoppedError
from .trainer import Data2VecTrainer
from .training_arguments import Data2VecTrainingArguments

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
