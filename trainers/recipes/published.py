"""The models that the authors published, and checks of their figures and of the recipes."""

from dataclasses import dataclass
from typing import Any

import torch

from modeling_data2vec.fairseq.tasks import CTC, IMAGE_CLASSES, task_config
from modeling_data2vec.hub_configs import ROOT, recipe_names

from ..files.yaml_files import read_yaml
from ..option_checks import did_you_mean
from .recipe import Recipe, load_recipe

# EAT's classes of clips are, in the authors' code, classes of images.
TASKS = {"ctc": CTC, "image-classification": IMAGE_CLASSES, "audio-classification": IMAGE_CLASSES}
DOWNLOADS = "https://dl.fbaipublicfiles.com/"  # where the authors keep their files


@dataclass(frozen=True)
class PublishedModel:
    """One model in `hub_configs/published.yaml`, which says what the fields are.

    Example:
        >>> model = published_model("data2vec2-audio-base-960h")
        >>> model.addresses()[0].rpartition("/")[2], model.license
        ('base_libri_960h.pt', 'mit')
    """

    name: str
    recipe: str
    weights: list[str]
    license: str
    parameters: int
    result: str | None = None
    task: str | None = None
    outputs: int | None = None

    def addresses(self) -> list[str]:
        """Where the weights are: addresses of files, ids of models on the Hub."""
        return [DOWNLOADS + one if one.endswith(".pt") else one for one in self.weights]

    def config(self) -> Any:
        """The model's config: the recipe's or, of a fine-tuned one, with a head."""
        config = load_recipe(self.recipe).model_config()
        if self.task is None:
            return config
        return task_config(config, TASKS[self.task], int(self.outputs or 0))

    def model_class(self) -> Any:
        """Ours, or transformers' own for fine-tuned models of 1.0."""
        if self.task is None:
            return load_recipe(self.recipe).model_class
        return TASKS[self.task].model_classes[self.config().model_type]

    def count_parameters(self) -> int:
        """Parameters of encoder and head, counted on a model that takes no memory."""
        with torch.device("meta"):
            model = self.model_class()(self.config())
        part = model.base_model if self.task is None else model
        return sum(parameter.numel() for parameter in part.parameters())


def published_models() -> list[PublishedModel]:
    """All published models, in the file's order."""
    return [PublishedModel(**entry) for entry in read_yaml(ROOT / "published.yaml")]


def published_model(name: str) -> PublishedModel:
    """The published model of a name.

    Raises:
        ValueError: there is none of that name.
    """
    models = {model.name: model for model in published_models()}
    if name not in models:
        hint = did_you_mean(name, models)
        hint = f"{hint} Choose" if hint else "choose"
        raise ValueError(f"no published weights are called {name!r}: {hint} one of {', '.join(models)}")
    return models[name]


def listing() -> str:
    """A markdown table of all recipes and published models."""
    lines = ["| name | task | parameters | licence | result | weights |", "|---|---|---:|---|---|---|"]
    for model in published_models():
        lines.append(
            f"| {model.name} | {model.task or 'pretraining'} | {model.parameters:,} | {model.license} | "
            f"{model.result or ''} | {', '.join(model.addresses())} |"
        )
    named = {model.recipe for model in published_models()}
    others = [name for name in recipe_names() if name not in named]
    return "\n".join([*lines, "", f"Recipes without published weights: {', '.join(others)}."])


def check_recipe(recipe: Recipe) -> list[str]:
    """Compute a recipe's figures again, and list where the paper says something else: one line each."""
    lines = []
    updates = recipe.training["max_steps"]
    for part in recipe.modalities.values():
        if (epochs := part.epochs(updates)) is not None:
            lines.append(
                f"epochs: {updates:,} updates x {part.global_batch:,.10g} {part.unit} / {part.data_size:,.10g} = "
                f"{epochs:.2f}"
            )
    for model in published_models():
        if model.recipe == recipe.name:
            counted = model.count_parameters()
            verdict = "as stated" if counted == model.parameters else f"but {model.parameters:,} are stated"
            lines.append(f"parameters of {model.name}: {counted:,}, {verdict}")
    config = recipe.model_config()
    for key, said in recipe.paper.items():
        here = recipe.epochs if key == "epochs" else getattr(config, key, recipe.training.get(key))
        here = getattr(recipe, key) if key == "global_batch" else here
        shown = f"{here:.2f}" if key == "epochs" else here
        lines.append(f"the paper disagrees: {key} is {said} there, {shown} here")
    return lines
