"""Recipes: hyperparameters as data, checked when they are read."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.hub_configs import recipe_folder, recipe_names
from modeling_data2vec.model_files import interpreting, read_json

from ..hub.provenance import Provenance
from ..modalities.mixture import MixtureDataset
from ..modalities.names import config_of, modalities, modalities_of
from ..option_checks import check_keys, require_plain_name
from ..runs.arguments import Data2VecTrainingArguments
from .batch_scaling import Change, scaled_recipe
from .building import build_model_and_samples, mixture_sources, named, run_config, sources_of
from .model_config import build_config
from .parts import SAMPLING_RATE, RecipePart, check_data, check_figures
from .sections import no_such_recipe, numbers, read_sections, require, required_fields

TRAINING_KEYS = {entry.name for entry in fields(Data2VecTrainingArguments)}
DEFAULT_SEED, DEFAULT_BATCH = 42, 8  # of TrainingArguments


@dataclass(frozen=True)
class Recipe:
    """One training run, as a `recipe.yaml` states it; made by `load_recipe`.

    A recipe for several modalities has `modalities`; that for one has the same, made of what the file says about the
    only one: `data`, `global_batch` and `training.per_device_train_batch_size`. Such a recipe answers for it.

    Attributes:
        name: what the recipe is called.
        config: folder with `config.json` and, but for text, `preprocessor_config.json`; those of a joint model are in
            sub-folders called like its modalities. In the file: a recipe's name, or a folder relative to the file. Or
            the config's fields themselves.
        source: where the values come from.
        training: fields of `Data2VecTrainingArguments`.
        num_gpus: devices that the run was made for.
        modalities: by name, what the recipe says about each modality.
        config_overrides: fields of the model's config that this recipe changes.
        license_of_published_weights: licence of the weights that the authors released, if they did.
        published: what the authors claim (`epochs`, `imagenet_top1`), None where unknown.
        paper: what the paper says instead, by the name of the value here: of the config, of `training`, `epochs` or
            `global_batch`.
        notes: contradictions between paper and files, and other things to know.
        changes: what `scaled` changed; no key of the file.
    """

    name: str
    config: Path | dict[str, Any]
    source: str
    training: dict[str, Any]
    num_gpus: int
    modalities: dict[str, RecipePart]
    config_overrides: dict[str, Any] = field(default_factory=dict)
    license_of_published_weights: str | None = None
    published: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    changes: tuple[Change, ...] = ()

    @property
    def only(self) -> RecipePart:
        """The section of the only modality.

        Raises:
            ValueError: it has several.
        """
        if len(self.modalities) > 1:
            raise ValueError(
                f"{self.name} is a recipe for several modalities, {', '.join(self.modalities)}: ask one of them, "
                "recipe.modalities[...]"
            )
        return next(iter(self.modalities.values()))

    @property
    def data(self) -> dict[str, Any]:
        """The only modality's; see `RecipePart`, also for the properties below."""
        return self.only.data

    @property
    def global_batch(self) -> float:
        return self.only.global_batch

    @property
    def unit(self) -> str:
        return self.only.unit

    @property
    def micro_batch(self) -> float:
        return self.only.micro_batch

    @property
    def data_size(self) -> float | None:
        return self.only.data_size

    @property
    def epochs(self) -> float | None:
        return self.only.epochs(self.training["max_steps"])

    @property
    def augmentation(self) -> dict[str, Any]:
        return self.only.augmentation

    def build(
        self,
        data: Any,
        *,
        split: str | Mapping[str, str] = "train",
        column: str | Mapping[str, str] | None = None,
        streaming: bool = False,
        tokenizer: str | None = None,
        model: str | None = None,
        seed: int | None = None,
        **config_changes: Any,
    ) -> tuple[Any, Any]:
        """A model, and training samples that fit it: what `data2vec pretrain` trains, from the same code.

        Args:
            data: a folder, table, saved dataset, Hub id, or a `datasets.Dataset` or `IterableDataset`; of a recipe for
                several modalities a dict of these by modality.
            split, column: which of several to take; for several modalities also dicts.
            streaming: read the data as they come; a run then needs `max_steps`.
            tokenizer: folder or Hub id, for text; default: the model's or the recipe's.
            model: go on from this checkpoint (folder or Hub id) instead of new weights.
            seed: of new weights, crops and masks; default: the recipe's. Give the same to `arguments`.
            config_changes: fields of the model's config.

        Returns:
            (model, samples): what `Data2VecTrainer` takes as `model` and `train_dataset`. The samples bring collator
            and processor along.

        Raises:
            ValueError: the data can't be read, a change is no field of the config, or they don't go together.

        Example:
            >>> model, data = load_recipe("data2vec2-vision-tiny").build("digits", num_masks=4)
            >>> type(model).__name__, len(data), model.config.num_masks
            ('Data2Vec2VisionForPreTraining', 1297, 4)
        """
        config = run_config(self, config_changes, model)
        sources = sources_of(data, split, column, modalities_of(config))
        seed = self.training.get("seed", DEFAULT_SEED) if seed is None else seed
        built, _, samples = build_model_and_samples(
            self, config, sources, seed=seed, streaming=streaming, checkpoint=model, tokenizer=tokenizer
        )
        provenance = self.provenance(base_model=model, dataset=named(sources))
        if len(modalities_of(config)) == 1:
            (only,) = samples.values()
            only.provenance = provenance
            return built, only
        parts = mixture_sources(self, samples, {}, self.training.get("per_device_train_batch_size", DEFAULT_BATCH))
        mixture = MixtureDataset(parts, {name: self.modalities[name].ratio for name in parts})
        mixture.provenance = provenance
        return built, mixture

    def provenance(self, **known: Any) -> Provenance:
        """Where a model of this recipe comes from, for its card; `known` are other fields of `Provenance`."""
        origin = {"name": self.name, "source": self.source}
        return Provenance(recipe=origin, schedule=[vars(change) for change in self.changes], **known)

    def arguments(self, output_dir: str | Path | None = None, **changes: Any) -> Data2VecTrainingArguments:
        """The recipe's training arguments, with changes.

        Args:
            output_dir: default: `runs/` and the recipe's name.
            changes: fields of `Data2VecTrainingArguments`.

        Raises:
            ValueError: a name is no such field, or a value is not allowed.

        Example:
            >>> load_recipe("data2vec2-vision-tiny").arguments("runs/digits", max_steps=200, use_cpu=True).max_steps
            200
        """
        return Data2VecTrainingArguments(str(output_dir or f"runs/{self.name}"), **self.training_arguments(changes))

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
        overrides = numbers(overrides or {})
        check_keys(overrides, TRAINING_KEYS, "the training arguments")
        bound = {}
        if len(self.modalities) == 1 and "max_batch_seconds" in self.data:
            bound["max_batch_length"] = round(SAMPLING_RATE * self.data["max_batch_seconds"])
        return self.training | bound | overrides

    def model_config(self, overrides: dict[str, Any] | None = None) -> Any:
        """The model's config, of the class that its `model_type` names: the folder's, with the recipe's and the given
        changes. Of a joint model `audio.num_masks` is a field of one modality, `num_masks` that of all.

        Raises:
            ValueError: for a name that is no field of the config, or values that don't go together.

        Example:
            >>> load_recipe("data2vec2-vision-base").model_config({"image_size": 64}).grid
            (4, 4)
        """
        values = {name: value for name, value in self._config_values().items() if name != "model_type"}
        changes = numbers(self.config_overrides | (overrides or {}))
        try:
            return build_config(self.model_class.config_class, values, changes, self._config_name)
        except StrictDataclassError as error:  # what a config's own checks end in is no ValueError
            raise ValueError(f"{self.name}: {error}") from error

    @property
    def model_class(self) -> Any:
        """The class that the recipe trains."""
        try:
            return pretraining_class(self._config_values().get("model_type"))
        except ValueError as error:
            raise ValueError(f"{self.name}: {self._config_name}: {error}") from error

    @property
    def _config_name(self) -> str:
        """The config's name in messages."""
        return "config" if isinstance(self.config, dict) else str(self.config / "config.json")

    def _config_values(self) -> dict[str, Any]:
        return numbers(self.config) if isinstance(self.config, dict) else read_json(self.config / "config.json")

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

    def scaled(
        self, global_batch: float, *, num_gpus: int = 1, per_device_batch: float | None = None, **given: Any
    ) -> "Recipe":
        """The recipe for another global batch, by the rules of `batch_scaling`; its `changes` say what they changed.

        Args:
            global_batch: samples (or seconds) of an optimizer step, in the recipe's `unit`.
            num_gpus: devices.
            per_device_batch: micro-batch of each; default: as much of its share as the recipe's micro-batch holds.
            given: values that are not to follow from the rules, e.g. `learning_rate=1e-3`.

        Raises:
            ValueError: several modalities, or a batch that can't be shared out equally or that no rule reaches.

        Example:
            >>> recipe = load_recipe("data2vec2-vision-base").scaled(global_batch=64)
            >>> recipe.training["learning_rate"], recipe.training["max_steps"], f"{recipe.model_config().ema_decay:.5f}"
            (0.0005, 1501200, '0.99995')
        """
        return scaled_recipe(self, global_batch, num_gpus, per_device_batch, given)


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
    own = own_recipes()
    if str(name_or_path) in own:
        with interpreting(Path(str(name_or_path))):
            return _checked(deepcopy(own[str(name_or_path)]), Path(str(name_or_path)))
    path = recipe_folder(str(name_or_path)) if str(name_or_path) in recipe_names() else Path(name_or_path)
    path = path / "recipe.yaml" if path.is_dir() else path
    if not path.is_file():
        raise no_such_recipe(name_or_path, [*recipe_names(), *own], "a yaml file, or a folder with a recipe.yaml")
    with interpreting(path):
        return _checked(read_sections(path, Recipe), path)


