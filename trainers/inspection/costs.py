"""Parameters, floating-point operations and memory of one pretraining step, from closed formulas.

Letters as in `modeling_data2vec.core`: B samples, M masks, R = B * M rows, T positions, V visible positions, E extra
tokens, S = E + V tokens of a row, D channels, H attention heads.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import torch

from modeling_data2vec import Data2Vec2PreTrainingConfig, Data2VecPreTrainingConfig
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.configuration_data2vec2_audio import WaveformShape
from modeling_data2vec.configuration_pretraining import ImageShape
from modeling_data2vec.drawn_masks import draw_masks

from ..modalities.base import check_number
from ..modalities.names import modality


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters; `trainable` are encoder and decoder, which in data2vec 1.0 is the head."""

    encoder: int
    decoder: int
    teacher: int
    trainable: int

    @property
    def total(self) -> int:
        return self.encoder + self.decoder + self.teacher


@dataclass(frozen=True)
class StepShape:
    """Sizes of one micro-batch on one device.

    Attributes:
        batch_size: samples B.
        num_masks: masks M for each.
        grid: shape of a sample's T positions: (rows, columns) of patches, (T,) of frames or tokens.
        num_visible: V, the positions that a mask leaves visible.
        num_read: the positions that the student reads: V, or in data2vec 1.0 all T.
        num_extra_tokens: E.
        local_products: the local encoder as matrix products, from raw input to [T, D]: for each of them the positions
            that it gives of one sample, its inputs and its outputs. Empty for text, which looks its tokens up.
    """

    batch_size: int
    num_masks: int
    grid: tuple[int, ...]
    num_visible: int
    num_read: int
    num_extra_tokens: int
    local_products: list[tuple[int, int, int]]

    @property
    def rows(self) -> int:
        return self.batch_size * self.num_masks

    @property
    def num_positions(self) -> int:
        return prod(self.grid)

    @property
    def num_hidden(self) -> int:
        return self.num_positions - self.num_visible

    @property
    def tokens(self) -> int:
        """S, the length of the student's rows."""
        return self.num_extra_tokens + self.num_read


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of one forward and backward pass, two for each multiplication with addition.

    Matrix products and convolutions only, as in `torch.utils.flop_counter`; nothing is counted twice for gradient
    checkpointing, and no layer is dropped. The teacher has no backward pass.
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


def count_parameters(config: Any) -> Parameters:
    """Count the parameters of the pretraining model, which is built on torch's meta device and takes no memory."""
    with torch.device("meta"):
        model = pretraining_class(config.model_type)(config)
    encoder, decoder, teacher = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (model.base_model, model.head, model.teacher)
    )
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Parameters(encoder, decoder, teacher, trainable)


def step_shape(config: Any, batch_size: int, length: float | None = None) -> StepShape:
    """Sizes of a micro-batch of equally large samples.

    Args:
        config: of a pretraining model.
        batch_size: samples B.
        length: of the samples where they differ: seconds of speech, tokens of text.

    Raises:
        ValueError: if the samples are too short to be masked, or too long for the model.

    Example:
        >>> from modeling_data2vec import Data2Vec2AudioConfig
        >>> step_shape(Data2Vec2AudioConfig(), 4, 10).grid
        (499,)
    """
    kind = modality(pretraining_class(config.model_type))(config)
    example = kind.example(length)
    grid, products = kind.grid(example), kind.local_products(example)
    check_number(prod(grid))
    num_visible = count_visible(config, grid)
    if isinstance(config, Data2Vec2PreTrainingConfig):
        num_read, num_extra = num_visible, config.num_extra_tokens
    else:
        num_read, num_extra = prod(grid), int(isinstance(config, ImageShape))  # images have a CLS token
    return StepShape(batch_size, config.num_masks, grid, num_visible, num_read, num_extra, products)


def count_visible(config: Any, grid: tuple[int, ...]) -> int:
    """V, the positions that a mask leaves visible: counted in one mask."""
    mask = draw_masks(config, torch.zeros(1, dtype=torch.int32), grid)
    return int((~mask).sum())


