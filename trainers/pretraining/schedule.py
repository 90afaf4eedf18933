"""Fit a run's schedule to its batch (`--scale_to_batch`), and to going on from a trained model (`--adapt`)."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch

from ..recipes.adapting import ADAPTED, adapted_values
from ..recipes.batch_scaling import SCALED, TEACHER, require_one_batch
from ..recipes.parts import SAMPLING_RATE
from ..recipes.recipe import Recipe
from ..runs.arguments import Data2VecTrainingArguments
from .options import PretrainingOptions
from .trainer import Data2VecTrainer


def scaled_recipe_of(
    options: PretrainingOptions,
    args: Data2VecTrainingArguments,
    recipe: Recipe,
    named: Collection[str],
    given: Mapping[str, Any],
) -> Recipe:
    """The recipe, scaled to the global batch of a run: the run's own, or that of `--scale_to_batch`.

    Args:
        options: of the command.
        args: of the run; their micro-batch is that of the recipe where none was given.
        recipe: of the run.
        named: the options that were given.
        given: values of the schedule that were given, by name.

    Raises:
        ValueError: the batch can't be counted or shared out, or no rule leads there.
    """
    require_one_batch(recipe)
    unit, devices = recipe.only.unit, args.world_size * max(1, args.n_gpu)
    size = "max_batch_length" if unit == "seconds" else "per_device_train_batch_size"
    micro_batch: float = args.per_device_train_batch_size
    if unit == "seconds":
        if options.streaming or args.max_batch_length is None:
            raise ValueError(
                f"--scale_to_batch counts in seconds, as {recipe.name} does, but a stream's batches hold clips of "
                "unknown lengths: leave --streaming out, or set the schedule yourself"
            )
        micro_batch = args.max_batch_length / SAMPLING_RATE
    own_batch = micro_batch * args.gradient_accumulation_steps * devices
    batch = options.scale_to_batch or own_batch
    if batch != own_batch and {size, "gradient_accumulation_steps"} <= set(named):
        raise ValueError(
            f"--scale_to_batch is {batch:g}, but {size} and gradient_accumulation_steps make {own_batch:g} {unit} on "
            f"{devices} devices: leave one of the three out"
        )
    if "gradient_accumulation_steps" in named:
        micro_batch = batch / args.gradient_accumulation_steps / devices
    if options.adapt:  # whose own rules follow
        given = {name: value for name, value in given.items() if name not in ADAPTED}
    is_fixed = not options.scale_to_batch or not {size, "gradient_accumulation_steps"}.isdisjoint(named)
    return recipe.scaled(batch, num_gpus=devices, per_device_batch=micro_batch if is_fixed else None, **given)


def given_values(
    args: Data2VecTrainingArguments, named: Collection[str], config_changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of a schedule that were given, by name, and so do not follow from rules."""
    chosen = {name: getattr(args, name) for name in SCALED if name in named and name not in TEACHER}
    return chosen | {name: config_changes[name] for name in TEACHER if name in config_changes}


def adapt_schedule(trainer: Data2VecTrainer, recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """Fit a run from a trained model to the size of its data: arguments, the teacher's decays, the recipe's `changes`.

    Args:
        trainer: of the run; its arguments and its model's config are changed.
        recipe: scaled to the run's batch.
        given: values of the schedule that were given, by name.

    Raises:
        ValueError: the size of the data is not known.
    """
    args, config = trainer.args, trainer.model.config
    own = recipe.model_config()
    values = {name: getattr(own, name) for name in TEACHER}
    values |= {name: recipe.training.get(name, 0) for name in ("max_steps", "warmup_steps", "learning_rate")}
    changes = adapted_values(values, trainer.plan().steps_per_epoch, has_trained_teacher(trainer.model), given)
    for change in changes:
        setattr(config if change.name in TEACHER else args, change.name, change.new)
    before = {change.name: change for change in recipe.changes}
    after = {change.name: replace(change, old=before.get(change.name, change).old) for change in changes}
    return replace(recipe, changes=tuple((before | after).values()))


def has_trained_teacher(model: Any) -> bool:
    """Whether a model's teacher is another than a copy of its student."""
    students = dict(model.base_model.named_parameters())
    return any(
        not torch.equal(weight, students[name].to(weight.dtype))
        for name, weight in model.teacher.named_parameters()
        if not name.startswith(model.copied_into_teacher)
    )