def own_recipes() -> dict[str, dict[str, Any]]:
    """Recipes that kinds of data bring in their own files, by name."""
    return {kind.recipe["name"]: kind.recipe for kind in modalities().values() if kind.recipe is not None}


def _checked(values: dict[str, Any], path: Path) -> Recipe:
    sections = {entry.name: entry for entry in fields(Recipe) if entry.name != "changes"}
    check_keys(values, {*sections, "data", "global_batch", "epochs"}, str(path))
    of_parts = [] if "modalities" in values else ["data", "global_batch"]
    required = [name for name in required_fields(Recipe) if name != "modalities"]
    require(values, [*required, *of_parts], str(path))
    require_plain_name(values["name"], str(path))

    training = values["training"] = numbers(values["training"])
    check_keys(training, TRAINING_KEYS, f"{path}, training")
    counted = of_parts and "max_batch_seconds" not in values["data"]
    require(training, ["max_steps", *(["per_device_train_batch_size"] if counted else [])], f"{path}, training")
    if "max_batch_length" in training:
        raise ValueError(
            f"{path}: training.max_batch_length is what data.max_batch_seconds is turned into: give that, or "
            "training.per_device_train_batch_size"
        )

    stated_epochs = values.pop("epochs", None)
    config = values["config"]
    if not isinstance(config, dict):
        config = str(config)
        values["config"] = recipe_folder(config) if config in recipe_names() else path.parent / config
    if not isinstance(config, dict) and not (values["config"] / "config.json").is_file():
        raise ValueError(
            f"{path}: config is {config!r}, but {values['config']} has no config.json: name a folder, relative to the "
            f"recipe, that has one, or one of {', '.join(recipe_names())}"
        )
    parts = values.pop("modalities", None)
    single = {name: values.pop(name) for name in ("data", "global_batch") if name in values}
    recipe = Recipe(**values, modalities={})
    config = recipe.model_config()
    names = modalities_of(config)
    if parts is None:
        if len(names) > 1:
            raise ValueError(f"{path}: the model has {', '.join(names)}, so modalities must say what each has")
        size = {"per_device_train_batch_size": training.get("per_device_train_batch_size")}
        parts = {names[0]: single | size}
    elif single or "per_device_train_batch_size" in training:
        raise ValueError(
            f"{path}: with modalities, {', '.join(single) or 'per_device_train_batch_size'} belongs to each of them"
        )
    check_keys(parts, names, f"{path}, modalities")
    for name, part in parts.items():
        recipe.modalities[name] = _part(name, part, path if len(names) == 1 else f"{path}, {name}")
    _check_parts(recipe, config, stated_epochs, path)
    return recipe


