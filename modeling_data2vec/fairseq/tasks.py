"""The authors' fine-tuned models: their parts, and their configs here. CTC, image classes, sentence classes."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioForCTC,
    Data2VecTextConfig,
    Data2VecTextForSequenceClassification,
    Data2VecVisionConfig,
    Data2VecVisionForImageClassification,
    PreTrainedConfig,
)

from ..configuration_data2vec2_spectrogram import Data2Vec2SpectrogramConfig
from ..modeling_data2vec2_audio_tasks import Data2Vec2AudioForCTC, Data2Vec2AudioForSequenceClassification
from ..modeling_data2vec2_spectrogram_tasks import Data2Vec2SpectrogramForAudioClassification
from ..modeling_data2vec2_text_tasks import Data2Vec2TextForSequenceClassification
from ..modeling_data2vec2_vision_tasks import Data2Vec2VisionForImageClassification
from .renaming import Renaming

SENTENCE_HEAD = "classification_heads.sentence_classification_head."


# Of the authors' option `prediction_mode`, in the order in which their enumeration counts from 1.
POOLINGS = {"MEAN_POOLING": "mean", "CLS_TOKEN": "cls"}


@dataclass(frozen=True)
class Task:
    """The parts of one kind of fine-tuned model in the authors' code.

    Attributes:
        config: the option that holds the pretrained model's config; None where it is the model's own.
        prefix: what comes before the pretrained model's names.
        task: fairseq's name of the task that trains it.
        heads: names of the head there and here.
        model_classes: ours, by the `model_type` of the pretrained model.
    """

    config: str | None
    prefix: str
    task: str
    heads: Renaming
    model_classes: dict[str, Any]

    def is_for(self, model: Any) -> bool:
        """Whether a model was fine-tuned for the task."""
        return type(model) is self.model_classes.get(model.config.model_type)


CTC = Task(
    "w2v_args",
    "w2v_encoder.w2v_model.",
    "audio_finetuning",
    Renaming([("w2v_encoder.proj.", "lm_head.")]),
    {"data2vec-audio": Data2VecAudioForCTC, "data2vec2-audio": Data2Vec2AudioForCTC},
)
IMAGE_CLASSES = Task(
    "pretrained_model_args",
    "model.",
    "mae_image_classification",
    Renaming([("fc_norm.", "fc_norm."), ("head.", "classifier.")]),
    {
        "data2vec-vision": Data2VecVisionForImageClassification,
        "data2vec2-vision": Data2Vec2VisionForImageClassification,
        "data2vec2-spectrogram": Data2Vec2SpectrogramForAudioClassification,
    },
)
SENTENCE_CLASSES = Task(
    "pretrained_model_args",
    "model.",
    "sentence_prediction",
    Renaming([(SENTENCE_HEAD, "classifier.")]),
    {"data2vec2-text": Data2Vec2TextForSequenceClassification},
)
SENTENCE_CLASSES_V1 = Task(
    None,
    "",
    "sentence_prediction",
    Renaming([(SENTENCE_HEAD, "classifier.")]),
    {"data2vec-text": Data2VecTextForSequenceClassification},
)
# FunASR's emotion2vec: a linear layer over the mean of the frames, in a model that has the pretrained one's name.
UTTERANCE_CLASSES = Task(
    None,
    "",
    "audio_pretraining",
    Renaming([("proj.", "classifier.")]),
    {"data2vec2-audio": Data2Vec2AudioForSequenceClassification},
)
UNNAMED = (SENTENCE_CLASSES_V1, UTTERANCE_CLASSES)  # known by their weights alone
TASKS = {
    "wav2vec_ctc": CTC,
    "mae_image_classification": IMAGE_CLASSES,
    "data2vec_image_classification": IMAGE_CLASSES,
    "data2vec_text_classification": SENTENCE_CLASSES,
}
FINE_TUNED_MODELS = [one for task in (*TASKS.values(), *UNNAMED) for one in task.model_classes.values()]
NATIVE_CONFIGS: dict[str, type[PreTrainedConfig]] = {
    "data2vec-audio": Data2VecAudioConfig,
    "data2vec-text": Data2VecTextConfig,
    "data2vec-vision": Data2VecVisionConfig,
}
HEAD_BIASES = ("lm_head.bias", "classifier.out_proj.bias", "classifier.bias")  # their lengths are numbers of outputs
POOLER_NORM = "data2vec_vision.pooler.layernorm."  # where transformers' own classifier has the reference's fc_norm


def task_config(pretraining: Any, task: Task, size: int) -> Any:
    """The config of a model that is fine-tuned for a task: transformers' own for 1.0, ours for 2.0.

    Args:
        pretraining: of the pretrained model.
        task: what for.
        size: outputs of the head: letters or classes.

    Example:
        >>> task_config(Data2Vec2AudioForCTC.config_class(), CTC, 32).vocab_size
        32
    """
    changes: dict[str, Any] = {"num_labels": size}
    if task is CTC:
        changes = {"vocab_size": size, "pad_token_id": 0}
    elif task is UTTERANCE_CLASSES:
        changes["classifier_proj_size"] = pretraining.hidden_size
    native = NATIVE_CONFIGS.get(pretraining.model_type)
    if native is None:
        config = copy.deepcopy(pretraining)
    else:
        own = {entry.name for entry in fields(native)} - {entry.name for entry in fields(PreTrainedConfig)}
        config = native(**{name: getattr(pretraining, name) for name in own})
        if native is Data2VecVisionConfig:
            changes |= {"use_mean_pooling": True, "use_mask_token": False}
        elif native is Data2VecTextConfig:
            changes |= {"classifier_dropout": 0.0, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def fine_tuned_config(
    pretraining: Any, task: Task, model: Mapping[str, Any], head: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> Any:
    """`task_config` with what the file of a fine-tuned model says of its training."""
    size = next((len(head[name]) for name in HEAD_BIASES if name in head), None)
    if size is None:
        raise ValueError(f"the file's {model['_name']} has no {' or '.join(HEAD_BIASES)}: it is not fine-tuned")
    config = task_config(pretraining, task, size)
    changes: dict[str, Any] = {}
    if task is IMAGE_CLASSES:
        changes |= _class_head(config, model)
    if task is CTC:
        changes["final_dropout"] = float(model.get("final_dropout") or 0.0)
    if isinstance(config, Data2VecVisionConfig):
        changes["use_mask_token"] = "data2vec_vision.embeddings.mask_token" in state
    elif isinstance(config, Data2VecAudioConfig):
        changes |= {
            "apply_spec_augment": bool(model.get("apply_mask")),
            "mask_time_prob": model.get("mask_prob") or 0.05,
            "mask_time_length": model.get("mask_length") or 10,
            "mask_feature_prob": model.get("mask_channel_prob") or 0.0,
            "mask_feature_length": model.get("mask_channel_length") or 10,
            "layerdrop": model.get("layerdrop") or 0.0,
        }
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def with_projector(head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A head of `UTTERANCE_CLASSES` with the layer that ours has before the mean, which here changes nothing."""
    weight = head["classifier.weight"]
    width = weight.shape[1]
    return {**head, "projector.weight": torch.eye(width, dtype=weight.dtype), "projector.bias": weight.new_zeros(width)}


