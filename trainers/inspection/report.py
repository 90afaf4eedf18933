"""A report on what a model or a recipe costs before it is trained: parameters, FLOPs, memory, masks and epochs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_data2vec.auto import pretraining_class, pretraining_class_of
from modeling_data2vec.hub_configs import recipe_names

from ..files.model_folders import loading
from ..modalities.base import Modality
from ..modalities.names import config_of, modalities, modalities_of, modality
from ..option_checks import did_you_mean, wrong_choice
from ..recipes.batch_scaling import shown
from ..recipes.recipe import Recipe, load_recipe, own_recipes
from ..wording import plural
from .costs import (
    Parameters,
    StepFlops,
    StepMemory,
    StepShape,
    count_parameters,
    step_flops,
    step_memory,
    step_shape,
)

MEMORY_NOTE = "The memory leaves out the framework itself, temporary buffers, DDP's buckets and fragmentation."


class Report:
    """A name and rows of figures, shown as text or Markdown."""

    name: str

    def rows(self) -> list[tuple[str, str]]:
        """Rows to show: (quantity, value)."""
        raise NotImplementedError

    def to_text(self) -> str:
        """Plain text, one quantity a line."""
        rows = self.rows()
        width = max(len(label) for label, _ in rows)
        return "\n".join([self.name, *(f"  {label:<{width}}  {value}" for label, value in rows), MEMORY_NOTE])

    def to_markdown(self) -> str:
        """A markdown table."""
        lines = [f"| {self.name} | |", "|---|---|"]
        lines += [f"| {label.strip()} | {value} |" for label, value in self.rows()]
        return "\n".join([*lines, "", MEMORY_NOTE])


@dataclass(frozen=True)
class Inspection(Report):
    """Result of `inspect`; `to_text()` and `to_markdown()` show it.

    Attributes:
        name: recipe, folder or Hub id.
        model_type: of the config.
        shape: sizes of a micro-batch on one device, to which FLOPs and memory refer.
        dtype_bytes: bytes of a number in the activations: 2 for half precision, 4 for fp32.
        seconds: length of the clips; None for images and text.
        recipe: the recipe, if one was inspected.
    """

    name: str
    model_type: str
    shape: StepShape
    dtype_bytes: int
    seconds: float | None
    parameters: Parameters
    flops: StepFlops
    memory: StepMemory
    recipe: Recipe | None = None

    @property
    def modality(self) -> type[Modality]:
        """The kind of data that the model, or this part of it, is for."""
        return modality(pretraining_class(self.model_type))

    @property
    def precision(self) -> str:
        """The precision in words."""
        return "fp32" if self.dtype_bytes == 4 else "mixed precision"

    def rows(self) -> list[tuple[str, str]]:
        """Rows to show: (quantity, value)."""
        shape, counts, flops, memory = self.shape, self.parameters, self.flops, self.memory
        positions = f"{shape.num_positions}"
        if len(shape.grid) > 1:
            positions += f" ({' x '.join(map(str, shape.grid))})"
        if self.seconds is not None:
            positions += f" (clips of {self.seconds:g} s)"
        rows = [
            ("encoder", f"{_count(counts.encoder)} parameters"),
            ("decoder", f"{_count(counts.decoder)} parameters"),
            ("teacher", f"{_count(counts.teacher)} parameters, not trained"),
            ("in all", f"{_count(counts.total)} parameters, {_count(counts.trainable)} trained"),
            (plural(self.modality.position), positions),
            ("a mask leaves", f"{shape.num_visible} visible, {shape.num_hidden} hidden"),
            (
                "student's batch",
                f"{shape.batch_size} {plural(self.modality.sample)} x {shape.num_masks} masks = {shape.rows} rows of "
                f"{shape.tokens} tokens",
            ),
            ("one forward and backward", _flops(flops.total)),
            ("  student", f"{flops.student / flops.total:.0%}"),
            ("  decoder", f"{flops.decoder / flops.total:.0%}"),
            ("  teacher", f"{flops.teacher / flops.total:.0%}"),
            (
                "memory, an estimate",
                f"{_bytes(memory.total)} in {self.precision}",
            ),
            ("  weights, gradients, Adam", _bytes(memory.weights + memory.gradients + memory.optimizer)),
            ("  teacher", _bytes(memory.teacher)),
            ("  activations", _bytes(memory.activations)),
        ]
        return rows if self.recipe is None else rows + self._run(self.recipe)

    def _run(self, recipe: Recipe) -> list[tuple[str, str]]:
        """The rows about the whole run."""
        part = recipe.modalities[self.modality.name]
        updates, unit = recipe.training["max_steps"], part.unit
        rows = [("updates", f"{updates:,}"), (f"  {unit} an update", f"{part.global_batch:,.10g}")]
        epochs = part.epochs(updates)
        if part.data_size is not None and epochs is not None:
            most = "at most " if unit == "seconds" else ""
            rows += [(f"  {unit} in the data", f"{part.data_size:,.10g}"), ("  epochs", f"{most}{epochs:.1f}")]
        micro_batch = self.shape.batch_size * (self.seconds if self.seconds and unit == "seconds" else 1)
        rows.append(("the whole run", _flops(updates * part.global_batch / micro_batch * self.flops.total)))
        for change in recipe.changes:
            rows.append((f"  {change.name}", f"{shown(change.new)} instead of {shown(change.old)}: {change.rule}"))
        return rows


@dataclass(frozen=True)
class JointInspection(Report):
    """Result of `inspect_target` for a model of several modalities; shown like an `Inspection`.

    Attributes:
        name: recipe, folder or Hub id.
        parts: each modality, as if it were a model of its own.
        parameters: of the joint model.
        memory: of a micro-batch of that modality which needs most.
    """

    name: str
    parts: dict[str, Inspection]
    parameters: Parameters
    memory: StepMemory

    def rows(self) -> list[tuple[str, str]]:
        """Rows to show: (quantity, value)."""
        counts, parts = self.parameters, self.parts
        separate = sum(part.parameters.encoder for part in parts.values())
        flops = sum(part.flops.total for part in parts.values())
        any_part = next(iter(parts.values()))  # precision and recipe are those of all
        rows = [
            ("encoder", f"{_count(counts.encoder)} parameters; as separate models {_count(separate)}"),
            *((f"  {name}, a slice of it", _count(part.parameters.encoder)) for name, part in parts.items()),
            ("decoders", f"{_count(counts.decoder)} parameters"),
            ("teacher", f"{_count(counts.teacher)} parameters, not trained"),
            ("in all", f"{_count(counts.total)} parameters, {_count(counts.trainable)} trained"),
            ("a micro-batch of each", f"{_flops(flops)} forward and backward"),
            *((f"  {name}", f"{part.flops.total / flops:.0%}") for name, part in parts.items()),
            ("memory, an estimate", f"{_bytes(self.memory.total)} in {any_part.precision}"),
        ]
        recipe = any_part.recipe
        if recipe is not None:
            rows.append(("updates", f"{recipe.training['max_steps']:,}"))
            for name, part in recipe.modalities.items():
                rows.append((f"  {name} an update", f"{part.global_batch:,.10g} {part.unit}"))
        return [*rows, ("more of each", f"--modality {', '.join(parts)}")]


def inspect_target(
    name: str,
    *,
    batch_size: int | None = None,
    dtype_bytes: int = 2,
    seconds: float | None = None,
    tokens: int | None = None,
    modality: str | None = None,
    scale_to_batch: float | None = None,
) -> Inspection | JointInspection:
    """Inspect a recipe or a model by name.

    Args:
        name: a recipe's name, its folder or yaml file; a folder with a `config.json`; or a Hub id.
        batch_size: samples of a micro-batch on one device; by default the recipe's, or as many as fit into its seconds
            of audio; 16 without a recipe.
        dtype_bytes, seconds, tokens: as for `inspect`; sequences are by default the recipe's blocks, and clips not
            longer than its longest.
        modality: which part of a joint model, as if it were a model of its own; None for the whole.
        scale_to_batch: another global batch for the recipe's schedule, on one device.

    Raises:
        ValueError: if there is nothing of that name, it is not a data2vec model, or lengths don't suit it.

    Example:
        >>> inspection = inspect_target("data2vec2-vision-base")
        >>> inspection.shape.num_visible, round(inspection.parameters.encoder / 1e6)
        (39, 86)
    """
    if modality is not None and modality not in modalities():
        raise ValueError(wrong_choice("--modality", modality, modalities()))
    config, recipe = _load(name)
    if scale_to_batch is not None:
        if recipe is None:
            raise ValueError(f"{name!r} is a model, which has no schedule to scale: name a recipe")
        recipe = recipe.scaled(scale_to_batch)
    names = modalities_of(config)
    sizes: dict[str, Any] = {"batch_size": batch_size, "dtype_bytes": dtype_bytes}
    if modality is not None or len(names) == 1:
        return _inspect_part(name, config, recipe, modality or names[0], seconds=seconds, tokens=tokens, **sizes)
    lengths: dict[str, Any] = {"seconds": seconds, "tokens": tokens}
    counted_in = {one: modalities()[one].length_name for one in names}
    for option, value in lengths.items():
        if value is not None and option not in counted_in.values():
            raise ValueError(
                f"{option} is {value}, but {name} has {', '.join(names)}, none of them counted in {option}: leave "
                f"{option} out"
            )
    own = {one: {option: lengths[option]} if option in lengths else {} for one, option in counted_in.items()}
    parts = {one: _inspect_part(name, config, recipe, one, **own[one], **sizes) for one in names}
    parameters = count_parameters(config)
    memory = max(
        (step_memory(config_of(config, one), part.shape, parameters, dtype_bytes) for one, part in parts.items()),
        key=lambda estimate: estimate.total,
    )
    return JointInspection(next(iter(parts.values())).name, parts, parameters, memory)


def _load(name: str) -> tuple[Any, Recipe | None]:
    """The config of a recipe or a model, and the recipe."""
    path = Path(name)
    if (
        name in (*recipe_names(), *own_recipes())
        or path.suffix in (".yaml", ".yml")
        or (path / "recipe.yaml").is_file()
    ):
        recipe = load_recipe(name)
        return recipe.model_config(), recipe
    try:
        with loading(name):
            model_class = pretraining_class_of(name)  # a ValueError says by itself which models can be inspected
            return model_class.config_class.from_pretrained(name), None
    except OSError as error:
        raise ValueError(
            f"{name!r} is no recipe ({did_you_mean(name, recipe_names()) or ', '.join(recipe_names())}), and no config "
            f"could be loaded from it: {str(error).splitlines()[0]}"
        ) from error


def _inspect_part(
    name: str,
    whole: Any,
    recipe: Recipe | None,
    part_name: str,
    *,
    batch_size: int | None,
    dtype_bytes: int,
    seconds: float | None = None,
    tokens: int | None = None,
) -> Inspection:
    """One modality of a model; what isn't given is the recipe's."""
    config = config_of(whole, part_name)
    lengths: dict[str, Any] = {"seconds": seconds, "tokens": tokens}
    if recipe is not None:
        part = recipe.modalities[part_name]
        kind = modalities()[part_name](config, data=part.data)
        if kind.length_name in lengths:
            lengths[kind.length_name] = lengths[kind.length_name] or kind.default_length()
        if batch_size is None:
            in_seconds = lengths["seconds"] if part.unit == "seconds" else None
            batch_size = max(1, int(part.micro_batch / (in_seconds or 1)))
    return inspect(
        config,
        batch_size=batch_size or 16,
        dtype_bytes=dtype_bytes,
        **lengths,
        name=recipe.name if recipe else name,
        recipe=recipe,
    )


def inspect(
    config: Any,
    *,
    batch_size: int = 16,
    dtype_bytes: int = 2,
    seconds: float | None = None,
    tokens: int | None = None,
    name: str = "model",
    recipe: Recipe | None = None,
) -> Inspection:
    """Work out what pretraining with `config` costs; nothing is allocated.

    Args:
        config: of a pretraining model, data2vec 1.0 or 2.0.
        batch_size: samples B of a micro-batch on one device.
        dtype_bytes: 2 for half precision (weights stay fp32, as under autocast), 4 for fp32.
        seconds: length of the clips, for speech only; 10 by default.
        tokens: length of the sequences, for text only; by default the longest that the model takes.
        name: heading of the report.
        recipe: adds epochs and the FLOPs of the whole run.

    Raises:
        ValueError: if a length is given to a model of another modality, or doesn't suit the model.

    Example:
        >>> from modeling_data2vec import Data2Vec2AudioConfig
        >>> shape = inspect(Data2Vec2AudioConfig(), batch_size=6, seconds=10).shape
        >>> shape.num_positions, shape.num_visible, shape.num_hidden
        (499, 250, 249)
    """
    kind = modality(pretraining_class(config.model_type))(config)
    lengths: dict[str, Any] = {"seconds": seconds, "tokens": tokens}
    for option, value in lengths.items():
        if value is not None and option != kind.length_name:
            raise ValueError(f"{option} is {value}, but {name} is a {config.model_type} model: leave {option} out")
    length = lengths.get(kind.length_name or "") or kind.default_length()
    shape = step_shape(config, batch_size, length)
    parameters = count_parameters(config)
    return Inspection(
        name=name,
        model_type=config.model_type,
        shape=shape,
        dtype_bytes=dtype_bytes,
        seconds=length if kind.length_name == "seconds" else None,
        parameters=parameters,
        flops=step_flops(config, shape),
        memory=step_memory(config, shape, parameters, dtype_bytes),
        recipe=recipe,
    )


# ---- how numbers are shown ----


def _scaled(value: float, units: tuple[str, ...], base: int = 1000) -> str:
    for unit in units[:-1]:
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= base
    return f"{value:.3g}{units[-1]}"


def _count(value: float) -> str:
    return _scaled(value, ("", "K", "M", "B"))


def _flops(value: float) -> str:
    return _scaled(value, (" FLOP", " kFLOP", " MFLOP", " GFLOP", " TFLOP", " PFLOP", " EFLOP", " ZFLOP"))


def _bytes(value: float) -> str:
    return _scaled(value, (" B", " KiB", " MiB", " GiB", " TiB"), 1024)
