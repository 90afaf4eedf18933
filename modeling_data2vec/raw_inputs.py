"""Clear errors for raw input that a model can't take, the same for data2vec 1.0 and 2.0."""

from typing import Any

import torch
from torch import Tensor


def _check_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}, but must be a tensor: a processor or collator makes it")


def check_images(pixel_values: Tensor, num_channels: int, patch_size: int) -> None:
    """Raise a ValueError for a wrong number of channels, or a size that the patch size does not divide."""
    _check_tensor("pixel_values", pixel_values)
    if pixel_values.ndim != 4 or pixel_values.shape[1] != num_channels:
        raise ValueError(
            f"pixel_values has shape {tuple(pixel_values.shape)}, but this model takes "
            f"[batch, {num_channels}, height, width]: convert the images to {num_channels} channel(s), "
            "or build the model with another num_channels"
        )
    height, width = pixel_values.shape[2:]
    if height < patch_size or width < patch_size:
        raise ValueError(
            f"images of {height} x {width} pixels are smaller than one patch of {patch_size} x {patch_size}: resize "
            "them, or build the model with a smaller patch_size"
        )
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"images of {height} x {width} pixels can't be cut into patches of {patch_size} x {patch_size}: resize or "
            f"crop them to multiples of {patch_size}"
        )


def check_spectrograms(input_features: Tensor, num_mel_bins: int, patch_frames: int) -> None:
    """Raise a ValueError for another shape than [batch, frames, mel bins], or fewer frames than one patch has."""
    _check_tensor("input_features", input_features)
    shape = tuple(input_features.shape)
    if input_features.ndim != 3 or shape[2] != num_mel_bins:
        raise ValueError(
            f"input_features has shape {shape}, but this model takes log-mel spectrograms [batch, frames, "
            f"{num_mel_bins} mel bins]: compute them with the model's own feature extractor, or build the model with "
            "another num_mel_bins"
        )
    if shape[1] < patch_frames:
        raise ValueError(
            f"spectrograms of {shape[1]} frames are shorter than one patch of {patch_frames} frames: leave out shorter "
            "clips, or build the model with a smaller patch_size"
        )


def check_waveforms(input_values: Tensor, receptive_field: int) -> None:
    """Raise a ValueError for another shape than [batch, samples], or fewer samples than one frame needs."""
    _check_tensor("input_values", input_values)
    if input_values.ndim != 2 or input_values.shape[1] < receptive_field:
        raise ValueError(
            f"input_values has shape {tuple(input_values.shape)}, but this model takes [batch, samples] of mono sound "
            f"with at least {receptive_field} samples: leave out shorter clips, and mix channels to one"
        )


def check_tokens(input_ids: Tensor, vocab_size: int, max_tokens: float) -> None:
    """Raise a ValueError for another shape or dtype, too long a sequence, or (on a CPU) unknown ids."""
    _check_tensor("input_ids", input_ids)
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        raise ValueError(
            f"input_ids has shape {tuple(input_ids.shape)} and dtype {input_ids.dtype}, but must hold token ids "
            "[batch, tokens]"
        )
    if input_ids.shape[1] > max_tokens:
        raise ValueError(
            f"input_ids holds {input_ids.shape[1]} tokens, but max_position_embeddings leaves room for {max_tokens}: "
            "truncate the sequences, or build the model with a longer table"
        )
    if torch.compiler.is_compiling():  # what ids there are is unknown then
        return
    if input_ids.device.type == "cpu" and not 0 <= int(input_ids.min()) <= int(input_ids.max()) < vocab_size:
        raise ValueError(
            f"input_ids holds ids from {int(input_ids.min())} to {int(input_ids.max())}, but the vocabulary has ids 0 "
            f"to {vocab_size - 1}: use the tokenizer that belongs to the model"
        )
