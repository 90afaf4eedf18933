"""Position information of fixed form: sin-cos grids for images, ALiBi biases for attention."""

import math

import torch
from torch import Tensor


def sincos_positions_2d(
    height: int, width: int, dim: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Sin-cos embedding of a grid of patches, for any height and width.

    The first half of the channels encodes the column, the second half the row; each half is [sin | cos] at frequencies
    10000^(-i / (dim / 4)).

    Args:
        height: rows of patches.
        width: columns of patches.
        dim: channels D, a multiple of 4.

    Returns:
        [height * width, D], patches row by row. Computed in fp64.

    Example:
        >>> sincos_positions_2d(2, 3, 8).shape
        torch.Size([6, 8])
    """
    if dim % 4:
        raise ValueError(f"dim is {dim}, but 2-D sin-cos positions need a multiple of 4")
    exponents = torch.arange(dim // 4, dtype=torch.float64, device=device) / (dim / 4)
    frequencies = 10000**-exponents  # [D/4]
    rows = torch.arange(height, dtype=torch.float64, device=device)[:, None].expand(-1, width).flatten()  # [h*w]
    columns = torch.arange(width, dtype=torch.float64, device=device)[None].expand(height, -1).flatten()  # [h*w]
    angles = [coordinate[:, None] * frequencies for coordinate in (columns, rows)]  # 2 x [h*w, D/4]
    return torch.cat([half for angle in angles for half in (angle.sin(), angle.cos())], dim=1).to(dtype)


def alibi_slopes(num_heads: int) -> Tensor:
    """ALiBi's slope of each head, [H] (Press et al. 2022): a geometric sequence for a power of two.

    Otherwise the slopes for the largest smaller power of two, then every second slope of the next power.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    ratio = 2 ** (-8 / power)
    slopes = [ratio ** (i + 1) for i in range(power)]
    finer = 2 ** (-4 / power)
    slopes += [finer ** (2 * i + 1) for i in range(num_heads - power)]
    return torch.tensor(slopes, dtype=torch.float32)


def alibi_bias(coordinates: Tensor, num_heads: int, distance: str = "manhattan") -> Tensor:
    """Attention bias that falls linearly with the distance of two positions, before any learned scale.

    Args:
        coordinates: [..., T, 1] for sequences or [..., T, 2] for the grid cells of patches.
        num_heads: number of attention heads H.
        distance: "manhattan" or "euclidean"; the same in one dimension.

    Returns:
        fp32 [..., H, T, T], 0 on the diagonal, negative elsewhere.

    Example:
        >>> alibi_bias(torch.arange(3.0)[:, None], 1)[0, 0]
        tensor([-0.0000, -0.0039, -0.0078])
    """
    norms = {"manhattan": 1.0, "euclidean": 2.0}
    if distance not in norms:
        raise ValueError(f"distance is {distance!r}, but must be one of {sorted(norms)}")
    coordinates = coordinates.float()  # half precision could not count the positions
    differences = coordinates[..., :, None, :] - coordinates[..., None, :, :]  # [..., T, T, 1 or 2]
    if differences.shape[-1] == 1:
        distances = differences.squeeze(-1).abs()
    else:
        distances = torch.linalg.vector_norm(differences, ord=norms[distance], dim=-1)
    slopes = alibi_slopes(num_heads).to(distances.device)
    return -slopes[:, None, None] * distances.unsqueeze(-3)
