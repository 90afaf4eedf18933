"""Recipes: hyperparameters as data, checked when they are read."""

import difflib
import json
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import MISSING, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from modeling_data2vec import Data2VecPreTrainingConfig
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.hub_configs import recipe_folder, recipe_names

from .training_arguments import Data2VecTrainingArguments

TRAINING_KEYS = {entry.name for entry in fields(Data2VecTrainingArguments)}
# What a sample is called, and what `data` may hold beside `dataset` and `num_examples`, by the model's main input.
SAMPLES = {"pixel_values": "images", "input_values": "clips", "input_ids": "sequences"}
DATA_KEYS = {
    "pixel_values": {"augmentation"},
    "input_values": {"num_seconds", "max_batch_seconds", "min_seconds", "max_seconds", "crop"},
    "input_ids": {"block_length", "tokenizer"},
}
CROPS = ("shortest", "none")
SAMPLING_RATE = 16_000  # of all speech models
AUGMENTATION_KEYS = {
    "crop_scale",
    "crop_ratio",
    "horizontal_flip",
    "color_jitter",
    "mean",
    "std",
}  # of `images.ImageTransform`
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True)
class Recipe:
    """One training run, as a `recipe.yaml` states it; made by `load_recipe`.

    Batches are counted in samples (images, clips, sequences), or in seconds of audio where `data.max_batch_seconds`
    bounds them; the size of the data and the global batch are in the same unit.

    Attributes:
        name: what the recipe is called.
        config: folder with `config.json` and, but for text, `preprocessor_config.json`. In the file: a recipe's name,
            or a folder relative to the file.
        source: where the values come from.
        data: `dataset` and its size, `num_examples` or `num_seconds`, if that is known; for images `augmentation`;
            for speech `min_seconds` and `max_seconds` of a clip, `crop` ("shortest": all clips of a micro-batch to its
            shortest, "none": they are padded) and `max_batch_seconds` (padded seconds in a device's micro-batch, which
            has as many clips as fit); for text `block_length` in tokens and `tokenizer`.
        training: fields of `Data2VecTrainingArguments`.
        num_gpus: devices that the run was made for.
        global_batch: samples or seconds in an optimizer step: devices x micro-batch x accumulation.
        config_overrides: fields of the model's config that this recipe changes.
        licence_of_published_weights: licence of the weights that the authors released, if they did.
        published: what the authors claim (`epochs`, `imagenet_top1`), None where unknown.
        paper: what the paper says instead, by the name of the value here: of the config, of `training`, `epochs` or
            `global_batch`.
        notes: contradictions between paper and files, and other things to know.
    """

    name: str
    config: Path
    source: str
    data: dict[str, Any]
    training: dict[str, Any]
    num_gpus: int
    global_batch: float
    config_overrides: dict[str, Any] = field(default_factory=dict)
    licence_of_published_weights: str | None = None
    published: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """What batches are counted in: "images", "clips", "sequences" or "seconds" of audio."""
        return "seconds" if "max_batch_seconds" in self.data else SAMPLES[self.model_class.main_input_name]

    @property
    def micro_batch(self) -> float:
        """Samples or seconds of one device's micro-batch."""
        return self.data.get("max_batch_seconds") or self.training["per_device_train_batch_size"]

    @property
    def data_size(self) -> float | None:
        """Samples or seconds in the data; None if unknown."""
        return self.data.get("num_seconds" if "max_batch_seconds" in self.data else "num_examples")

    @property
    def epochs(self) -> float | None:
        """Passes over the data: updates x global batch / size of the data; None where that is unknown.

        Micro-batches that are bounded in seconds are seldom full, so with them this is the most that there can be.
        """
        return self.training["max_steps"] * self.global_batch / self.data_size if self.data_size else None

    @property
    def augmentation(self) -> dict[str, Any]:
        """Arguments for `ImageTransform`, beside size and channels."""
        return self.data.get("augmentation", {})

    def training_arguments(self, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        """Arguments for `Data2VecTrainingArguments`: the recipe's, with changes.

        `max_batch_length`, which counts samples of sound, is made of `data.max_batch_seconds`.

        Raises:
            ValueError: for a name that is no field of `Data2VecTrainingArguments`.

        Example:
            >>> load_recipe("data2vec2-vision-base").training_arguments({"max_steps": 10})["max_steps"]
            10
            >>> load_recipe("data2vec2-audio-base").training_arguments()["max_batch_length"]
            1000000
        """
        overrides = _numbers(overrides or {})
        check_keys(overrides, TRAINING_KEYS, "the training arguments")
        bound = {}
        if "max_batch_seconds" in self.data:
            bound["max_batch_length"] = round(SAMPLING_RATE * self.data["max_batch_seconds"])
        return self.training | bound | overrides

    def model_config(self, overrides: dict[str, Any] | None = None) -> Data2VecPreTrainingConfig:
        """The model's config, of the class that its `model_type` names: the folder's, with the recipe's and the given
        changes.

        Raises:
            ValueError: for a name that is no field of the config, or values that don't go together.

        Example:
            >>> load_recipe("data2vec2-vision-base").model_config({"image_size": 64}).grid
            (4, 4)
        """
        config_class = self.model_class.config_class
        values = {name: value for name, value in self._config_values().items() if name != "model_type"}
        known = {entry.name for entry in fields(config_class)}
        # transformers' own configs also save what they compute.
        check_keys(values, known | config_class().to_dict().keys(), str(self.config / "config.json"))
        changes = _numbers(self.config_overrides | (overrides or {}))
        check_keys(changes, known - {entry.name for entry in fields(PreTrainedConfig)}, f"{config_class.__name__}")
        try:
            return config_class(**(values | changes))
        except StrictDataclassError as error:  # what a config's own checks end in is no ValueError
            raise ValueError(f"{self.name}: {error}") from error

    @property
    def model_class(self) -> Any:
        """The class that the recipe trains."""
        try:
            return pretraining_class(self._config_values().get("model_type"))
        except ValueError as error:
            raise ValueError(f"{self.name}: {self.config / 'config.json'}: {error}") from error

    def _config_values(self) -> dict[str, Any]:
        return json.loads((self.config / "config.json").read_text())

    def accumulation_steps(self, num_gpus: int, per_device_batch: float) -> int:
        """Micro-batches that make up the recipe's global batch on fewer or smaller devices.

        Args:
            num_gpus: devices.
            per_device_batch: micro-batch of each, in the recipe's `unit`.

        Raises:
            ValueError: if no whole number does.

        Example:
            >>> load_recipe("data2vec2-vision-base").accumulation_steps(num_gpus=2, per_device_batch=32)
            4
            >>> load_recipe("data2vec2-audio-base").accumulation_steps(num_gpus=1, per_device_batch=62.5)
            8
        """
        together = num_gpus * per_device_batch
        steps = round(self.global_batch / together)
        if not math.isclose(steps * together, self.global_batch):
            raise ValueError(
                f"num_gpus {num_gpus} x per_device_batch {per_device_batch} = {together:.10g} {self.unit} do not "
                f"divide the global batch of {self.global_batch:.10g}: choose a per_device_batch with which they do"
            )
        return steps


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read and check a recipe.

    Args:
        name_or_path: a name in `hub_configs`, a folder with a `recipe.yaml`, or a yaml file.

    Raises:
        ValueError: if there is no such recipe, a key is unknown or missing, or the figures contradict each other.

    Example:
        >>> recipe = load_recipe("data2vec2-vision-base")
        >>> recipe.global_batch, round(recipe.epochs, 1)
        (256, 75.0)
    """
    path = recipe_folder(str(name_or_path)) if str(name_or_path) in recipe_names() else Path(name_or_path)
    path = path / "recipe.yaml" if path.is_dir() else path
    if not path.is_file():
        close = difflib.get_close_matches(str(name_or_path), recipe_names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(
            f"there is no recipe {str(name_or_path)!r}: {hint}Name one of {', '.join(recipe_names())}, a yaml file, or "
            "a folder with a recipe.yaml"
        )
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid yaml: {error}") from error
    return _checked(values, path)


def check_keys(given: Iterable[Any], allowed: Collection[str], where: str) -> None:
    """Raise a ValueError for the first key that is not allowed, with its nearest relatives and all that are."""
    for key in given:
        if key not in allowed:
            close = difflib.get_close_matches(str(key), allowed)
            hint = f"; did you mean {' or '.join(close)}?" if close else "."
            raise ValueError(f"{where}: unknown key {key!r}{hint} Allowed are {', '.join(sorted(allowed))}")


def _checked(values: Any, path: Path) -> Recipe:
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold keys and values, but holds {type(values).__name__}")
    sections = {entry.name: entry for entry in fields(Recipe)}
    check_keys(values, {*sections, "epochs"}, str(path))
    _require(values, [name for name, entry in sections.items() if _is_required(entry)], str(path))
    for name in ("data", "training", "published", "paper", "config_overrides"):
        if not isinstance(values.get(name, {}), dict):
            raise ValueError(f"{path}: {name} must hold keys and values, but is {values[name]!r}")

    values["data"], training = _numbers(values["data"]), _numbers(values["training"])
    values["training"] = training
    check_keys(training, TRAINING_KEYS, f"{path}, training")
    batch_key = [] if "max_batch_seconds" in values["data"] else ["per_device_train_batch_size"]
    _require(training, ["max_steps", *batch_key], f"{path}, training")

    stated_epochs = values.pop("epochs", None)
    config = str(values["config"])
    values["config"] = recipe_folder(config) if config in recipe_names() else path.parent / config
    if not (values["config"] / "config.json").is_file():
        raise ValueError(
            f"{path}: config is {config!r}, but {values['config']} has no config.json: name a folder, relative to the "
            f"recipe, that has one, or one of {', '.join(recipe_names())}"
        )
    recipe = Recipe(**values)
    _check_data(recipe, path)
    if recipe.augmentation:  # as `ImageTransform` has them: yaml knows no tuples
        given = recipe.augmentation.items()
        recipe.data["augmentation"] = {key: tuple(value) if isinstance(value, list) else value for key, value in given}
    _check_figures(recipe, stated_epochs, path)
    return recipe


def _check_data(recipe: Recipe, path: Path) -> None:
    config, data = recipe.model_config(), recipe.data
    check_keys(data, {"dataset", "num_examples"} | DATA_KEYS[recipe.model_class.main_input_name], f"{path}, data")
    check_keys(data.get("augmentation", {}), AUGMENTATION_KEYS, f"{path}, augmentation")
    if data.get("crop", "none") not in CROPS:
        raise ValueError(f"{path}: data.crop is {data['crop']!r}, but must be one of {', '.join(CROPS)}")
    limits = [name for name in ("min_seconds", "max_seconds", "max_batch_seconds") if name in data]
    for low, high in pairwise(limits):
        if not 0 <= data[low] <= data[high]:
            raise ValueError(
                f"{path}: data.{low} is {data[low]} and {high} {data[high]}, but neither may be negative, and the "
                "first not larger than the second"
            )
    positions = getattr(config, "max_tokens", math.inf)
    if data.get("block_length", 0) > positions:
        raise ValueError(
            f"{path}: data.block_length is {data['block_length']}, but the model takes {positions} tokens: lower it, "
            "or raise max_position_embeddings in config_overrides"
        )


def _check_figures(recipe: Recipe, stated_epochs: float | None, path: Path) -> None:
    in_seconds = "max_batch_seconds" in recipe.data
    batch_name, size_name, other_size = (
        ("max_batch_seconds", "num_seconds", "num_examples")
        if in_seconds
        else ("per_device_train_batch_size", "num_examples", "num_seconds")
    )
    if in_seconds and "per_device_train_batch_size" in recipe.training:
        raise ValueError(
            f"{path}: data.max_batch_seconds and training.per_device_train_batch_size both bound a micro-batch: leave "
            "one of them out"
        )
    if "max_batch_length" in recipe.training:
        raise ValueError(
            f"{path}: training.max_batch_length is what data.max_batch_seconds is turned into: give that, or "
            "training.per_device_train_batch_size"
        )
    if other_size in recipe.data:
        raise ValueError(f"{path}: batches are counted in {recipe.unit}: give {size_name} instead of {other_size}")
    accumulation = recipe.training.get("gradient_accumulation_steps", 1)
    product = recipe.num_gpus * recipe.micro_batch * accumulation
    if not math.isclose(product, recipe.global_batch):
        raise ValueError(
            f"{path}: global_batch is {recipe.global_batch}, but num_gpus {recipe.num_gpus} x {batch_name} "
            f"{recipe.micro_batch} x gradient_accumulation_steps {accumulation} is {product:.10g}"
        )
    if stated_epochs is None:
        return
    if recipe.epochs is None:
        raise ValueError(f"{path}: epochs is {stated_epochs}, which needs data.{size_name} to be checked: give both")
    if abs(stated_epochs - recipe.epochs) > 0.005 * recipe.epochs:
        raise ValueError(
            f"{path}: epochs is {stated_epochs}, but max_steps {recipe.training['max_steps']} x global_batch "
            f"{recipe.global_batch} / {size_name} {recipe.data_size} is {recipe.epochs:.2f}"
        )


def _is_required(entry: Any) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _require(given: dict[str, Any], names: list[str], where: str) -> None:
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} is missing")


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """`values`, in which `1e-3` and the like are numbers: yaml reads them as text without a point and a sign."""

    def convert(value: Any) -> Any:
        if not isinstance(value, str) or not EXPONENT.fullmatch(value):
            return value
        number = float(value)
        return int(number) if number.is_integer() else number

    return {key: convert(value) for key, value in values.items()}
