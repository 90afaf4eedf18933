"""A batch of embedded input, before any position is hidden, and checks of raw input."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Embedding:
    """A batch after the local feature encoder.

    Attributes:
        local_features: [B, T, D], what the health metrics watch.
        tokens: [B, T, D] with those positions that don't depend on the mask.
        grid: the shape of the T positions: (rows, columns) for images, (T,) for sequences.
        valid: bool [B, T], True at real positions; None where nothing is padded.
    """

    local_features: Tensor
    tokens: Tensor
    grid: tuple[int, ...]
    valid: Tensor | None = None

    def valid_at(self, ids_keep: Tensor) -> Tensor | None:
        """`valid` at the positions [B, M, V] that masks leave visible: [B * M, V], or None where nothing is padded."""
        if self.valid is None:
            return None
        # [B, 1, T] is seen as [B, M, T] without a copy, then [B, M, V].
        return self.valid[:, None].expand(-1, ids_keep.shape[1], -1).gather(2, ids_keep).flatten(0, 1)


def real_positions(counts: Tensor, length: int) -> Tensor:
    """bool [B, T], True at the first positions of each sample, `counts` [B] of them, of T = `length`."""
    return torch.arange(length, device=counts.device) < counts[:, None]


def gather_rows(x: Tensor, ids: Tensor) -> Tensor:
    """Pick positions of each sample for each of its masks: x [B, T, D], ids [B, M, V] to [B * M, V, D].

    The samples are never repeated M times: one flat index reads straight from x.
    """
    batch, length, dim = x.shape
    # Where a sample begins in [B * T, D], added to the positions of each of its masks: [B, 1, 1] + [B, M, V].
    offsets = torch.arange(batch, device=ids.device).view(batch, 1, 1) * length
    return x.reshape(batch * length, dim).index_select(0, (ids + offsets).flatten()).view(-1, ids.shape[-1], dim)


def mean_over_positions(x: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of each sample over its real positions; x [B, T, D], valid bool [B, T] or None for all, to [B, D]."""
    if valid is None:
        return x.mean(1)
    return x.masked_fill(~valid[..., None], 0).sum(1) / valid.sum(1, keepdim=True).clamp_min(1)


def visible_ids(mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Positions that the student sees, in order.

    Args:
        mask: bool [..., T]; without padding, all rows must hide equally many positions.
        valid: bool, broadcastable to [..., T], True at real positions. Rows that see fewer real positions than others
            are filled up with padded ones.

    Returns:
        int64 [..., V], where V is the largest number of real positions that a row sees.

    Raises:
        ValueError: if rows differ in a way that padding doesn't explain, or nothing is visible, or nothing is hidden.

    Example:
        >>> visible_ids(torch.tensor([[True, False, False], [False, True, False]]))
        tensor([[1, 2],
                [0, 2]])
    """
    hidden = mask.to(torch.uint8)
    available = (~mask).sum(-1)
    # Order: real visible positions, padding, hidden ones.
    order = hidden if valid is None else hidden * 2 + (~valid).to(torch.uint8)
    visible = available if valid is None else (~mask & valid).sum(-1)
    most, fewest = int(visible.max()), int(available.min())
    if fewest < most:
        raise ValueError(
            f"mask leaves between {int(visible.min())} and {most} positions visible in different rows, but all rows "
            "must leave equally many: draw masks with exact_count=True, or pass ids_keep to say what each row keeps"
        )
    if int(visible.min()) == 0:
        raise ValueError("mask leaves nothing visible to the student: lower mask_prob, or use larger inputs")
    if most == mask.shape[-1]:
        raise ValueError("mask hides nothing, so there is nothing to predict: raise mask_prob")
    return torch.argsort(order, dim=-1, stable=True)[..., :most]


# ---- checks of raw input ----


def check_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}, but must be a tensor: a processor or collator makes it")


def check_patches(inputs: Tensor, num_channels: int, patch_shape: tuple[int, ...]) -> None:
    """Raise a ValueError for another shape than [batch, channels, ...], or less than one patch along an axis."""
    check_tensor("the input", inputs)
    axes = tuple(inputs.shape[2:])
    if len(axes) != len(patch_shape) or inputs.shape[1] != num_channels:
        raise ValueError(
            f"the input has shape {tuple(inputs.shape)}, but this model takes [batch, {num_channels} channels] and "
            f"{len(patch_shape)} further axes"
        )
    if any(size < patch for size, patch in zip(axes, patch_shape, strict=True)):
        raise ValueError(f"inputs of {axes} are smaller than one patch of {patch_shape}: leave out smaller samples")
