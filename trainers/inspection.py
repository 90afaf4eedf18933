"""What a model or a recipe costs, before anything is trained: parameters, FLOPs, memory, masks and epochs.

Parameters are counted on the real model, which lives on torch's meta device and takes no memory. FLOPs and memory come
from closed formulas; letters as in `modeling_data2vec.core`: B samples, M masks, R = B * M rows, T positions, V visible
positions, E extra tokens, S = E + V tokens of a row, D channels.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForPreTraining

from modeling_data2vec import Data2Vec2VisionConfig
from modeling_data2vec.hub_configs import recipe_names

from .collators import ImageMaskCollator
from .recipes import Recipe, load_recipe

MEMORY_NOTE = "The memory leaves out the framework itself, temporary buffers, DDP's buckets and fragmentation."


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters; `trainable` are encoder and decoder."""

    encoder: int
    decoder: int
    teacher: int
    trainable: int

    @property
    def total(self) -> int:
        return self.encoder + self.decoder + self.teacher


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of one forward and backward pass, two for each multiplication with addition.

    Matrix products and convolutions only, as in `torch.utils.flop_counter`; nothing is counted twice for gradient
    checkpointing. The teacher has no backward pass.
    """

    student: int
    decoder: int
    teacher: int

    @property
    def total(self) -> int:
        return self.student + self.decoder + self.teacher


@dataclass(frozen=True)
class StepMemory:
    """An estimate of the bytes that one device holds when the backward pass begins.

    Counted: fp32 weights, gradients and Adam's two averages, the half-precision copy of the weights that autocast
    keeps, the fp32 teacher, and what autograd saves. Left out: the framework itself, temporary buffers, DDP's buckets,
    fragmentation, the data, and what gradient checkpointing or sharding would save.
    """

    weights: int
    gradients: int
    optimizer: int
    teacher: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.teacher + self.activations


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found; `to_text()` and `to_markdown()` show it.

    Attributes:
        name: recipe, folder or Hub id.
        batch_size: images of a micro-batch on one device, to which FLOPs and memory refer.
        dtype_bytes: bytes of a number in the activations: 2 for half precision, 4 for fp32.
        grid: (rows, columns) of patches.
        num_visible: patches that the student sees.
        num_masks: masks for each image.
        tokens: length S of the student's rows.
        recipe: the recipe, if one was inspected.
    """

    name: str
    batch_size: int
    dtype_bytes: int
    grid: tuple[int, int]
    num_visible: int
    num_masks: int
    tokens: int
    parameters: Parameters
    flops: StepFlops
    memory: StepMemory
    recipe: Recipe | None = None

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def num_hidden(self) -> int:
        return self.num_patches - self.num_visible

    def rows(self) -> list[tuple[str, str]]:
        """What is shown: (quantity, value)."""
        counts, flops, memory = self.parameters, self.flops, self.memory
        rows = [
            ("encoder", f"{_count(counts.encoder)} parameters"),
            ("decoder", f"{_count(counts.decoder)} parameters"),
            ("teacher", f"{_count(counts.teacher)} parameters, not trained"),
            ("in all", f"{_count(counts.total)} parameters, {_count(counts.trainable)} trained"),
            ("patches", f"{self.num_patches} ({self.grid[0]} x {self.grid[1]})"),
            ("a mask leaves", f"{self.num_visible} visible, {self.num_hidden} hidden"),
            (
                "student's batch",
                f"{self.batch_size} images x {self.num_masks} masks = {self.batch_size * self.num_masks} rows of "
                f"{self.tokens} tokens",
            ),
            ("one forward and backward", _flops(flops.total)),
            ("  student", f"{flops.student / flops.total:.0%}"),
            ("  decoder", f"{flops.decoder / flops.total:.0%}"),
            ("  teacher", f"{flops.teacher / flops.total:.0%}"),
            (
                "memory, an estimate",
                f"{_bytes(memory.total)} in {'fp32' if self.dtype_bytes == 4 else 'mixed precision'}",
            ),
            ("  weights, gradients, Adam", _bytes(memory.weights + memory.gradients + memory.optimizer)),
            ("  teacher", _bytes(memory.teacher)),
            ("  activations", _bytes(memory.activations)),
        ]
        if self.recipe is not None:
            images = self.recipe.training["max_steps"] * self.recipe.global_batch
            rows += [
                ("epochs", f"{self.recipe.epochs:.1f}"),
                ("  updates", f"{self.recipe.training['max_steps']:,}"),
                ("  images an update", f"{self.recipe.global_batch:,}"),
                ("  images in the data", f"{self.recipe.data['num_examples']:,}"),
                ("the whole run", _flops(images * flops.total / self.batch_size)),
            ]
        return rows

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