def _part(name: str, values: Any, where: str | Path) -> RecipePart:
    """Read a recipe's section of one modality."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} must hold keys and values, but is {values!r}")
    check_keys(values, {entry.name for entry in fields(RecipePart)} - {"modality"}, str(where))
    require(values, ["data", "global_batch"], str(where))
    part = RecipePart(name, **(values | {"data": numbers(values["data"])}))
    if "max_batch_seconds" not in part.data and part.per_device_train_batch_size is None:
        raise ValueError(f"{where}: per_device_train_batch_size is missing")
    if part.augmentation:  # as `ImageTransform` has them: yaml knows no tuples
        given = part.augmentation.items()
        part.data["augmentation"] = {key: tuple(value) if isinstance(value, list) else value for key, value in given}
    return part


def _check_parts(recipe: Recipe, config: Any, epochs: Any, path: Path) -> None:
    """Each modality's data and figures; `epochs` of a recipe for several are by modality."""
    accumulation = recipe.training.get("gradient_accumulation_steps", 1)
    ratios = sum(part.ratio for part in recipe.modalities.values())
    for name, part in recipe.modalities.items():
        where = str(path) if len(recipe.modalities) == 1 else f"{path}, {name}"
        check_data(part, config_of(config, name), where)
        stated = epochs.get(name) if isinstance(epochs, dict) else epochs
        micro_batches = accumulation * part.ratio / ratios
        check_figures(part, recipe.num_gpus, micro_batches, stated, recipe.training["max_steps"], where)