# ---- FLOPs ----


def step_flops(config: Any, shape: StepShape) -> StepFlops:
    """Closed formulas for one micro-batch; a backward pass costs two forward passes."""
    local = [2 * shape.batch_size * positions * inputs * outputs for positions, inputs, outputs in shape.local_products]
    # Images of data2vec 1.0 are cut into patches anew for each mask, and once more for the teacher.
    again = isinstance(config, ImageShape) and not isinstance(config, Data2Vec2PreTrainingConfig)
    of_teacher = sum(local) if again or config.teacher_scope == "model" else 0
    if again:
        local = [shape.num_masks * flops for flops in local]
    student = _encoder_flops(config, shape, shape.rows, shape.tokens)
    teacher = _encoder_flops(config, shape, shape.batch_size, shape.num_extra_tokens + shape.num_positions)
    return StepFlops(
        student=3 * (student + sum(local)) - sum(local[:1]),  # raw input needs no gradient
        decoder=3 * _decoder_flops(config, shape),
        teacher=teacher + of_teacher,
    )


def _encoder_flops(config: Any, shape: StepShape, rows: int, length: int) -> int:
    """Forward pass of convolutional positions, prenet and trunk over [rows, length, D]."""
    width = config.hidden_size
    linear = 2 * width * (4 * width + 2 * config.intermediate_size)  # of one token: qkv, projection, feed-forward
    attention = 4 * length * width  # of one token: scores and weighted sum
    flops = (config.num_prenet_layers + config.num_hidden_layers) * rows * length * (linear + attention)
    if isinstance(config, WaveformShape):  # over all positions, whatever is hidden
        kernel, groups = config.conv_pos_kernel_size, config.num_conv_pos_embedding_groups
        one = _conv_flops(shape.grid, kernel, width, width, groups)
        flops += config.num_conv_pos_embeddings * rows * one
    return flops


def _decoder_flops(config: Any, shape: StepShape) -> int:
    """Forward pass of the head's convolutions and linear layers over all positions."""
    of_row = sum(
        _conv_flops(shape.grid, config.decoder_kernel, wide, narrow, config.decoder_groups)
        for wide, narrow in pairwise(_conv_widths(config))
    )
    of_row += sum(2 * shape.num_positions * wide * narrow for wide, narrow in pairwise(_linear_widths(config)))
    return shape.rows * of_row


def _conv_flops(grid: tuple[int, ...], kernel: int, wide: int, narrow: int, groups: int) -> int:
    """One convolution of one row, padded by kernel // 2: an even kernel gives one position more along each axis."""
    computed = prod(size + 1 - kernel % 2 for size in grid)
    return 2 * computed * kernel ** len(grid) * wide // groups * narrow


def _conv_widths(config: Data2VecPreTrainingConfig) -> list[int]:
    """Widths before, between and after the head's convolutions; empty without any."""
    if not isinstance(config, Data2Vec2PreTrainingConfig):
        return []
    return [config.hidden_size] + [config.decoder_dim] * config.decoder_layers


def _linear_widths(config: Data2VecPreTrainingConfig) -> list[int]:
    """Widths before, between and after the head's linear layers; empty without any."""
    width = config.hidden_size
    if isinstance(config, Data2Vec2PreTrainingConfig):
        middle = int(config.decoder_dim * config.decoder_projection_ratio)
        return [config.decoder_dim] + [middle] * (config.decoder_projection_layers - 1) + [width]
    if isinstance(config, ImageShape):
        return []
    return [width] + [2 * width] * (config.head_layers - 1) + [width]


# ---- memory ----


