"""The one place that tells transformers' Auto classes about our models."""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForPreTraining,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
)
from transformers.utils import logging

from .configuration_data2vec2 import Data2Vec2AudioConfig, Data2Vec2TextConfig, Data2Vec2VisionConfig
from .modeling_data2vec_audio import Data2Vec2AudioForPreTraining, Data2Vec2AudioModel
from .modeling_data2vec_text import Data2Vec2TextForPreTraining, Data2Vec2TextModel
from .modeling_data2vec_vision import Data2Vec2VisionForPreTraining, Data2Vec2VisionModel

logger = logging.get_logger(__name__)

MODELS = (
    (Data2Vec2AudioConfig, Data2Vec2AudioModel, Data2Vec2AudioForPreTraining),
    (Data2Vec2TextConfig, Data2Vec2TextModel, Data2Vec2TextForPreTraining),
    (Data2Vec2VisionConfig, Data2Vec2VisionModel, Data2Vec2VisionForPreTraining),
)


def register() -> None:
    """Register every 2.0 model. Where a name is already taken, the other registration stays and a warning says so."""
    for config, model, pretraining_model in MODELS:
        try:
            AutoConfig.register(config.model_type, config, exist_ok=False)
            AutoModel.register(config, model, exist_ok=False)
            AutoModelForPreTraining.register(config, pretraining_model, exist_ok=False)
            if config is Data2Vec2VisionConfig:
                AutoImageProcessor.register(config, slow_image_processor_class=ViTImageProcessorPil)
            elif config is Data2Vec2AudioConfig:
                AutoFeatureExtractor.register(config, Wav2Vec2FeatureExtractor)
        except ValueError as error:
            logger.warning(
                f"{error} Auto classes keep what is registered there; use this package's classes by their own names."
            )
