"""Recipes of published fine-tunings: hyperparameters as data, checked when they are read."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from modeling_data2vec.hub_configs import ROOT
from modeling_data2vec.model_files import interpreting

from ..modalities.names import modality_of_input
from ..option_checks import check_keys, require_plain_name
from ..recipes.parts import SAMPLING_RATE, RecipePart, check_figures
from ..recipes.sections import no_such_recipe, read_sections, require, required_fields
from .arguments import FinetuningArguments
from .options import FinetuningOptions
from .tasks.all_tasks import TASKS

FOLDER = ROOT / "finetuning"
TRAINING_KEYS = {entry.name for entry in fields(FinetuningArguments)}
OPTION_KEYS = {entry.name for entry in fields(FinetuningOptions)} - {
    "task",
    "model",
    "dataset",
    "config",
    "peft_config",
}


@dataclass(frozen=True)
class FinetuningRecipe:
    """One fine-tuning, as a file of `hub_configs/finetuning` states it; made by `load_finetune_recipe`.

    Attributes:
        name: what the recipe is called.
        task: of `data2vec finetune`.
        model_types: types of models that it is for.
        source: where the values come from.
        data: `dataset` and its size, `num_examples` or `num_seconds`, if that is known; for speech `max_batch_seconds`.
        training: fields of `FinetuningArguments`.
        num_gpus: devices that the run was made for.
        global_batch: samples, or seconds with `data.max_batch_seconds`, in an optimizer step.
        options: other options of `data2vec finetune`, e.g. names of columns.
        config_overrides: fields of the model's config that this recipe changes.
        published: what the authors claim, None where unknown.
        notes: what is unknown, and other things to know.
    """

    name: str
    task: str
    model_types: list[str]
    source: str
    data: dict[str, Any]
    training: dict[str, Any]
    num_gpus: int
    global_batch: float
    options: dict[str, Any] = field(default_factory=dict)
    config_overrides: dict[str, Any] = field(default_factory=dict)
    published: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def part(self) -> RecipePart:
        """Data and batches, in the unit that they are counted in."""
        size = self.training.get("per_device_train_batch_size")
        kind = modality_of_input(TASKS[self.task].main_input)
        return RecipePart(kind.name, self.data, self.global_batch, size)

    @property
    def epochs(self) -> float | None:
        """Passes over the data, at most; None where the size of the data is unknown."""
        return self.part.epochs(self.training["max_steps"])

    def defaults(self) -> dict[str, Any]:
        """Training arguments and options that the recipe sets."""
        bound = {}
        if "max_batch_seconds" in self.data:
            bound["max_batch_length"] = round(SAMPLING_RATE * self.data["max_batch_seconds"])
        return {**self.training, **bound, **self.options, "task": self.task}

    def check_model(self, model_type: str) -> None:
        """Require that the recipe is for a type of model.

        Raises:
            ValueError: it isn't.
        """
        if model_type not in self.model_types:
            raise ValueError(
                f"{self.name} is a recipe for {' or '.join(self.model_types)}, but --model is a {model_type}: choose "
                "another recipe, or none"
            )


def finetune_recipe_names() -> list[str]:
    """Names of all recipes of fine-tuning, sorted.

    Example:
        >>> "data2vec2-vision-base-imagenet" in finetune_recipe_names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_finetune_recipe(name_or_path: str | Path) -> FinetuningRecipe:
    """Read and check a recipe of fine-tuning.

    Args:
        name_or_path: a name in `hub_configs/finetuning`, or a yaml file.

    Raises:
        ValueError: if there is no such recipe, a key is unknown or missing, or the figures contradict each other.

    Example:
        >>> recipe = load_finetune_recipe("data2vec2-vision-base-imagenet")
        >>> recipe.training["layer_decay"], round(recipe.epochs)
        (0.65, 100)
    """
    names = finetune_recipe_names()
    path = FOLDER / f"{name_or_path}.yaml" if str(name_or_path) in names else Path(name_or_path)
    if not path.is_file():
        raise no_such_recipe(name_or_path, names, "or a yaml file")
    with interpreting(path):
        return _checked(path)


def _checked(path: Path) -> FinetuningRecipe:
    values = read_sections(path, FinetuningRecipe)
    stated_epochs = values.pop("epochs", None)
    check_keys(values, {entry.name for entry in fields(FinetuningRecipe)}, str(path))
    require(values, required_fields(FinetuningRecipe), str(path))
    require_plain_name(values["name"], str(path))
    if values["task"] not in TASKS:
        raise ValueError(f"{path}: task is {values['task']!r}, but must be one of {', '.join(TASKS)}")
    recipe = FinetuningRecipe(**values)
    check_keys(recipe.data, {"dataset", "num_examples", "num_seconds", "max_batch_seconds"}, f"{path}, data")
    check_keys(recipe.training, TRAINING_KEYS, f"{path}, training")
    check_keys(recipe.options, OPTION_KEYS, f"{path}, options")
    counted = [] if "max_batch_seconds" in recipe.data else ["per_device_train_batch_size"]
    require(recipe.training, ["max_steps", *counted], f"{path}, training")
    accumulation = recipe.training.get("gradient_accumulation_steps", 1)
    check_figures(recipe.part, recipe.num_gpus, accumulation, stated_epochs, recipe.training["max_steps"], str(path))
    return recipe