def inspect_target(name: str, *, batch_size: int | None = None, dtype_bytes: int = 2) -> Inspection:
    """Inspect a recipe or a model by name.

    Args:
        name: a recipe's name, its folder or yaml file; a folder with a `config.json`; or a Hub id.
        batch_size: images of a micro-batch on one device; by default the recipe's, else 16.
        dtype_bytes: 2 for half precision, 4 for fp32.

    Raises:
        ValueError: if there is nothing of that name, or it is not a data2vec 2.0 image model.

    Example:
        >>> inspection = inspect_target("data2vec2-vision-base")
        >>> inspection.num_visible, round(inspection.parameters.encoder / 1e6)
        (39, 86)
    """
    path = Path(name)
    if name in recipe_names() or path.suffix in (".yaml", ".yml") or (path / "recipe.yaml").is_file():
        recipe = load_recipe(name)
        batch_size = batch_size or recipe.training["per_device_train_batch_size"]
        return inspect(
            recipe.model_config(), batch_size=batch_size, dtype_bytes=dtype_bytes, name=recipe.name, recipe=recipe
        )
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name!r} is no recipe ({', '.join(recipe_names())}), and no config could be loaded from it: "
            f"{str(error).splitlines()[0]}"
        ) from error
    if not isinstance(config, Data2Vec2VisionConfig):
        raise ValueError(f"{name!r} is a {config.model_type} model, but only data2vec2-vision can be inspected")
    return inspect(config, batch_size=batch_size or 16, dtype_bytes=dtype_bytes, name=name)


def inspect(
    config: Data2Vec2VisionConfig,
    *,
    batch_size: int = 16,
    dtype_bytes: int = 2,
    name: str = "model",
    recipe: Recipe | None = None,
) -> Inspection:
    """Work out what pretraining with `config` costs; nothing is allocated.

    Args:
        config: a data2vec 2.0 image config.
        batch_size: images B of a micro-batch on one device.
        dtype_bytes: 2 for half precision (weights stay fp32, as under autocast), 4 for fp32.
        name: heading of the report.
        recipe: adds epochs and the FLOPs of the whole run.

    Example:
        >>> inspection = inspect(Data2Vec2VisionConfig(), batch_size=16)
        >>> inspection.num_patches, inspection.num_visible, inspection.num_hidden
        (196, 39, 157)
    """
    parameters = count_parameters(config)
    num_visible = count_visible(config)
    return Inspection(
        name=name,
        batch_size=batch_size,
        dtype_bytes=dtype_bytes,
        grid=config.grid,
        num_visible=num_visible,
        num_masks=config.num_masks,
        tokens=config.num_extra_tokens + num_visible,
        parameters=parameters,
        flops=step_flops(config, batch_size, num_visible),
        memory=step_memory(config, batch_size, num_visible, parameters, dtype_bytes),
        recipe=recipe,
    )


def count_parameters(config: Data2Vec2VisionConfig) -> Parameters:
    """Count the parameters of the pretraining model, built without memory."""
    with torch.device("meta"):
        model = AutoModelForPreTraining.from_config(config)
    encoder, decoder, teacher = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (model.base_model, model.head, model.teacher)
    )
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Parameters(encoder, decoder, teacher, trainable)


def count_visible(config: Data2Vec2VisionConfig) -> int:
    """V, the patches that a mask leaves visible: the collator's own count, from one mask."""
    mask = ImageMaskCollator(config).draw(torch.zeros(1, dtype=torch.int32), config.grid)
    return int((~mask).sum())


