"""Convolutions over tensors with channels last give what PyTorch's own give."""

import pytest
import torch
from torch import nn

from modeling_data2vec import linear
from modeling_data2vec.convolutions import channels_last_conv, strided_conv


@pytest.fixture(params=["products", "oneDNN"])
def library(request, monkeypatch):
    """What multiplies: a processor's slow MKL, or oneDNN, whatever the size."""
    monkeypatch.setattr(linear, "MKL_IS_SLOW", request.param == "oneDNN")
    monkeypatch.setattr(linear, "MIN_ROWS", 0)
    monkeypatch.setattr(linear, "MIN_MULTIPLICATIONS", 0)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
def test_a_sum_of_products_is_the_convolution(library, kernel, stride, channels):
    torch.manual_seed(0)
    for bias in (False, True):
        conv = nn.Conv1d(channels, 6, kernel, stride, bias=bias)
        for length in (kernel, kernel + 1, 23, 24):
            x = torch.randn(2, length, channels, requires_grad=True)
            inputs = (x, *conv.parameters())
            expected = conv(x.transpose(1, 2)).transpose(1, 2)
            y = strided_conv(conv, x)
            torch.testing.assert_close(y, expected)
            weights = torch.randn_like(expected)
            gradients = torch.autograd.grad((expected * weights).sum(), inputs)
            torch.testing.assert_close(torch.autograd.grad((y * weights).sum(), inputs), gradients)


def test_channels_last_convolutions_are_pytorchs():
    torch.manual_seed(0)
    conv = nn.Conv1d(8, 8, 5, padding=2, groups=2)
    x = torch.randn(2, 11, 8)
    torch.testing.assert_close(channels_last_conv(conv, x), conv(x.transpose(1, 2)).transpose(1, 2))
    conv = nn.Conv2d(8, 8, 3, padding=1, groups=2)
    x = torch.randn(2, 5, 7, 8)
    torch.testing.assert_close(channels_last_conv(conv, x), conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
