"""Turns a fairseq checkpoint into a model of ours or of transformers, and back: every kind that data2vec has.

`files.py` reads and writes the files, `data2vec2.py` and `data2vec.py` map configs and names; here is
what is around them: pretrained or fine-tuned, old configs and new ones, and what a model has no place for.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from ..auto import pretraining_class
from ..configuration_data2vec2 import Data2Vec2PreTrainingConfig
from ..configuration_pretraining import Data2VecPreTrainingConfig
from ..core import Data2VecCore
from .archive import check_extent, items_of
from .data2vec import NAMES as NAMES_V1
from .data2vec import config_from_fairseq_v1, config_to_fairseq_v1
from .data2vec2 import NAME as NAME_V2
from .data2vec2 import config_from_fairseq, config_to_fairseq
from .data2vec2_weights import state_from_fairseq, state_to_fairseq
from .data2vec_weights import state_from_fairseq_v1, state_to_fairseq_v1
from .files import as_fairseq_dictionary, resolved
from .tasks import (
    CTC,
    IMAGE_CLASSES,
    POOLER_NORM,
    SENTENCE_CLASSES_V1,
    TASKS,
    Task,
    class_head_for_fairseq,
    fine_tuned_config,
)

logger = logging.get_logger(__name__)

# What fairseq calls the data of a model, in a config that is written for it.
FAIRSEQ_TASKS = {
    "input_values": "audio_pretraining",
    "pixel_values": "mae_image_pretraining",
    "input_features": "mae_image_pretraining",
    "input_ids": "masked_lm",
}


@dataclass
class Source:
    """The parts of a fairseq file that a model does not hold, kept to write the same file again.

    Attributes:
        config: the file's config, plain and resolved.
        names: the names of its weights, in order; the teacher's with `teacher_key` and a point before them.
        teacher_key: the entry that holds the teacher; None without one.
        task_state: what the task had kept, such as a dictionary, plain.
        rest: weights that the model has no place for, or has in another form.
    """

    config: dict[str, Any]
    names: list[str]
    teacher_key: str | None = None
    task_state: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Tensor] = field(default_factory=dict)

    @property
    def dictionary(self) -> list[str] | None:
        """Symbols of the task's dictionary, in order; None without one."""
        dictionary = self.task_state.get("target_dictionary") or self.task_state.get("source_dictionary")
        if isinstance(dictionary, Mapping):
            dictionary = dictionary.get("symbols")
        return [str(symbol) for symbol in dictionary] if isinstance(dictionary, list) else None

    def class_names(self, num_labels: int) -> dict[int, str] | None:
        """Names of so many classes by their number, which the task has as {name: number}; None where it has none."""
        names = self.task_state.get("labels")
        if not isinstance(names, Mapping):
            return None
        found = {int(number): str(name) for name, number in names.items()}
        return found if sorted(found) == list(range(num_labels)) else None


def from_fairseq(content: Mapping[str, Any]) -> tuple[Any, Source]:
    """A model with the weights of a checkpoint, and what else the checkpoint says.

    Args:
        content: what `files.read_checkpoint` returns.

    Returns:
        A `...ForPreTraining` model with student, teacher and head, or a fine-tuned model (1.0: transformers' own
        class). It is not for use, but to be saved: what no file holds, as buffers, is not computed.

    Raises:
        ValueError: it is no data2vec checkpoint, has options that can't be represented, or its weights are not those
            that its config asks for; they are listed.
    """
    config = checkpoint_config(content)
    weights = content.get("model")
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError("the file holds no model, so it is no checkpoint of fairseq's trainer")
    teacher_key = next((key for key in ("_ema", "encoder._ema") if key in weights), None)
    teacher = dict(weights[teacher_key]) if teacher_key else {}
    student = {name: value for name, value in weights.items() if name != teacher_key}
    if not_tensors := [name for name, value in (student | teacher).items() if not isinstance(value, Tensor)]:
        raise ValueError(f"the file's model holds entries that are no tensors: {', '.join(map(str, not_tensors))}")

    task = _task(config["model"], student)
    source = Source(
        config=config,
        names=[*student, *(f"{teacher_key}.{name}" for name in teacher)],
        teacher_key=teacher_key,
        task_state=dict(content.get("task_state") or {}),
    )
    ours, state = (
        _pretrained(config["model"], student, teacher, source)
        if task is None
        else _fine_tuned(config["model"], student, task, source)
    )
    model = with_weights(ours, state, pretraining_class if task is None else task.model_classes.__getitem__)
    again = _weights_for_fairseq(state, ours, task, teacher_key)
    original = student | {f"{teacher_key}.{name}": value for name, value in teacher.items()}
    source.rest = {name: value for name, value in original.items() if not _same(again.get(name), value)}
    return model, source


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
    task = next((task for task in (*TASKS.values(), SENTENCE_CLASSES_V1) if task.is_for(model)), None)
    if task is None and not isinstance(model, Data2VecCore):
        raise ValueError(
            f"a {type(model).__name__} can't be written for fairseq: it has models for pretraining, CTC, image classes "
            "and sentence classes"
        )
    has_teacher = any(key.startswith("teacher.") for key in state)
    teacher_key = source.teacher_key if source else _teacher_key(config, task) if has_teacher else None
    weights = _weights_for_fairseq(state, config, task, teacher_key)
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


