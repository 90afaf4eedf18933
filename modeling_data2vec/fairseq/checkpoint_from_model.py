"""Turns a model of ours or of transformers into a fairseq checkpoint: the reverse of `model_from_checkpoint.py`.

`files.py` writes the file, `data2vec2_{config,weights}.py` and `data2vec_{config,weights}.py` map configs and names.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from ..auto import pretraining_class
from ..configuration_data2vec2 import Data2Vec2PreTrainingConfig
from ..configuration_pretraining import Data2VecPreTrainingConfig
from ..core import Data2VecCore
from .data2vec2_config import config_to_fairseq
from .data2vec2_weights import state_to_fairseq
from .data2vec_config import config_to_fairseq_v1
from .data2vec_weights import state_to_fairseq_v1
from .files import as_fairseq_dictionary
from .source import Source
from .tasks import (
    CTC,
    IMAGE_CLASSES,
    POOLER_NORM,
    TASKS,
    UNNAMED,
    UTTERANCE_CLASSES,
    Task,
    class_head_for_fairseq,
    without_projector,
)

# What fairseq calls the data of a model, in a config that is written for it.
FAIRSEQ_TASKS = {
    "input_values": "audio_pretraining",
    "pixel_values": "mae_image_pretraining",
    "input_features": "mae_image_pretraining",
    "input_ids": "masked_lm",
}


def to_fairseq(model: Any, source: Source | None = None) -> dict[str, Any]:
    """A checkpoint's content for a model: the reverse of `from_fairseq`.

    fairseq loads it for use or fine-tuning; there is no optimizer state to go on from.

    Args:
        model: a pretraining model of this package, or a fine-tuned one of the kinds that `from_fairseq` returns.
        source: what `from_fairseq` returned beside it; the file is then the same, bit by bit.

    Raises:
        ValueError: the authors' code has no such model.
    """
    config, state = model.config, dict(model.state_dict())
    task = next((task for task in (*TASKS.values(), *UNNAMED) if task.is_for(model)), None)
    if task is None and not isinstance(model, Data2VecCore):
        raise ValueError(
            f"a {type(model).__name__} can't be written for fairseq: it has models for pretraining, CTC, image classes "
            "and sentence classes"
        )
    has_teacher = any(key.startswith("teacher.") for key in state)
    teacher_key = source.teacher_key if source else _teacher_key(config, task) if has_teacher else None
    weights = weights_for_fairseq(state, config, task, teacher_key)
    if source is not None:
        weights |= source.rest
        if missing := [name for name in source.names if name not in weights]:
            raise ValueError(f"the model lacks weights of the file that it came from: {', '.join(missing)}")
        weights = {name: weights[name] for name in source.names}
    nested: OrderedDict[str, Any] = OrderedDict()
    for name, value in weights.items():
        if teacher_key is not None and name.startswith(f"{teacher_key}."):
            nested.setdefault(teacher_key, OrderedDict())[name.removeprefix(f"{teacher_key}.")] = value.contiguous()
        else:
            nested[name] = value.contiguous()
    if source is not None:
        nested = OrderedDict((source.prefix + name, value) for name, value in nested.items())
    task_state = dict(source.task_state) if source else {}
    for name, value in task_state.items():
        if isinstance(value, Mapping) and "symbols" in value:
            task_state[name] = as_fairseq_dictionary(value)
    return {
        "args": None,
        "cfg": source.config if source else _config_for_fairseq(model, task),
        "model": nested,
        "criterion": None,
        "optimizer_history": [
            {"criterion_name": None, "optimizer_name": None, "lr_scheduler_state": {}, "num_updates": 0}
        ],
        "task_state": task_state,
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }


def _config_for_fairseq(model: Any, task: Task | None) -> dict[str, Any]:
    config = model.config
    inner = {
        "model": _model_section(config),
        "task": {"_name": FAIRSEQ_TASKS[model.main_input_name], "data": ""},
    }
    if getattr(config, "flexible_mask", False):  # an option of EAT's data, which fairseq's own does not know
        inner["task"]["flexible_mask"] = True
    if task is None:
        return inner
    if task.config is None:
        return inner | {"task": {"_name": task.task, "data": "", "num_classes": config.num_labels}}
    name = next(name for name, known in TASKS.items() if known is task)
    outer: dict[str, Any] = {"_name": name, task.config: inner}
    if task is CTC:
        outer |= {"final_dropout": config.final_dropout, "normalize": True}
    elif task is IMAGE_CLASSES:
        outer |= class_head_for_fairseq(config)
    return {"model": outer, "task": {"_name": task.task, "data": ""}}


def _model_section(config: Any) -> dict[str, Any]:
    if isinstance(config, Data2Vec2PreTrainingConfig):
        section = config_to_fairseq(config)
    else:
        section = config_to_fairseq_v1(_pretraining_config(config))
    return json.loads(json.dumps(section))  # defaults are numbers of classes of ours, which no file may name


def _pretraining_config(config: Any) -> Any:
    """A native config with the fields of pretraining, at their defaults where it has none."""
    if isinstance(config, Data2VecPreTrainingConfig):
        return config
    config_class = pretraining_class(config.model_type).config_class
    known = {entry.name for entry in fields(config_class)}
    values = {name: value for name, value in config.to_dict().items() if name in known}
    values["average_top_k_layers"] = min(config_class().average_top_k_layers, config.num_hidden_layers)
    if config.model_type == "data2vec-audio":
        values["mask_time_prob"] = config.mask_time_prob or 0.05
    return config_class(**values)


def weights_for_fairseq(state: Mapping[str, Tensor], config: Any, task: Task | None, teacher_key: str | None) -> dict:
    """All of the reference's weights by their full names, made of ours."""
    prefix = "" if task is None else task.prefix
    heads: dict[str, Tensor] = {}
    encoder = without_projector(state) if task is UTTERANCE_CLASSES else dict(state)
    if task is not None:
        for key in list(encoder):
            there = task.heads.theirs(key.replace(POOLER_NORM, "fc_norm."))
            if there is not None:
                heads[there] = encoder.pop(key)
    convert = state_to_fairseq if isinstance(config, Data2Vec2PreTrainingConfig) else state_to_fairseq_v1
    if convert is state_to_fairseq_v1:
        config = _pretraining_config(config)
    try:
        student, teacher = convert(encoder, config)
    except KeyError as error:
        raise ValueError(f"the model can't be written for the authors' code: {error.args[0]}") from error
    if task is not None:  # what only pretraining has
        student = {name: value for name, value in student.items() if not name.startswith("final_proj.")}
    weights = {prefix + name: value for name, value in student.items()} | heads
    return weights | {f"{teacher_key}.{name}": value for name, value in teacher.items()}


def _teacher_key(config: Any, task: Task | None) -> str | None:
    if task is not None:
        return None
    return "encoder._ema" if config.model_type == "data2vec-text" else "_ema"
