"""The schedule by which a trained model goes on with pretraining on other data, each value with its rule."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from modeling_data2vec.auto import pretraining_class_of
from modeling_data2vec.hub_configs import recipe_names

from ..files.model_folders import loading
from ..hub.provenance import Provenance
from .batch_scaling import TEACHER, Change
from .recipe import load_recipe

ADAPTED = ("max_steps", "warmup_steps", "learning_rate", *TEACHER)
EPOCHS, MOST_STEPS = 100, 0.1  # passes over the data; share of the recipe's steps
PEAK = 0.25  # of the recipe's learning rate
WARMUP = 0.06  # of the steps
LONGEST_MEMORY = 0.25  # of the teacher, as a share of the run
SHORTEST_DECAY = 0.9
OWN_CHOICE = "this package's choice"
TASK_ADAPTIVE = "arXiv 2004.10964"
LOWER_PEAK = "a lower peak forgets less, arXiv 2308.04014"


def adapted_values(
    values: Mapping[str, Any], steps_per_epoch: int | None, has_teacher: bool, given: Mapping[str, Any]
) -> list[Change]:
    """The changes that fit a recipe to going on from a trained model.

    Args:
        values: of the recipe at the run's batch, by name: `max_steps`, `warmup_steps`, `learning_rate`, `ema_decay`,
            `ema_end_decay`, `ema_anneal_end_step`.
        steps_per_epoch: optimizer steps of a pass over the data; None for a stream.
        has_teacher: whether the model has a teacher that was trained; else it begins as a copy of the student.
        given: values that are chosen instead, by name.

    Raises:
        ValueError: a stream, whose size is not known, without `max_steps`.

    Example:
        >>> recipe = {"max_steps": 100_000, "warmup_steps": 5_000, "learning_rate": 1e-3}
        >>> recipe |= {"ema_decay": 0.999, "ema_end_decay": 0.9999, "ema_anneal_end_step": 30_000}
        >>> [(change.name, change.new) for change in adapted_values(recipe, 20, True, {})][:4]
        [('max_steps', 2000), ('warmup_steps', 120), ('learning_rate', 0.00025), ('ema_decay', 0.995)]
    """
    before = values["max_steps"]
    if steps_per_epoch is None and "max_steps" not in given:
        raise ValueError(
            "--adapt takes the number of steps from the size of the data, which a stream does not say: give --max_steps"
        )
    steps = given.get("max_steps") or max(2, min(EPOCHS * (steps_per_epoch or 0), round(MOST_STEPS * before)))
    end_share = _share(values["ema_end_decay"], before, LONGEST_MEMORY)
    end = _decay(end_share, steps)
    start, rise = end, 0
    teacher = f"a memory of {end_share:.1%} of the run, as in the recipe, at most {LONGEST_MEMORY:.0%}"
    ramp = "no ramp: the teacher is a trained one"
    if not has_teacher:
        start = _decay(_share(values["ema_decay"], before, end_share), steps)
        rise = round(values["ema_anneal_end_step"] / before * steps)
        ramp = "the same share of the run: the teacher begins as a copy"
    rules = {
        "max_steps": (steps, f"{EPOCHS} epochs, at most {MOST_STEPS:.0%} of the recipe's samples", TASK_ADAPTIVE),
        "warmup_steps": (max(1, round(WARMUP * steps)), f"{WARMUP:.0%} of the steps", TASK_ADAPTIVE),
        "learning_rate": (PEAK * values["learning_rate"], f"{PEAK:g} x the recipe's at this batch", LOWER_PEAK),
        "ema_decay": (start, ramp if has_teacher else teacher, OWN_CHOICE),
        "ema_end_decay": (end, teacher, OWN_CHOICE),
        "ema_anneal_end_step": (rise, ramp, OWN_CHOICE),
    }
    changes = []
    for name, (new, rule, source) in rules.items():
        if name == "warmup_steps" and not values.get(name):
            continue  # a schedule of shares, such as tri_stage
        new, rule, source = (given[name], "as given", "") if name in given else (new, rule, source)
        changes.append(Change(name, values[name], new, rule, source))
    return changes


def _share(decay: float, steps: int, most: float) -> float:
    """How far back a teacher looks, 1 / (1 - decay) steps, as a share of the run; at most `most`."""
    return min(most, 1 / ((1 - decay) * steps)) if decay < 1 else most


def _decay(share: float, steps: int) -> float:
    """The decay with which a teacher looks back at a share of a run."""
    return max(SHORTEST_DECAY, float(f"{1 - 1 / max(1, share * steps):.8g}"))


def recipe_of(model: str) -> str:
    """The name of the recipe that fits a model: the one it was trained by, else the only one for its kind and size.

    Args:
        model: folder or Hub id.

    Raises:
        ValueError: no recipe fits, or several do.
    """
    with loading(model):
        trained_by = Provenance.load(model).recipe.get("name")
        if trained_by in recipe_names():
            return str(trained_by)
        try:
            model_class = pretraining_class_of(model)
        except OSError as error:
            raise ValueError(f"the model {model!r} can't be loaded: {str(error).splitlines()[0]}") from error
        config, _ = PreTrainedConfig.get_config_dict(model)
    size = ("hidden_size", "num_hidden_layers")
    found = []
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.model_class is model_class:
            own = recipe.model_config()
            if all(getattr(own, field, None) == config.get(field) for field in size):
                found.append(name)
    if len(found) != 1:
        fitting = f"{', '.join(found)} do" if found else "none is for a model of its type and size"
        raise ValueError(f"no single recipe fits the model {model!r}, {fitting}: name one with --recipe")
    return found[0]
