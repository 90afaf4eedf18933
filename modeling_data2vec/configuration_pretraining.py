"""Fields of every pretraining config, 1.0 and 2.0: masks, targets, loss and teacher; and the shapes of raw input."""

import re
from collections.abc import Sequence
from dataclasses import fields
from math import gcd, inf, isfinite
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

Number = float | int
# Far above what anyone trains: a config that asks for more is damaged, and would take all memory or time.
MAX_LAYERS = 1_000
MAX_SIZE = 2**16  # widths, kernels, positions of a mask and the like
MAX_TABLE = 2**24  # rows of an embedding
DECAYS = ("ema_decay", "ema_end_decay")
RATE = re.compile(r"(dropout|dropout_prob|layerdrop|drop_path_rate)$")  # fields that are probabilities of dropping


class Published(int):
    """A default that belongs to the published size: in a config of another size, what fits it takes its place."""


class PublishedDecay(float):
    """A default that belongs to the published run's length: a run that is too short for it takes what fits it."""


@strict
class Data2VecPreTrainingConfig(PreTrainedConfig):
    """The fields of the method that data2vec 1.0 and 2.0 share.

    Names in brackets are fairseq's, where they differ.

    Args:
        padding: "exact": a sample's features and losses don't depend on how far its batch is padded; "reference": they
            do as in the authors' code, for parity and for published weights (docs/differences.md).
        num_masks: M, masks (student views) for each sample and teacher pass [clone_batch].
        mask_prob: share of positions to hide.
        mask_length: edge of a mask block, or positions of a span; 1 for single random positions.
        average_top_k_layers: K, teacher layers averaged into targets; a prenet's don't count.
        end_of_block_targets: targets from the ends of layers instead of their feed-forward outputs.
        batch_norm_target_layer, instance_norm_target_layer, group_norm_target_layer, layer_norm_target_layer: norms of
            each target layer.
        layer_norm_targets, instance_norm_targets: norms of the averaged targets.
        loss_beta: 0 for squared error, else smooth L1's β.
        loss_scale: factor of the sum over channels; None for 1/sqrt(D).
        ema_decay, ema_end_decay, ema_anneal_end_step: the teacher's decay, a linear ramp in optimizer steps.

    Fields that are not given follow `hidden_size` and `num_hidden_layers` (`follow_size`), and the teacher's decay the
    length of the run (`follow_run`).

    Stacks of layers have at most 1,000, widths and other sizes are at most 65,536, tables of embeddings have at most
    16,777,216 rows.

    Raises:
        huggingface_hub.errors.StrictDataclassError: a wrong type, or a value that a `validate_*` refuses; the message
            names the field, its value and what is allowed.
    """

    # Whether the authors draw masks over padding as well, in which case `padding="reference"` does.
    masks_reach_padding_in_reference: ClassVar[bool] = False

    padding: Literal["exact", "reference"] = "exact"
    num_masks: int = 1
    mask_prob: Number = 0.5
    mask_length: int = 1
    average_top_k_layers: int = Published(12)
    end_of_block_targets: bool = False
    batch_norm_target_layer: bool = False
    instance_norm_target_layer: bool = False
    group_norm_target_layer: bool = False
    layer_norm_target_layer: bool = False
    layer_norm_targets: bool = False
    instance_norm_targets: bool = False
    loss_beta: Number = 0.0
    loss_scale: Number | None = None
    ema_decay: Number = PublishedDecay(0.999)
    ema_end_decay: Number = PublishedDecay(0.9999)
    ema_anneal_end_step: int = Published(30_000)

    def __post_init__(self, **kwargs: Any) -> None:
        self.follow_size()
        super().__post_init__(**kwargs)

    def follow_size(self) -> None:
        """Let fields that were not given fit width D and depth L; those of the published size are the defaults.

        | field | value |
        |---|---|
        | num_attention_heads | a divisor of D, about D / 64 |
        | intermediate_size | 4 D |
        | average_top_k_layers | at most L |
        | num_prenet_layers | as many in relation to L, at most the default |
        | decoder_dim | as wide in relation to D |
        | decoder_groups, num_conv_pos_embedding_groups | the largest divisor of what they must divide |

        Example:
            >>> from modeling_data2vec import Data2Vec2VisionConfig
            >>> config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=2)
            >>> config.num_attention_heads, config.intermediate_size, config.average_top_k_layers, config.decoder_dim
            (1, 256, 2, 64)
        """
        # Now, since others are divided by them, here and by the first validators.
        self.at_least(1, "num_hidden_layers", MAX_LAYERS)
        self.at_least(1, "hidden_size decoder_groups" if hasattr(self, "decoder_groups") else "hidden_size")
        width, layers = self.hidden_size, self.num_hidden_layers
        defaults = {entry.name: entry.default for entry in fields(self)}
        groups = getattr(self, "decoder_groups", 1)
        if type(groups) is Published:
            dims = [] if type(self.decoder_dim) is Published else [self.decoder_dim]
            groups = gcd(groups, width, *dims)
        prenet, decoder = defaults.get("num_prenet_layers", 0), defaults.get("decoder_dim", 0)
        fitting = {
            "num_attention_heads": max(n for n in range(1, max(1, round(width / 64)) + 1) if width % n == 0),
            "intermediate_size": 4 * width,
            "average_top_k_layers": min(self.average_top_k_layers, layers),
            "num_prenet_layers": min(prenet, round(prenet * layers / defaults["num_hidden_layers"])),
            "decoder_groups": groups,
            "decoder_dim": groups * max(1, round(decoder * width / defaults["hidden_size"] / groups)),
            "num_conv_pos_embedding_groups": gcd(getattr(self, "num_conv_pos_embedding_groups", 1), width),
        }
        for name, value in fitting.items():
            if type(getattr(self, name, None)) is Published:
                setattr(self, name, value)

    def follow_run(self, max_steps: int) -> bool:
        """Let the teacher's decay fit a run that would end before the default one has risen; returns whether it did.

        The rise takes a quarter of the run, and the teacher looks back at as large a share of it as in the published
        runs: 1 - decay grows as the rise shrinks, up to 0.1. A decay that was given, in whole or in part, stays.

        Example:
            >>> from modeling_data2vec import Data2Vec2VisionConfig
            >>> config = Data2Vec2VisionConfig()
            >>> config.follow_run(1_000), config.ema_anneal_end_step, round(config.ema_decay, 3), config.ema_end_decay
            (True, 250, 0.92, 0.996)
        """
        rise = self.ema_anneal_end_step
        given = type(rise) is not Published or any(type(getattr(self, name)) is not PublishedDecay for name in DECAYS)
        if given or max_steps >= rise:
            return False
        self.ema_anneal_end_step = max(1, max_steps // 4)
        for name in DECAYS:
            shorter = (1 - getattr(self, name)) * rise / self.ema_anneal_end_step
            setattr(self, name, round(1 - min(0.1, shorter), 6))
        return True

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build a config from a dict, with changes in place before values are checked against each other.

        The config of another kind of model is an error instead of a warning.
        """
        found = config_dict.get("model_type")
        if cls.model_type and found and found != cls.model_type:
            raise ValueError(
                f"this is the config of a model of type {found!r}, but {cls.__name__} is for {cls.model_type!r}: load "
                "it with the Auto classes or with its own class"
            )
        changes = {entry.name: kwargs.pop(entry.name) for entry in fields(cls) if entry.name in kwargs}
        return super().from_dict(config_dict | changes, **kwargs)

    @property
    def masks_reach_padding(self) -> bool:
        """Whether masks hide padded positions, too."""
        return self.masks_reach_padding_in_reference and self.padding == "reference"

    def at_least(self, minimum: int, names: str, most: int = MAX_SIZE) -> None:
        """Raise a ValueError for the first of the named fields that is, or has an entry, smaller, or above `most`."""
        for name in names.split():
            value = getattr(self, name)
            numbers = value if isinstance(value, Sequence) else [value]
            if any(number < minimum for number in numbers):
                raise ValueError(f"{name} is {value}, but must be at least {minimum}")
            if any(number > most for number in numbers):
                raise ValueError(f"{name} is {value}, but must be at most {most:,}")

    def not_negative(self, names: str) -> None:
        """Raise a ValueError for the first of the named fields that is negative, infinite or no number."""
        for name in names.split():
            if not 0.0 <= getattr(self, name) < inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative, and finite")

    def validate_sizes(self) -> None:
        self.at_least(1, "hidden_size num_attention_heads intermediate_size num_masks mask_length")
        self.at_least(1, "num_hidden_layers", MAX_LAYERS)
        self.not_negative("ema_anneal_end_step initializer_range")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads is {self.num_attention_heads}, which does not divide hidden_size "
                f"{self.hidden_size}: choose a divisor"
            )

    def validate_rates(self) -> None:
        for name in (entry.name for entry in fields(self) if RATE.search(entry.name)):
            rate = getattr(self, name)
            if rate is not None and not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} is {rate}, but must be at least 0 and less than 1")

    def validate_layers(self) -> None:
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act is {self.hidden_act!r}, but must be one of {', '.join(sorted(ACT2FN))}")
        if not 0.0 < self.layer_norm_eps < 1.0:
            raise ValueError(f"layer_norm_eps is {self.layer_norm_eps}, but must lie strictly between 0 and 1")

    def validate_targets(self) -> None:
        if not 1 <= self.average_top_k_layers <= self.num_hidden_layers:
            raise ValueError(
                f"average_top_k_layers is {self.average_top_k_layers}, but the model has num_hidden_layers "
                f"{self.num_hidden_layers} (a prenet's layers don't count): choose from 1 to {self.num_hidden_layers}"
            )
        self.not_negative("loss_beta")
        if self.loss_scale is not None and not isfinite(self.loss_scale):
            raise ValueError(f"loss_scale is {self.loss_scale}, but must be finite, or None for 1/sqrt(hidden_size)")

    def validate_masks(self) -> None:
        if not 0.0 < self.mask_prob < 1.0:
            raise ValueError(f"mask_prob is {self.mask_prob}, but must lie strictly between 0 and 1")

    def validate_teacher(self) -> None:
        for name in ("ema_decay", "ema_end_decay"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must lie between 0 and 1")


class PatchShape:
    """Patches of an input with any number of axes, for configs with a `patch_size`: an edge, or one along each axis."""

    patch_size: Any

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Extent along each axis, without channels, of the input that the recipe trains on: e.g. (rows, columns)."""
        raise NotImplementedError

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Extent of a patch along each axis."""
        if isinstance(self.patch_size, int):
            return (self.patch_size,) * len(self.input_shape)
        return tuple(self.patch_size)

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each axis of such an input."""
        return tuple(size // patch for size, patch in zip(self.input_shape, self.patch_shape, strict=True))


class ImageShape(PatchShape):
    """Patches of an image, for configs with `image_size`, `patch_size` and `num_channels`."""

    image_size: int | list[int] | tuple[int, int]
    num_channels: int

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        height, width = self.image_size
        return height, width

    @property
    def input_shape(self) -> tuple[int, int]:
        """The same by the name that all inputs with patches have."""
        return self.image_shape

    def validate_image(self) -> None:
        if not isinstance(self.image_size, int) and len(self.image_size) != 2:
            raise ValueError(f"image_size is {self.image_size}, but must be one number, or height and width")
        if not isinstance(self.patch_size, int) or not all(
            1 <= size <= MAX_SIZE for size in (self.patch_size, self.num_channels)
        ):
            raise ValueError(
                f"patch_size is {self.patch_size} and num_channels {self.num_channels}, but both must be at least 1, "
                f"and at most {MAX_SIZE:,}"
            )
        if max(self.image_shape) > MAX_SIZE:
            raise ValueError(f"image_size is {self.image_size}, but must be at most {MAX_SIZE:,}")
        if any(size < self.patch_size or size % self.patch_size for size in self.image_shape):
            raise ValueError(f"image_size is {self.image_size}, but must be a multiple of patch_size {self.patch_size}")
