"""A recipe's section of one modality: its data, micro-batches, and figures that must agree."""

import math
from dataclasses import dataclass
from typing import Any

from ..modalities.names import modalities
from ..option_checks import check_keys
from ..wording import plural

SAMPLING_RATE = 16_000  # of all speech models


@dataclass(frozen=True)
class RecipePart:
    """One modality of a recipe; a recipe for a single modality has one.

    Batches are counted in samples (images, clips, sequences), or in seconds of audio where `data.max_batch_seconds`
    bounds them; the size of the data and the global batch are in the same unit.

    Attributes:
        modality: its name, e.g. "audio".
        data: `dataset` and its size, `num_examples` or `num_seconds`, if that is known; for images `augmentation`;
            for speech `min_seconds` and `max_seconds` of a clip, `crop` ("shortest": all clips of a micro-batch to its
            shortest, "none": they are padded) and `max_batch_seconds` (padded seconds in a device's micro-batch, which
            has as many clips as fit); for text `block_length` in tokens, `pack` (false: documents are not joined),
            `word_vectors` (true: token embeddings are such, of the data, and are not trained) and `tokenizer`.
        global_batch: samples or seconds of this modality in an optimizer step: devices x micro-batch x micro-batches.
        per_device_train_batch_size: samples of a device's micro-batch; None where it is bounded in seconds.
        ratio: how often its micro-batches come, relative to those of the other modalities.
    """

    modality: str
    data: dict[str, Any]
    global_batch: float
    per_device_train_batch_size: int | None = None
    ratio: float = 1.0

    @property
    def unit(self) -> str:
        """Unit that batches are counted in: "images", "clips", "sequences" or "seconds" of audio."""
        return "seconds" if "max_batch_seconds" in self.data else plural(modalities()[self.modality].sample)

    @property
    def micro_batch(self) -> float:
        """Samples or seconds of one device's micro-batch."""
        return self.data.get("max_batch_seconds") or self.per_device_train_batch_size or 0

    @property
    def data_size(self) -> float | None:
        """Samples or seconds in the data; None if unknown."""
        return self.data.get("num_seconds" if "max_batch_seconds" in self.data else "num_examples")

    @property
    def augmentation(self) -> dict[str, Any]:
        """Arguments for `ImageTransform`, beside size and channels."""
        return self.data.get("augmentation", {})

    def epochs(self, max_steps: int) -> float | None:
        """Passes over the data: updates x global batch / size of the data; None where that is unknown.

        Micro-batches that are bounded in seconds are seldom full, so with them this is the most that there can be.
        """
        return max_steps * self.global_batch / self.data_size if self.data_size else None


def check_data(part: RecipePart, config: Any, where: str) -> None:
    """Raise a ValueError for data that can't be meant so, or don't suit the modality's config."""
    kind = modalities()[part.modality]
    check_keys(part.data, {"dataset", "num_examples"} | kind.data_keys, f"{where}, data")
    kind(config, data=part.data).check_data(where)


def check_figures(part: RecipePart, devices: int, micro_batches: float, epochs: float | None, updates: int, where: str):
    """Raise a ValueError for figures that contradict each other.

    Args:
        part: what is checked.
        devices: that it was made for.
        micro_batches: of this modality in an optimizer step, on each device.
        epochs: as the file has them; None if it has none.
        updates: optimizer steps.
        where: beginning of the message.
    """
    in_seconds = "max_batch_seconds" in part.data
    batch_name, size_name, other_size = (
        ("max_batch_seconds", "num_seconds", "num_examples")
        if in_seconds
        else ("per_device_train_batch_size", "num_examples", "num_seconds")
    )
    if in_seconds and part.per_device_train_batch_size is not None:
        raise ValueError(
            f"{where}: data.max_batch_seconds and per_device_train_batch_size both bound a micro-batch: leave one of "
            "them out"
        )
    if other_size in part.data:
        raise ValueError(f"{where}: batches are counted in {part.unit}: give {size_name} instead of {other_size}")
    product = devices * part.micro_batch * micro_batches
    if not math.isclose(product, part.global_batch):
        raise ValueError(
            f"{where}: global_batch is {part.global_batch}, but num_gpus {devices} x {batch_name} {part.micro_batch} x "
            f"{micro_batches:g} micro-batches is {product:.10g}"
        )
    if epochs is None:
        return
    expected = part.epochs(updates)
    if expected is None:
        raise ValueError(f"{where}: epochs is {epochs}, which needs data.{size_name} to be checked: give both")
    if abs(epochs - expected) > 0.005 * expected:
        raise ValueError(
            f"{where}: epochs is {epochs}, but max_steps {updates} x global_batch {part.global_batch} / {size_name} "
            f"{part.data_size} is {expected:.2f}"
        )
