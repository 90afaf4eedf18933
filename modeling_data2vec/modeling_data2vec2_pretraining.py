"""The base of the data2vec 2.0 pretraining models: a student, its teacher and a decoder.

`modeling_data2vec2_*_pretraining.py` add the names of raw input.
"""

from collections.abc import Callable
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForPreTraining

from .core import Data2VecCore, StudentTeacher
from .ema import Teacher
from .feature_encoder import FeatureEncoder
from .heads import ConvDecoder
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2PreTrainedModel, is_foreign
from .student_teacher import Data2Vec2StudentTeacher
from .trunk import Data2Vec2Trunk


def modality_models() -> dict[str, type["Data2Vec2EncoderForPreTraining"]]:
    """Pretraining classes of all kinds of data by `modality`, sorted: the package's, and those of imported files."""
    found = {str(one.modality): one for one in Data2Vec2EncoderForPreTraining.__subclasses__()}
    return dict(sorted(found.items()))


def teacher_encoder(config: Any, feature_encoder_class: Callable[..., FeatureEncoder]) -> FeatureEncoder | None:
    """The teacher's own feature encoder by `teacher_scope`; None where it reads what the student's makes."""
    if config.teacher_scope == "trunk":
        return None
    if config.teacher_scope == "model":
        return feature_encoder_class(config)
    return feature_encoder_class(config, local_encoder=False)


class Data2Vec2Teacher(Teacher):
    """The averaged copy: a trunk and, by `teacher_scope`, a feature encoder of its own."""

    def __init__(self, config: Any, feature_encoder_class: Callable[..., FeatureEncoder]):
        super().__init__()
        self.feature_encoder = teacher_encoder(config, feature_encoder_class)
        # No target passes the last norm; the authors' average of the layers alone has none.
        self.trunk = Data2Vec2Trunk(config, last_norm=config.teacher_scope != "trunk")


class Data2Vec2EncoderForPreTraining(Data2VecCore, Data2Vec2PreTrainedModel):
    """Student, teacher and convolutional decoder: the base of every `Data2Vec2...ForPreTraining`.

    The student sees only what its masks leave; the decoder fills in what is hidden (arXiv 2212.07525 §3).

    A direct subclass is a kind of data: one in a file of one's own is known to the Auto classes and to the joint model
    by its `config_class`, `encoder_class`, `modality` and `main_input_name` from then on.
    """

    encoder_class: type[Data2Vec2Encoder]
    decoder_class: type[ConvDecoder] = ConvDecoder
    teacher: Data2Vec2Teacher
    # The teacher of several modalities has a last norm, whatever each of them averages.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.trunk\.norm\."]  # noqa: RUF012

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Data2Vec2EncoderForPreTraining in cls.__bases__ and is_foreign(cls):
            config_class: Any = cls.config_class
            name = config_class.model_type
            if name in CONFIG_MAPPING and not is_foreign(CONFIG_MAPPING[name]):
                raise ValueError(
                    f"{cls.__name__} has the model_type {name!r} of {CONFIG_MAPPING[name].__name__}: give its config "
                    'one of its own, "data2vec2-" and a name'
                )
            AutoConfig.register(name, config_class, exist_ok=True)
            AutoModel.register(config_class, cls.encoder_class, exist_ok=True)
            AutoModelForPreTraining.register(config_class, cls, exist_ok=True)

    def __init__(self, config: Any):
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.head = self.decoder_class(config, self.num_axes)
        self.teacher = Data2Vec2Teacher(config, self.feature_encoder_class)
        self.post_init()
        self.sync_teacher()

    def side(self, modality: str | None = None) -> StudentTeacher:
        """Student and teacher; there is one modality."""
        student, teacher = self.base_model, self.teacher
        return Data2Vec2StudentTeacher(
            student.feature_encoder, student.trunk, self.head, teacher.feature_encoder, teacher.trunk
        )
