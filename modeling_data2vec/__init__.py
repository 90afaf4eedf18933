"""data2vec 1.0 and 2.0 in Hugging Face form. Importing this registers the models with transformers' Auto classes.

Trainers, recipes, readers and evaluation (`modeling_data2vec.trainers`) are reached from here, too; they and their
libraries are imported when they are first used.
"""

from importlib import import_module
from typing import Any

from .auto import register
from .configuration_data2vec import (
    Data2VecAudioPreTrainingConfig,
    Data2VecTextPreTrainingConfig,
    Data2VecVisionPreTrainingConfig,
)
from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .configuration_data2vec2_audio import Data2Vec2AudioConfig
from .configuration_data2vec2_joint import Data2Vec2Config
from .configuration_data2vec2_spectrogram import Data2Vec2SpectrogramConfig
from .configuration_data2vec2_text import Data2Vec2TextConfig
from .configuration_data2vec2_vision import Data2Vec2VisionConfig
from .configuration_pretraining import Data2VecPreTrainingConfig, PatchShape
from .core import Data2VecCore, Data2VecPreTrainingOutput
from .feature_encoder import FeatureEncoder
from .feature_extraction_data2vec2_spectrogram import Data2Vec2SpectrogramFeatureExtractor
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2PreTrainedModel
from .modeling_data2vec2_audio import Data2Vec2AudioModel, Data2Vec2AudioPreTrainedModel
from .modeling_data2vec2_audio_pretraining import Data2Vec2AudioForPreTraining
from .modeling_data2vec2_audio_tasks import (
    Data2Vec2AudioForAudioFrameClassification,
    Data2Vec2AudioForCTC,
    Data2Vec2AudioForSequenceClassification,
    Data2Vec2AudioForXVector,
)
from .modeling_data2vec2_joint import Data2Vec2ForPreTraining, Data2Vec2Model
from .modeling_data2vec2_pretraining import Data2Vec2EncoderForPreTraining
from .modeling_data2vec2_spectrogram import Data2Vec2SpectrogramModel, Data2Vec2SpectrogramPreTrainedModel
from .modeling_data2vec2_spectrogram_pretraining import Data2Vec2SpectrogramForPreTraining
from .modeling_data2vec2_spectrogram_tasks import (
    Data2Vec2SpectrogramForAudioClassification,
    Data2Vec2SpectrogramForAudioFrameClassification,
    Data2Vec2SpectrogramForCTC,
)
from .modeling_data2vec2_tasks import Data2Vec2ForPooledClasses, Data2Vec2ForTask
from .modeling_data2vec2_text import Data2Vec2TextModel, Data2Vec2TextPreTrainedModel
from .modeling_data2vec2_text_pretraining import Data2Vec2TextForPreTraining
from .modeling_data2vec2_text_tasks import (
    Data2Vec2TextForMaskedLM,
    Data2Vec2TextForQuestionAnswering,
    Data2Vec2TextForSequenceClassification,
    Data2Vec2TextForTokenClassification,
)
from .modeling_data2vec2_vision import Data2Vec2VisionModel, Data2Vec2VisionPreTrainedModel, PatchFeatureEncoder
from .modeling_data2vec2_vision_pretraining import Data2Vec2VisionForPreTraining
from .modeling_data2vec2_vision_tasks import (
    Data2Vec2VisionForImageClassification,
    Data2Vec2VisionForSemanticSegmentation,
)
from .modeling_data2vec_audio import Data2VecAudioForPreTraining
from .modeling_data2vec_text import Data2VecTextForPreTraining
from .modeling_data2vec_vision import Data2VecVisionForPreTraining
from .version import __version__

__all__ = [
    "Data2Vec2AudioConfig",
    "Data2Vec2AudioForAudioFrameClassification",
    "Data2Vec2AudioForCTC",
    "Data2Vec2AudioForPreTraining",
    "Data2Vec2AudioForSequenceClassification",
    "Data2Vec2AudioForXVector",
    "Data2Vec2AudioModel",
    "Data2Vec2AudioPreTrainedModel",
    "Data2Vec2Config",
    "Data2Vec2Encoder",
    "Data2Vec2EncoderForPreTraining",
    "Data2Vec2ForPooledClasses",
    "Data2Vec2ForPreTraining",
    "Data2Vec2ForTask",
    "Data2Vec2Model",
    "Data2Vec2PreTrainedModel",
    "Data2Vec2PreTrainingConfig",
    "Data2Vec2SpectrogramConfig",
    "Data2Vec2SpectrogramFeatureExtractor",
    "Data2Vec2SpectrogramForAudioClassification",
    "Data2Vec2SpectrogramForAudioFrameClassification",
    "Data2Vec2SpectrogramForCTC",
    "Data2Vec2SpectrogramForPreTraining",
    "Data2Vec2SpectrogramModel",
    "Data2Vec2SpectrogramPreTrainedModel",
    "Data2Vec2TextConfig",
    "Data2Vec2TextForMaskedLM",
    "Data2Vec2TextForPreTraining",
    "Data2Vec2TextForQuestionAnswering",
    "Data2Vec2TextForSequenceClassification",
    "Data2Vec2TextForTokenClassification",
    "Data2Vec2TextModel",
    "Data2Vec2TextPreTrainedModel",
    "Data2Vec2VisionConfig",
    "Data2Vec2VisionForImageClassification",
    "Data2Vec2VisionForPreTraining",
    "Data2Vec2VisionForSemanticSegmentation",
    "Data2Vec2VisionModel",
    "Data2Vec2VisionPreTrainedModel",
    "Data2VecAudioForPreTraining",
    "Data2VecAudioPreTrainingConfig",
    "Data2VecCore",
    "Data2VecPreTrainingConfig",
    "Data2VecPreTrainingOutput",
    "Data2VecTextForPreTraining",
    "Data2VecTextPreTrainingConfig",
    "Data2VecVisionForPreTraining",
    "Data2VecVisionPreTrainingConfig",
    "FeatureEncoder",
    "PatchFeatureEncoder",
    "PatchShape",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Also called for sub-modules that are not imported yet; these are never in the list.
    if not name.startswith("_") and name in (trainers := import_module(".trainers", __name__)).__all__:
        return getattr(trainers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module(".trainers", __name__).__all__})


register()