def without_projector(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse, for any such layer: two linear layers around a mean are one."""
    kept = {name: value for name, value in state.items() if not name.startswith("projector.")}
    weight, projection, bias = state["classifier.weight"], state["projector.weight"], state["projector.bias"]
    kept["classifier.weight"] = weight @ projection
    kept["classifier.bias"] = state["classifier.bias"] + weight @ bias
    return kept


def _class_head(config: Any, model: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the authors' option `prediction_mode` and EAT's losses; the mode may be given by its number."""
    spectrograms = isinstance(config, Data2Vec2SpectrogramConfig)
    modes = POOLINGS if spectrograms else {"MEAN_POOLING": POOLINGS["MEAN_POOLING"]}
    mode = model.get("prediction_mode", "CLS_TOKEN" if spectrograms else "MEAN_POOLING")
    name = dict(enumerate(POOLINGS, 1)).get(mode, mode)
    if name not in modes:
        raise ValueError(f"prediction_mode is {mode}, but only {' and '.join(modes)} can be represented")
    if not spectrograms:
        return {}
    # EAT trains with a binary cross-entropy for each class, but for ESC-50.
    problem = "single_label_classification" if model.get("esc50_eval") else "multi_label_classification"
    return {"classifier_pooling": modes[name], "problem_type": problem}


def class_head_for_fairseq(config: Any) -> dict[str, Any]:
    """The reverse: options of the authors' class of fine-tuned image models."""
    options: dict[str, Any] = {"num_classes": config.num_labels, "use_fc_norm": True}
    if isinstance(config, Data2Vec2SpectrogramConfig):
        options |= {
            "prediction_mode": next(name for name, ours in POOLINGS.items() if ours == config.classifier_pooling),
            "esc50_eval": config.problem_type == "single_label_classification",
            "audio_mae": True,
            "target_length": config.spectrogram_length,
        }
    return options