def step_memory(config: Any, shape: StepShape, parameters: Parameters, dtype_bytes: int) -> StepMemory:
    """Estimate the memory of one device: fp32 weights, gradients, Adam's two averages and teacher, and activations."""
    weights = 4 * parameters.trainable
    if dtype_bytes < 4:
        weights += dtype_bytes * parameters.trainable  # autocast keeps a copy in half precision until the backward pass
    batch, positions, width = shape.batch_size, shape.num_positions, config.hidden_size
    teacher_length = shape.num_extra_tokens + positions
    activations = (
        _local_bytes(shape, dtype_bytes)
        + _student_bytes(config, shape, dtype_bytes)
        + _decoder_bytes(config, shape, dtype_bytes)
        + dtype_bytes * config.num_hidden_layers * batch * teacher_length * width  # the teacher's layers
        + 4 * (shape.rows + batch) * positions * width  # predictions and targets
    )
    return StepMemory(
        weights=weights,
        gradients=4 * parameters.trainable,
        optimizer=8 * parameters.trainable,
        teacher=4 * parameters.teacher,
        activations=activations,
    )


# What autograd keeps for the backward pass. In mixed precision the norms, and with them the sums that they normalise
# and what follows them up to the next matrix product, stay in fp32, as on CUDA.


def _local_bytes(shape: StepShape, dtype_bytes: int) -> int:
    """The local encoder: convolutions with norm and activation, a norm and a projection; nothing of one projection."""
    *convolutions, (positions, inputs, _) = shape.local_products or [(0, 0, 0)]
    if not convolutions:
        return 0
    kept = positions * inputs * (4 + dtype_bytes)  # inputs of the last norm and of the projection
    for positions, inputs, outputs in convolutions:
        # A convolution is one product for each kernel position, and each keeps its own part of the input. Then come the
        # inputs of norm and activation.
        kept += positions * (dtype_bytes * inputs + 2 * 4 * outputs)
    return shape.batch_size * kept


def _student_bytes(config: Any, shape: StepShape, dtype_bytes: int) -> int:
    """Positions, prenet and trunk, with an attention that keeps no [S, S] scores of its own."""
    width, tokens = config.hidden_size, shape.tokens
    layers = config.num_prenet_layers + config.num_hidden_layers
    # A layer keeps its input, q, k, v, the attention's output, the feed-forward part's input, its middle before and
    # after the activation, and the input of both norms; on CUDA, also a byte for each value that a dropout could drop.
    low, full = 6 * width + 2 * config.intermediate_size, 2 * width
    kept = layers * tokens * (dtype_bytes * low + 4 * full + _dropped_bytes(config))
    if getattr(config, "use_alibi", False):  # the bias, and what is made of it for all layers or for each
        biases = layers if config.alibi_scale_per_layer else 1
        kept += config.num_attention_heads * tokens**2 * (4 * config.learned_alibi_scale + dtype_bytes * biases)
    if isinstance(config, WaveformShape):  # inputs of convolution, norm and activation
        kept += config.num_conv_pos_embeddings * shape.num_positions * width * (dtype_bytes + 2 * 4)
    return shape.rows * kept


def _dropped_bytes(config: Data2VecPreTrainingConfig) -> int:
    """Bytes of a layer's dropouts for each token."""
    width, inner = config.hidden_size, config.intermediate_size
    if isinstance(config, Data2Vec2PreTrainingConfig):
        of_branches = (config.hidden_dropout > 0) + (config.post_mlp_dropout > 0)
        return width * of_branches + (width + inner) * (config.activation_dropout > 0)
    # transformers' encoders have one for both branches, under two names.
    dropout = getattr(config, "hidden_dropout", getattr(config, "hidden_dropout_prob", 0.0))
    return 2 * width * (dropout > 0) + inner * (getattr(config, "activation_dropout", 0.0) > 0)


def _decoder_bytes(config: Any, shape: StepShape, dtype_bytes: int) -> int:
    """A convolution keeps its input, and the input of its norm and of its activation; a linear layer its input."""
    convolutions, linears = _conv_widths(config), _linear_widths(config)
    middle = sum(linears[1:-1])  # before and after the activation
    low = sum(convolutions[:-1]) + sum(linears[:1]) + 2 * middle
    full = 2 * sum(convolutions[1:])
    dropped = shape.num_visible * config.hidden_size * (getattr(config, "decoder_dropout", 0.0) > 0)
    return shape.rows * (shape.num_positions * (dtype_bytes * low + 4 * full) + dropped)
