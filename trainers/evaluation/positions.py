"""Which positions of a batch (patches, frames, tokens) are real, for any encoder of a known kind of data."""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel

from ..modalities.names import modality


def real_positions(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Which positions of a batch hold something of the sample, and not of its padding.

    Args:
        model: any encoder that `extract_features` takes.
        inputs: its inputs: `pixel_values` [B, channels, height, width], or `input_values` [B, samples] or `input_ids`
            [B, T] with an `attention_mask` of the same shape; without one nothing is padding. Or those of another
            modality.

    Returns:
        bool [B, T].

    Raises:
        ValueError: for inputs of another shape, samples without any position, or an encoder whose positions can't be
            counted.
    """
    encoder = model.base_model
    real = modality(encoder)(encoder.config).real_positions(encoder, inputs)
    if not real.any(1).all():
        raise ValueError("a sample has no position at all: leave out clips shorter than one frame, and empty texts")
    return real
