"""The one place that tells transformers' Auto classes about our models, and knows all pretraining classes."""

from typing import Any

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    AutoModelForAudioXVector,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSemanticSegmentation,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
)
from transformers.utils import logging

from .configuration_data2vec2_audio import Data2Vec2AudioConfig
from .configuration_data2vec2_joint import Data2Vec2Config
from .configuration_data2vec2_spectrogram import Data2Vec2SpectrogramConfig
from .configuration_data2vec2_text import Data2Vec2TextConfig
from .configuration_data2vec2_vision import Data2Vec2VisionConfig
from .feature_extraction_data2vec2_spectrogram import Data2Vec2SpectrogramFeatureExtractor
from .modeling_data2vec2_audio import Data2Vec2AudioModel
from .modeling_data2vec2_audio_pretraining import Data2Vec2AudioForPreTraining
from .modeling_data2vec2_audio_tasks import (
    Data2Vec2AudioForAudioFrameClassification,
    Data2Vec2AudioForCTC,
    Data2Vec2AudioForSequenceClassification,
    Data2Vec2AudioForXVector,
)
from .modeling_data2vec2_joint import Data2Vec2ForPreTraining, Data2Vec2Model
from .modeling_data2vec2_pretraining import modality_models
from .modeling_data2vec2_spectrogram import Data2Vec2SpectrogramModel
from .modeling_data2vec2_spectrogram_pretraining import Data2Vec2SpectrogramForPreTraining
from .modeling_data2vec2_spectrogram_tasks import (
    Data2Vec2SpectrogramForAudioClassification,
    Data2Vec2SpectrogramForAudioFrameClassification,
    Data2Vec2SpectrogramForCTC,
)
from .modeling_data2vec2_tasks import Data2Vec2ForTask
from .modeling_data2vec2_text import Data2Vec2TextModel
from .modeling_data2vec2_text_pretraining import Data2Vec2TextForPreTraining
from .modeling_data2vec2_text_tasks import (
    Data2Vec2TextForMaskedLM,
    Data2Vec2TextForQuestionAnswering,
    Data2Vec2TextForSequenceClassification,
    Data2Vec2TextForTokenClassification,
)
from .modeling_data2vec2_vision import Data2Vec2VisionModel
from .modeling_data2vec2_vision_pretraining import Data2Vec2VisionForPreTraining
from .modeling_data2vec2_vision_tasks import (
    Data2Vec2VisionForImageClassification,
    Data2Vec2VisionForSemanticSegmentation,
)
from .modeling_data2vec_audio import Data2VecAudioForPreTraining
from .modeling_data2vec_text import Data2VecTextForPreTraining
from .modeling_data2vec_vision import Data2VecVisionForPreTraining

logger = logging.get_logger(__name__)

MODELS = (
    (Data2Vec2AudioConfig, Data2Vec2AudioModel, Data2Vec2AudioForPreTraining),
    (Data2Vec2SpectrogramConfig, Data2Vec2SpectrogramModel, Data2Vec2SpectrogramForPreTraining),
    (Data2Vec2TextConfig, Data2Vec2TextModel, Data2Vec2TextForPreTraining),
    (Data2Vec2VisionConfig, Data2Vec2VisionModel, Data2Vec2VisionForPreTraining),
    (Data2Vec2Config, Data2Vec2Model, Data2Vec2ForPreTraining),
)
# Models for tasks, and the Auto class that leads to each.
TASKS = (
    (AutoModelForCTC, Data2Vec2AudioForCTC),
    (AutoModelForAudioClassification, Data2Vec2AudioForSequenceClassification),
    (AutoModelForAudioFrameClassification, Data2Vec2AudioForAudioFrameClassification),
    (AutoModelForAudioXVector, Data2Vec2AudioForXVector),
    (AutoModelForCTC, Data2Vec2SpectrogramForCTC),
    (AutoModelForAudioClassification, Data2Vec2SpectrogramForAudioClassification),
    (AutoModelForAudioFrameClassification, Data2Vec2SpectrogramForAudioFrameClassification),
    (AutoModelForImageClassification, Data2Vec2VisionForImageClassification),
    (AutoModelForSemanticSegmentation, Data2Vec2VisionForSemanticSegmentation),
    (AutoModelForSequenceClassification, Data2Vec2TextForSequenceClassification),
    (AutoModelForTokenClassification, Data2Vec2TextForTokenClassification),
    (AutoModelForQuestionAnswering, Data2Vec2TextForQuestionAnswering),
    (AutoModelForMaskedLM, Data2Vec2TextForMaskedLM),
)
# They share their types with transformers' own models, to which Auto classes lead.
PRETRAINING_MODELS_1_0 = (Data2VecAudioForPreTraining, Data2VecTextForPreTraining, Data2VecVisionForPreTraining)


