"""Which positions of a batch (patches, frames, tokens) are real, for any encoder of images, waveforms or tokens."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from modeling_data2vec import Data2Vec2AudioConfig


def patch_grid(config: PreTrainedConfig, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of patches that an encoder with `config.patch_size` makes of an image of that many pixels."""
    size = getattr(config, "patch_size", None)
    if size is None:
        raise ValueError(f"{type(config).__name__} has no patch_size: only encoders of image patches can be evaluated")
    rows, columns = (size, size) if isinstance(size, int) else size
    return height // rows, width // columns


def num_frames(encoder: PreTrainedModel, samples: Tensor) -> Tensor:
    """Frames that a speech encoder makes of clips of so many samples, an int64 tensor of any shape."""
    if isinstance(encoder.config, Data2Vec2AudioConfig):
        return encoder.config.num_frames(samples)
    count = getattr(encoder, "_get_feat_extract_output_lengths", None)  # what Hugging Face's speech encoders have
    if count is None:
        raise ValueError(
            f"{type(encoder).__name__} does not say how many frames it makes of a clip: of speech encoders only those "
            "of waveforms, such as Wav2Vec2Model, can be evaluated"
        )
    return count(samples)


def real_positions(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Which positions of a batch hold something of the sample, and not of its padding.

    Args:
        model: any encoder that `extract_features` takes.
        inputs: its inputs: `pixel_values` [B, channels, height, width], or `input_values` [B, samples] or `input_ids`
            [B, T] with an `attention_mask` of the same shape; without one nothing is padding.

    Returns:
        bool [B, T].

    Raises:
        ValueError: for inputs of another shape, samples without any position, or an encoder whose positions can't be
            counted.
    """
    encoder = model.base_model
    name = encoder.main_input_name
    values = inputs[name]
    dimensions = {"pixel_values": 4, "input_values": 2, "input_ids": 2}.get(name)
    if dimensions is None:
        raise ValueError(
            f"{type(encoder).__name__} takes {name}, but only encoders of pixel_values, input_values (waveforms) or "
            "input_ids can be evaluated"
        )
    if values.ndim != dimensions:
        expected = "[B, channels, height, width]" if dimensions == 4 else "[B, length]"
        raise ValueError(
            f"a batch has {name} of shape {tuple(values.shape)}, but they must be {expected}, as a split of all of "
            "them, e.g. inputs.split(32), gives them"
        )
    if name == "pixel_values":
        rows, columns = patch_grid(encoder.config, *values.shape[2:])
        return torch.ones(len(values), rows * columns, dtype=torch.bool)
    mask = inputs.get("attention_mask")
    mask = (torch.ones(values.shape) if mask is None else mask).bool().cpu()
    if name == "input_values":
        frames = num_frames(encoder, mask.sum(1))  # padding is on the right
        mask = torch.arange(int(num_frames(encoder, torch.tensor(mask.shape[1])))) < frames[:, None]
    if not mask.any(1).all():
        raise ValueError("a sample has no position at all: leave out clips shorter than one frame, and empty texts")
    return mask
