"""The rules by which a schedule fits another global batch, each with its source."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..option_checks import check_keys
from ..runs.arguments import Data2VecTrainingArguments
from .parts import RecipePart

SAMPLES = "the same number of samples"
ADAM_RULE = "arXiv 2205.10287, scaling rule of Adam"
SGD_RULE = "arXiv 1706.02677"
EMA_RULE = "arXiv 2307.13813"
DECAY_RULE = "arXiv 2405.13698, the same memory in samples"
BETAS = ("adam_beta1", "adam_beta2")
DECAYS = ("ema_decay", "ema_end_decay")
STEPS = ("max_steps", "warmup_steps", "ema_anneal_end_step")
TEACHER = (*DECAYS, "ema_anneal_end_step")  # fields of the model's config; all others are training arguments
SCALED = ("learning_rate", "weight_decay", *BETAS, "adam_epsilon", *STEPS, *DECAYS, "lr_scheduler_kwargs")


@dataclass(frozen=True)
class Change:
    """A value of a schedule that a rule changed.

    Attributes:
        name: of the training argument or of the config's field.
        old, new: its value before and after.
        rule: how the new one follows from the old one, in a few words.
        source: where the rule comes from; empty for a value that was given.
    """

    name: str
    old: Any
    new: Any
    rule: str
    source: str = ""


def scaled_recipe(
    recipe: Any, global_batch: float, num_gpus: int, per_device_batch: float | None, given: Mapping[str, Any]
) -> Any:
    """A recipe for another global batch: `Recipe.scaled`, which says what the arguments are."""
    require_one_batch(recipe)
    check_keys(given, SCALED, "what is given to scaled()")
    part = _part_for(recipe.only, global_batch, num_gpus, per_device_batch)
    config = recipe.model_config()
    arguments = {one.name: one.default for one in fields(Data2VecTrainingArguments) if one.name in (*SCALED, "optim")}
    values = arguments | recipe.training | {name: getattr(config, name) for name in TEACHER}
    k = global_batch / recipe.global_batch
    changes = scaled_values(values, k, given)
    new = {change.name: change.new for change in changes}
    training = {name: value for name, value in new.items() if name not in TEACHER}
    training["gradient_accumulation_steps"] = round(global_batch / num_gpus / part.micro_batch)
    if part.per_device_train_batch_size:
        training["per_device_train_batch_size"] = part.per_device_train_batch_size
    return replace(
        recipe,
        num_gpus=num_gpus,
        training=recipe.training | training,
        config_overrides=recipe.config_overrides | {name: new[name] for name in TEACHER if name in new},
        modalities={part.modality: part},
        changes=(Change("global_batch", recipe.global_batch, part.global_batch, f"k = {k:.4g}"), *changes),
    )


def require_one_batch(recipe: Any) -> None:
    """Raise a ValueError for a recipe of several modalities: each has a global batch of its own."""
    if len(recipe.modalities) > 1:
        raise ValueError(
            f"{recipe.name} has a global batch for each of {', '.join(recipe.modalities)}, and no rule scales several: "
            "keep them, with gradient_accumulation_steps, and go on from a model with --model instead of --adapt"
        )


def _part_for(part: RecipePart, global_batch: float, num_gpus: int, per_device_batch: float | None) -> RecipePart:
    """A recipe's section with another global batch, in as few micro-batches as its own micro-batch allows."""
    in_seconds, share = part.unit == "seconds", global_batch / num_gpus
    if share <= 0 or not (in_seconds or share.is_integer()):
        raise ValueError(
            f"a global batch of {global_batch:g} {part.unit} can't be shared out to {num_gpus} devices: take a "
            f"multiple of {num_gpus}"
        )
    number = micro_batches(share, per_device_batch or min(part.micro_batch, share), whole=not in_seconds)
    if per_device_batch and not math.isclose(share / number, per_device_batch):
        raise ValueError(
            f"a global batch of {global_batch:g} {part.unit} is no multiple of {num_gpus} devices x micro-batches of "
            f"{per_device_batch:g}: change one of them"
        )
    if in_seconds:
        return replace(part, global_batch=global_batch, data=part.data | {"max_batch_seconds": share / number})
    return replace(part, global_batch=int(global_batch), per_device_train_batch_size=int(share / number))


