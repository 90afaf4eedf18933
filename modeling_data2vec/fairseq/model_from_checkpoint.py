"""Turns a fairseq checkpoint into a model of ours or of transformers: every kind that data2vec has.

`files.py` reads the file, `data2vec2_{config,weights}.py` and `data2vec_{config,weights}.py` map configs and names;
here is what is around them: pretrained or fine-tuned, old configs and new ones, and what a model has no place for.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from ..auto import pretraining_class
from ..configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .archive import check_extent, items_of
from .checkpoint_from_model import weights_for_fairseq
from .data2vec2_config import config_from_fairseq
from .data2vec2_options import NAME as NAME_V2
from .data2vec2_weights import state_from_fairseq
from .data2vec_config import config_from_fairseq_v1
from .data2vec_options import NAMES as NAMES_V1
from .data2vec_weights import state_from_fairseq_v1
from .files import resolved
from .source import Source
from .tasks import (
    POOLER_NORM,
    SENTENCE_CLASSES_V1,
    TASKS,
    UTTERANCE_CLASSES,
    Task,
    fine_tuned_config,
    with_projector,
)

logger = logging.get_logger(__name__)

PRETRAINING_HEAD = re.compile(r"encoder\.regression_head\.|modality_encoders\.\w+\.decoder\.")
PARALLEL = "module."  # before all names where a wrapper for several GPUs was saved instead of the model
# Names of EAT's trial with `utterance_level`, a second loss of utterances, which its models are used without.
TRIAL = re.compile(r"(model\.)?(center$|cls_proj\.)")


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
    prefix = PARALLEL if all(str(name).startswith(PARALLEL) for name in weights) else ""
    weights = {str(name).removeprefix(prefix): value for name, value in weights.items()}
    teacher_key = next((key for key in ("_ema", "encoder._ema") if key in weights), None)
    teacher = dict(weights[teacher_key]) if teacher_key else {}
    student = {name: value for name, value in weights.items() if name != teacher_key}
    if not_tensors := [name for name, value in (student | teacher).items() if not isinstance(value, Tensor)]:
        raise ValueError(f"the file's model holds entries that are no tensors: {', '.join(map(str, not_tensors))}")

    task = _task(config["model"], student)
    inner, kept, kept_teacher = _without_trial(config["model"], student, teacher)
    source = Source(
        prefix=prefix,
        config=config,
        names=[*student, *(f"{teacher_key}.{name}" for name in teacher)],
        teacher_key=teacher_key,
        task_state=dict(content.get("task_state") or {}),
    )
    ours, state = (
        _pretrained(inner, kept, kept_teacher, source) if task is None else _fine_tuned(inner, kept, task, source)
    )
    model = with_weights(ours, state, pretraining_class if task is None else task.model_classes.__getitem__)
    again = weights_for_fairseq(state, ours, task, teacher_key)
    original = student | {f"{teacher_key}.{name}": value for name, value in teacher.items()}
    source.rest = {name: value for name, value in original.items() if not _same(again.get(name), value)}
    return model, source


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
    if name == NAME_V2 and "proj.weight" in student:
        return UTTERANCE_CLASSES
    if name in TASKS or name == NAME_V2 or name in NAMES_V1:
        return TASKS.get(str(name))
    raise ValueError(
        f"the file's model is {name!r}, but can be one of {', '.join((*NAMES_V1, NAME_V2, *TASKS))}: "
        "is it another model of fairseq?"
    )


def _our_config(
    model: Mapping[str, Any], data: Any, student: Mapping[str, Tensor], source: Source, fine_tuned: bool
) -> Any:
    """Our pretraining config for the reference's config of a pretrained model, its sections `model` and `task`."""
    name = model.get("_name")
    tokens = next((value for key, value in student.items() if key.endswith("embed_tokens.weight")), None)
    vocab_size = None if tokens is None else len(tokens)
    options: dict[str, Any] = {"vocab_size": vocab_size, "fine_tuned": fine_tuned}
    try:
        if name == NAME_V2:
            flexible_mask = isinstance(data, Mapping) and bool(data.get("flexible_mask"))
            return config_from_fairseq(model, flexible_mask=flexible_mask, **options)
        if source.dictionary and len(source.dictionary) == vocab_size and "<mask>" in source.dictionary:
            options["mask_token_id"] = source.dictionary.index("<mask>")
        return config_from_fairseq_v1(model, str(name), **options)
    except KeyError as error:
        raise ValueError(
            f"the config of the file's {name} has no option {error}, which is needed to build it"
        ) from error


# ---- weights ----


def _without_trial(
    model: Mapping[str, Any], student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]
) -> tuple[Mapping[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """A model's config, student and teacher without what EAT's trial with `utterance_level` adds."""
    kept = [{name: value for name, value in one.items() if not TRIAL.match(name)} for one in (student, teacher)]
    if not model.get("utterance_level") and len(kept[0]) == len(student):
        return model, kept[0], kept[1]
    logger.warning(
        "The file is of EAT's trial with utterance_level: its center and cls_proj are left out, and pretraining goes "
        "on without that loss."
    )
    return {name: value for name, value in model.items() if name != "utterance_level"}, kept[0], kept[1]


def _pretrained(
    model: Mapping[str, Any], student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], source: Source
) -> tuple[Any, dict[str, Tensor]]:
    config = _our_config(model, source.config.get("task"), student, source, fine_tuned=False)
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
    data = (source.config if task.config is None else inner).get("task")
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
    encoder = {name: value for name, value in encoder.items() if not PRETRAINING_HEAD.match(name)}
    pretraining = _our_config(inner, data, encoder, source, fine_tuned=True)
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
    return config, state | (with_projector(head) if task is UTTERANCE_CLASSES else head)


def _state(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    convert = state_from_fairseq if isinstance(config, Data2Vec2PreTrainingConfig) else state_from_fairseq_v1
    try:
        return convert(student, teacher, config)
    except KeyError as error:
        raise ValueError(str(error.args[0])) from error


def _same(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and one.dtype == other.dtype and torch.equal(one, other)
