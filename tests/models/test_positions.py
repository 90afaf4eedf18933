"""Positions: parity of sin-cos grids and ALiBi with the authors' code, and grids of any shape."""

import math
import re

import pytest
import reference_cases
import torch

from modeling_data2vec.feature_encoder import alibi_bias, alibi_slopes
from modeling_data2vec.modeling_data2vec2_vision import sincos_positions


@pytest.mark.parametrize("name", reference_cases.others("v2_alibi*"))
def test_reference_alibi(name):
    case = reference_cases.load(name)
    for heads, slopes in case.info["slopes"].items():
        torch.testing.assert_close(alibi_slopes(int(heads)), torch.tensor(slopes), rtol=1e-6, atol=0)
    for key, expected in case.tensors.items():
        match = re.fullmatch(r"alibi_(?:1d|2d_(\w+))\.heads(\d+)\.len(\d+)", key)
        assert match, f"a tensor whose name this test can't read: {key}"
        distance, heads, length = match[1], int(match[2]), int(match[3])
        edge = length if distance is None else math.isqrt(length)
        coordinates = torch.cartesian_prod(*[torch.arange(edge)] * (1 if distance is None else 2)).view(length, -1)
        actual = alibi_bias(coordinates, heads, distance or "manhattan")
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


SINCOS = [*reference_cases.others("v2_image_sincos_positions*"), *reference_cases.others("eat_sincos_positions*")]


@pytest.mark.parametrize("name", SINCOS)
def test_reference_sincos(name):
    for key, expected in reference_cases.load(name).tensors.items():
        match = re.fullmatch(r"pos\.dim(\d+)\.grid(\d+)(?:x(\d+))?", key)
        assert match, f"a tensor whose name this test can't read: {key}"
        dim, rows = int(match[1]), int(match[2])
        actual = sincos_positions((rows, int(match[3] or rows)), dim)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")


def test_sincos_of_a_non_square_grid_is_a_window_of_a_square_one():
    square = sincos_positions((7, 7), 24).view(7, 7, 24)
    torch.testing.assert_close(sincos_positions((3, 7), 24).view(3, 7, 24), square[:3], rtol=0, atol=0)
    torch.testing.assert_close(sincos_positions((7, 2), 24).view(7, 2, 24), square[:, :2], rtol=0, atol=0)


def test_sincos_positions_are_distinct():
    positions = sincos_positions((5, 11), 8)
    assert len(torch.unique(positions, dim=0)) == 55


@pytest.mark.parametrize("dim", [2, 6, 25])
def test_sincos_needs_a_multiple_of_four(dim):
    with pytest.raises(ValueError, match=rf"dim is {dim}\b.*multiple of 4"):
        sincos_positions((2, 2), dim)


def test_alibi_of_a_non_square_grid():
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(5))
    manhattan, euclidean = (alibi_bias(cells, 2, distance)[0] for distance in ("manhattan", "euclidean"))
    slope = float(alibi_slopes(2)[0])
    assert float(manhattan[0, 9]) == pytest.approx(-slope * (1 + 4))
    assert float(euclidean[0, 9]) == pytest.approx(-slope * math.hypot(1, 4))
    assert torch.equal(manhattan, manhattan.T)
    assert not manhattan.diagonal().any()


def test_alibi_names_the_distances_it_knows():
    with pytest.raises(ValueError, match="'chebyshev'.*euclidean.*manhattan"):
        alibi_bias(torch.arange(3)[:, None], 2, "chebyshev")