def scaled_values(values: Mapping[str, Any], k: float, given: Mapping[str, Any]) -> list[Change]:
    """The changes that fit a schedule to a global batch that is `k` times as large.

    What a sample does to the weights, to the optimizer's averages and to the teacher stays the same, as far as the
    sources say how. AdamW takes the square root rule, since the size of its steps does not follow that of the gradient:
    what grows with the batch is the agreement of steps. For SGD the rule is linear.

    Args:
        values: of the recipe, by name: those of `SCALED`, and `optim`.
        k: new global batch / the recipe's.
        given: values that are chosen instead, by name.

    Raises:
        ValueError: there is no rule for the optimizer, or k is so large that a beta would be negative.

    Example:
        >>> recipe = {"optim": "adamw_torch", "learning_rate": 1e-3, "ema_decay": 0.999, "max_steps": 1000}
        >>> [(change.name, change.new) for change in scaled_values(recipe, 0.25, {"max_steps": 500})]
        [('learning_rate', 0.0005), ('max_steps', 500), ('ema_decay', 0.9997499062)]
    """
    optim = str(getattr(values["optim"], "value", values["optim"]))
    changes = []
    for name in [name for name in SCALED if values.get(name)]:
        old = values[name]
        new, rule, source = (given[name], "as given", "") if name in given else _scaled(name, old, k, optim)
        if new != old or name in given:
            changes.append(Change(name, old, new, rule, source))
    return changes


def _scaled(name: str, old: Any, k: float, optim: str) -> tuple[Any, str, str]:
    """The new value, its rule and the rule's source."""
    root = math.sqrt(k)
    if name in STEPS:
        return (max(1, round(old / k)) if old >= 1 else old), "/ k", SAMPLES  # below 1, it is a share of the run
    if name in DECAYS:
        return float(f"{old**k:.10g}"), "to the power of k", EMA_RULE
    if name == "lr_scheduler_kwargs":
        steps = {key: max(1, round(value / k)) for key, value in old.items() if key.endswith("_steps")}
        return {**old, **steps}, "steps / k", SAMPLES
    if optim.startswith("sgd"):
        return (_rounded(old * k), "x k", SGD_RULE) if name == "learning_rate" else (old, "", "")
    if not optim.startswith("adam"):
        raise ValueError(
            f"there is no rule by which {name} of optim {optim} fits another batch, only for adamw and sgd: give "
            f"--{name} yourself, or keep the recipe's global batch with gradient_accumulation_steps"
        )
    if name in BETAS:
        new = 1 - k * (1 - old)
        if new < 0:
            raise ValueError(
                f"with a batch {k:g} times the recipe's, {name} would be {new:.3g}: the rule for Adam holds up to "
                f"{1 / (1 - old):.3g} times. Take a smaller batch, or give --adam_beta1 and --adam_beta2 yourself"
            )
        return _rounded(new), "1 - k (1 - beta)", ADAM_RULE
    if name == "adam_epsilon":
        return _rounded(old / root), "/ sqrt(k)", ADAM_RULE
    return _rounded(old * root), "x sqrt(k)", ADAM_RULE if name == "learning_rate" else DECAY_RULE


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def micro_batches(share: float, most: float, whole: bool) -> int:
    """The fewest equal micro-batches, none above `most`, that a device's share of a global batch is made of.

    Args:
        share: samples, or seconds, of a device in an optimizer step.
        most: that it holds at once.
        whole: whether a micro-batch is a number of samples.

    Example:
        >>> micro_batches(24, 16, whole=True), micro_batches(7, 3, whole=True), micro_batches(100, 62.5, whole=False)
        (2, 7, 2)
    """
    number = max(1, math.ceil(share / most))
    while whole and share % number:
        number += 1
    return number


def change_table(changes: Iterable[Change]) -> str:
    """A table of changes for a terminal: name, old and new value, rule and source, a line each.

    Example:
        >>> print(change_table([Change("ema_decay", 0.99, 0.96059601, "to the power of k", EMA_RULE)]))
          value      recipe  this run    rule
          ema_decay  0.99    0.96059601  to the power of k (arXiv 2307.13813)
    """
    rows = [("value", "recipe", "this run", "rule")]
    for change in changes:
        rule = f"{change.rule} ({change.source})" if change.source else change.rule
        rows.append((change.name, shown(change.old), shown(change.new), rule))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )


def shown(value: Any) -> str:
    """A value as tables show it: steps with separators, decays with all their nines."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.9g}" if isinstance(value, float) else str(value)