# ---- FLOPs ----


def step_flops(config: Data2Vec2VisionConfig, batch_size: int, num_visible: int) -> StepFlops:
    """Closed formulas for one micro-batch; a backward pass costs two forward passes."""
    positions = config.grid[0] * config.grid[1]
    rows = batch_size * config.num_masks
    embed = 2 * batch_size * positions * config.num_channels * config.patch_size**2 * config.hidden_size
    student = _encoder_flops(config, rows, config.num_extra_tokens + num_visible)
    teacher = _encoder_flops(config, batch_size, config.num_extra_tokens + positions)
    return StepFlops(
        student=3 * student + 2 * embed,  # pixels need no gradient
        decoder=3 * _decoder_flops(config, rows),
        teacher=teacher + (embed if config.teacher_scope == "model" else 0),
    )


def _encoder_flops(config: Data2Vec2VisionConfig, rows: int, length: int) -> int:
    """Forward pass of prenet and trunk over [rows, length, D]."""
    width = config.hidden_size
    linear = 2 * width * (4 * width + 2 * config.intermediate_size)  # of one token: qkv, projection, feed-forward
    attention = 4 * length * width  # of one token: scores and weighted sum
    return (config.num_prenet_layers + config.num_hidden_layers) * rows * length * (linear + attention)


def _decoder_flops(config: Data2Vec2VisionConfig, rows: int) -> int:
    """Forward pass of the convolutions and the projection over all positions."""
    kernel = config.decoder_kernel
    height, width = config.grid
    extra = 1 - kernel % 2  # an even kernel computes one row and column too many
    computed = (height + extra) * (width + extra)
    flops = 0
    for wide, narrow in pairwise([config.hidden_size] + [config.decoder_dim] * config.decoder_layers):
        flops += 2 * rows * computed * kernel**2 * wide // config.decoder_groups * narrow
    last = config.decoder_dim if config.decoder_layers else config.hidden_size
    return flops + 2 * rows * height * width * last * config.hidden_size


# ---- memory ----


def step_memory(
    config: Data2Vec2VisionConfig, batch_size: int, num_visible: int, parameters: Parameters, dtype_bytes: int
) -> StepMemory:
    """Estimate the memory of one device: fp32 weights, gradients, Adam's two averages and teacher, and activations."""
    weights = 4 * parameters.trainable
    if dtype_bytes < 4:
        weights += dtype_bytes * parameters.trainable  # autocast keeps a copy in half precision until the backward pass
    return StepMemory(
        weights=weights,
        gradients=4 * parameters.trainable,
        optimizer=8 * parameters.trainable,
        teacher=4 * parameters.teacher,
        activations=_activation_bytes(config, batch_size, num_visible, dtype_bytes),
    )


def _activation_bytes(config: Data2Vec2VisionConfig, batch_size: int, num_visible: int, dtype_bytes: int) -> int:
    """What autograd keeps for the backward pass, with an attention that keeps no [S, S] scores.

    In mixed precision the norms, and with them the sums that they normalise, stay in fp32, as on CUDA.
    """
    width, positions = config.hidden_size, config.grid[0] * config.grid[1]
    rows = batch_size * config.num_masks
    layers = config.num_prenet_layers + config.num_hidden_layers
    # A layer keeps its input, q, k, v, the attention's output, the feed-forward part's input, its middle before and
    # after the activation, and the input of both norms.
    low, full = 6 * width + 2 * config.intermediate_size, 2 * width
    student = layers * rows * (config.num_extra_tokens + num_visible) * (dtype_bytes * low + 4 * full)
    # A convolution keeps its input, and the input of its norm and of its activation; the projection keeps its input.
    low, full = width + config.decoder_layers * config.decoder_dim, 2 * config.decoder_layers * config.decoder_dim
    decoder = rows * positions * (dtype_bytes * low + 4 * full)
    teacher = dtype_bytes * config.num_hidden_layers * batch_size * (config.num_extra_tokens + positions) * width
    loss = 4 * (rows + batch_size) * positions * width  # predictions and targets
    return student + decoder + teacher + loss


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
