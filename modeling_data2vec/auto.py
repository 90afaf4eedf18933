"""The one place that tells transformers' Auto classes about our models."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForPreTraining, ViTImageProcessorPil
from transformers.utils import logging

from .configuration_data2vec import Data2Vec2VisionConfig
from .modeling_data2vec_vision import Data2Vec2VisionForPreTraining, Data2Vec2VisionModel

logger = logging.get_logger(__name__)


def register() -> None:
    """Register every 2.0 model. Where a name is already taken, the other registration stays and a warning says so."""
    try:
        AutoConfig.register(Data2Vec2VisionConfig.model_type, Data2Vec2VisionConfig, exist_ok=False)
        AutoModel.register(Data2Vec2VisionConfig, Data2Vec2VisionModel, exist_ok=False)
        AutoModelForPreTraining.register(Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining, exist_ok=False)
        AutoImageProcessor.register(Data2Vec2VisionConfig, slow_image_processor_class=ViTImageProcessorPil)
    except ValueError as error:
        logger.warning(
            f"{error} Auto classes keep what is registered there; use this package's classes by their own names."
        )