def pretraining_models() -> dict[str, Any]:
    """All pretraining classes by `model_type`: the package's, and those of imported files.

    Example:
        >>> list(pretraining_models())[:2]
        ['data2vec2-audio', 'data2vec2-spectrogram']
    """
    known: tuple[Any, ...] = (*modality_models().values(), Data2Vec2ForPreTraining, *PRETRAINING_MODELS_1_0)
    return {model.config_class.model_type: model for model in known}


def auto_classes(model_type: str) -> dict[str, Any]:
    """The classes that Auto classes lead to for a type of data2vec 2.0, by the names of these; empty for another type.

    Example:
        >>> auto_classes("data2vec2-vision")["AutoModelForImageClassification"].__name__
        'Data2Vec2VisionForImageClassification'
    """
    joint = (Data2Vec2Config, Data2Vec2Model, Data2Vec2ForPreTraining)
    families: list[Any] = [(one.config_class, one.encoder_class, one) for one in modality_models().values()]
    family = next((three for three in (*families, joint) if three[0].model_type == model_type), None)
    if family is None:
        return {}
    config_class = family[0]
    found: dict[str, Any] = dict(zip(("AutoConfig", "AutoModel", "AutoModelForPreTraining"), family, strict=True))
    found |= {auto.__name__: task for auto, task in TASKS if task.config_class is config_class}
    waiting: list[Any] = [Data2Vec2ForTask]
    for task in waiting:
        waiting += task.__subclasses__()
        if task.auto_class is not None and task.config_class is config_class:
            found[task.auto_class.__name__] = task
    return found


def pretraining_class(model_type: str | None) -> Any:
    """The class that pretrains models of a type; its `config_class` is the config's.

    Raises:
        ValueError: for another type of model.

    Example:
        >>> pretraining_class("data2vec-audio").__name__
        'Data2VecAudioForPreTraining'
    """
    known = pretraining_models()
    if model_type not in known:
        raise ValueError(
            f"a model of type {model_type!r} can't be pretrained here: choose one of {', '.join(known)}, or import the "
            "file that it is in (--plugin of the commands)"
        )
    return known[model_type]


def pretraining_class_of(name: str) -> Any:
    """Return the class that pretrains the model in a folder or on the Hub.

    Raises:
        ValueError: it is of another type.
        OSError: there is no such folder or Hub id, or no config in it.
    """
    values, _ = PreTrainedConfig.get_config_dict(name)
    return pretraining_class(values.get("model_type"))


def register() -> None:
    """Register every 2.0 model. Where a name is already taken, the other registration stays and a warning says so."""
    for config, model, pretraining_model in MODELS:
        try:
            AutoConfig.register(config.model_type, config, exist_ok=False)
            AutoModel.register(config, model, exist_ok=False)
            AutoModelForPreTraining.register(config, pretraining_model, exist_ok=False)
            for auto_class, task_model in TASKS:
                if task_model.config_class is config:
                    auto_class.register(config, task_model, exist_ok=False)
            if config is Data2Vec2VisionConfig:
                AutoImageProcessor.register(config, slow_image_processor_class=ViTImageProcessorPil)
            elif config is Data2Vec2AudioConfig:
                AutoFeatureExtractor.register(config, Wav2Vec2FeatureExtractor)
            elif config is Data2Vec2SpectrogramConfig:
                AutoFeatureExtractor.register(config, Data2Vec2SpectrogramFeatureExtractor)
        except ValueError as error:
            logger.warning(
                f"{error} Auto classes keep what is registered there; use this package's classes by their own names."
            )