def with_weights(config: Any, state: Mapping[str, Tensor], model_class: Any) -> Any:
    """A model that has the given tensors, without a copy of them.

    Args:
        config: the model's.
        state: its weights.
        model_class: gives the class for a `model_type`.

    Raises:
        ValueError: lists weights that are missing, not expected or of another shape.
    """
    for name, value in config.to_dict().items():
        if name.endswith("layers") and isinstance(value, int) and value > len(state):
            raise ValueError(f"the file's config has {name} {value:,}, but the file has {len(state):,} weights in all")
    with torch.device("meta"):
        model = model_class(config.model_type)(config)
    expected = model.state_dict()
    wrong = [
        f"{name}: {list(state[name].shape)} instead of {list(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected or wrong:
        lists = (("missing", missing), ("not expected", unexpected), ("of another shape", wrong))
        raise ValueError(
            f"the file's weights are not those of a {type(model).__name__} with its config: "
            + "; ".join(f"{what}: {', '.join(names)}" for what, names in lists if names)
        )
    model.load_state_dict(dict(state), assign=True)
    return model


# ---- configs ----


def checkpoint_config(content: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a checkpoint, `model` and `task` among its sections, whether its file is old or new.

    Raises:
        ValueError: there is none.
    """
    config = content.get("cfg")
    if not config and (arguments := content.get("args")):
        # Before fairseq had sections, one namespace held everything.
        config = {"model": dict(arguments), "task": dict(arguments)}
        for section, name in (("model", "arch"), ("task", "task")):
            config[section].setdefault("_name", arguments.get(name))
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), Mapping):
        raise ValueError(
            f"the file holds {', '.join(map(str, content)) or 'nothing'}, but no config of a model: it is no "
            "checkpoint of fairseq's trainer"
        )
    found = resolved(config)
    check_extent(found, "the config of the file, with what it refers to,", items_of)
    return found


def _task(model: Mapping[str, Any], student: Mapping[str, Tensor]) -> Task | None:
    """The task that a model was fine-tuned for; None for a pretrained one."""
    name = model.get("_name")
    if name == "data2vec_text" and any(key.startswith("classification_heads.") for key in student):
        return SENTENCE_CLASSES_V1
    if name in TASKS or name == NAME_V2 or name in NAMES_V1:
        return TASKS.get(str(name))
    raise ValueError(
        f"the file's model is {name!r}, but can be one of {', '.join((*NAMES_V1, NAME_V2, *TASKS))}: "
        "is it another model of fairseq?"
    )


def _our_config(model: Mapping[str, Any], student: Mapping[str, Tensor], source: Source, fine_tuned: bool) -> Any:
    """Our pretraining config for the reference's config of a pretrained model."""
    name = model.get("_name")
    tokens = next((value for key, value in student.items() if key.endswith("embed_tokens.weight")), None)
    vocab_size = None if tokens is None else len(tokens)
    options: dict[str, Any] = {"vocab_size": vocab_size, "fine_tuned": fine_tuned}
    try:
        if name == NAME_V2:
            return config_from_fairseq(model, **options)
        if source.dictionary and len(source.dictionary) == vocab_size and "<mask>" in source.dictionary:
            options["mask_token_id"] = source.dictionary.index("<mask>")
        return config_from_fairseq_v1(model, str(name), **options)
    except KeyError as error:
        raise ValueError(
            f"the config of the file's {name} has no option {error}, which is needed to build it"
        ) from error


def _config_for_fairseq(model: Any, task: Task | None) -> dict[str, Any]:
    config = model.config
    inner = {
        "model": _model_section(config),
        "task": {"_name": FAIRSEQ_TASKS[model.main_input_name], "data": ""},
    }
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
        return config_to_fairseq(config)
    return config_to_fairseq_v1(_pretraining_config(config))


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


# ---- weights ----


def _pretrained(
    model: Mapping[str, Any], student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], source: Source
) -> tuple[Any, dict[str, Tensor]]:
    config = _our_config(model, student, source, fine_tuned=False)
    state = _state(student, teacher, config)
    if not teacher:  # as in emotion2vec's files
        logger.warning("The file has no teacher: it starts as a copy of the student.")
        state |= _as_teacher(state, config)
    return config, state


def _as_teacher(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """The student's weights of which a teacher has an average, copied under the teacher's names."""
    model_class = pretraining_class(config.model_type)
    with torch.device("meta"):
        expected = model_class(config).state_dict()
    student = {name: f"{model_class.base_model_prefix}.{name.removeprefix('teacher.')}" for name in expected}
    return {
        name: state[student[name]].float().clone()
        for name in expected
        if name.startswith("teacher.") and student[name] in state
    }


def _fine_tuned(
    model: Mapping[str, Any], student: Mapping[str, Tensor], task: Task, source: Source
) -> tuple[Any, dict[str, Tensor]]:
    inner: Any = model if task.config is None else model.get(task.config)
    if not isinstance(inner, Mapping):
        raise ValueError(f"the config of the file's {model['_name']} has no {task.config}, which describes its encoder")
    if task.config is not None:
        inner = (
            inner["model"] if isinstance(inner.get("model"), Mapping) else dict(inner) | {"_name": inner.get("arch")}
        )
    head = {ours: value for name, value in student.items() if (ours := task.heads.ours(name)) is not None}
    encoder = {
        name.removeprefix(task.prefix): value
        for name, value in student.items()
        if name.startswith(task.prefix) and task.heads.ours(name) is None
    }
    known = {*(task.prefix + name for name in encoder), *(name for name in student if task.heads.ours(name))}
    if unknown := [name for name in student if name not in known]:
        raise ValueError(f"not weights of a {model['_name']} model of the reference: {', '.join(unknown)}")
    # Of pretraining, and no longer of use.
    encoder = {name: value for name, value in encoder.items() if not name.startswith("encoder.regression_head.")}
    pretraining = _our_config(inner, encoder, source, fine_tuned=True)
    state = _state(encoder, {}, pretraining)
    config = fine_tuned_config(pretraining, task, model, head, state)
    if names := source.class_names(config.num_labels):
        config.id2label, config.label2id = names, {name: number for number, name in names.items()}
    if config.model_type == "data2vec-vision":
        logger.warning(
            "fairseq's class for images of data2vec 1.0 left the first patch out of the mean before the classifier; "
            "here, as in the code of the released checkpoints, all patches count, which changes the logits "
            "(docs/differences.md)."
        )
        head = {name.replace("fc_norm.", POOLER_NORM): value for name, value in head.items()}
    return config, state | head


def _state(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    convert = state_from_fairseq if isinstance(config, Data2Vec2PreTrainingConfig) else state_from_fairseq_v1
    try:
        return convert(student, teacher, config)
    except KeyError as error:
        raise ValueError(str(error.args[0])) from error


def _weights_for_fairseq(state: Mapping[str, Tensor], config: Any, task: Task | None, teacher_key: str | None) -> dict:
    """All of the reference's weights by their full names, made of ours."""
    prefix = "" if task is None else task.prefix
    heads: dict[str, Tensor] = {}
    encoder = dict(state)
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


def _same(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and one.dtype == other.dtype and torch.equal(one, other)


def _teacher_key(config: Any, task: Task | None) -> str | None:
    if task is not None:
        return None
    return "encoder._ema" if config.model_type == "data2vec-text" else "_ema"
