"""heads.py: the decoder against a plain implementation in the usual [R, D, h, w] layout."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_data2vec import Data2Vec2PreTrainingConfig
from modeling_data2vec.heads import ConvDecoder, RegressionHead, at_positions


def decoder(**options) -> ConvDecoder:
    sizes = {"hidden_size": 16, "num_attention_heads": 4, "decoder_dim": 16, "decoder_groups": 4, "decoder_layers": 3}
    return ConvDecoder(Data2Vec2PreTrainingConfig(**(sizes | {"decoder_kernel": 3} | options)), num_axes=2)


def plain(decoder: ConvDecoder, tokens: Tensor, grid: tuple[int, int], groups: int, residual: bool) -> Tensor:
    """Convolution, cut, norm over channels, GELU, residual: one step a line, in PyTorch's default layout."""
    height, width = grid
    x = tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
    for conv in decoder.convs:
        kernel = conv.weight.shape[-1]
        y = F.conv2d(x, conv.weight, conv.bias, padding=kernel // 2, groups=groups)
        if kernel % 2 == 0:
            y = y[:, :, :-1, :-1]
        y = (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
        x = x + y if residual and x.shape[1] == y.shape[1] else y
    return x.flatten(2).transpose(1, 2) @ decoder.proj.weight.T + decoder.proj.bias


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("grid", [(4, 4), (3, 7), (1, 5)])
@pytest.mark.parametrize("dim", [16, 24])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_decoder_equals_the_plain_one(kernel, dim, grid, residual):
    head = decoder(decoder_kernel=kernel, decoder_dim=dim, decoder_residual=residual)
    tokens = torch.randn(2, grid[0] * grid[1], 16)
    actual = head(tokens, grid)
    assert actual.shape == tokens.shape
    torch.testing.assert_close(actual, plain(head, tokens, grid, 4, residual), rtol=0, atol=1e-5)


def test_residual_only_where_widths_match():
    tokens = torch.randn(2, 12, 16)
    with_residual, without = (decoder(decoder_dim=24, decoder_residual=residual) for residual in (True, False))
    without.load_state_dict(with_residual.state_dict())
    assert not torch.allclose(with_residual(tokens, (3, 4)), without(tokens, (3, 4)))
    # A single layer from 16 to 24 channels has nothing to add.
    with_residual.convs, without.convs = with_residual.convs[:1], without.convs[:1]
    torch.testing.assert_close(with_residual(tokens, (3, 4)), without(tokens, (3, 4)))


def test_all_weights_get_gradients():
    head = decoder()
    head(torch.randn(2, 6, 16), (2, 3)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


def test_a_position_is_filled_from_its_neighbours_only():
    head = decoder(decoder_layers=2)  # two 3 x 3 layers see two patches far
    tokens = torch.randn(1, 35, 16)
    changed = tokens.clone()
    changed[0, 0] += 1.0
    differs = (head(changed, (5, 7)) - head(tokens, (5, 7))).abs().amax(-1).view(5, 7) > 1e-6
    expected = torch.zeros(5, 7, dtype=torch.bool)
    expected[:3, :3] = True
    assert torch.equal(differs, expected)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_linear_heads_are_twice_as_wide_inside(num_layers):
    head = RegressionHead(16, num_layers)
    widths = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, torch.nn.Linear)]
    assert widths == {1: [(16, 16)], 2: [(16, 32), (32, 16)], 3: [(16, 32), (32, 32), (32, 16)]}[num_layers]
    assert isinstance(head[-1], torch.nn.Linear) and head(torch.zeros(2, 5, 16)).shape == (2, 5, 16)


def test_a_head_at_some_positions_is_the_head_there():
    head = RegressionHead(16, 2)
    states = torch.randn(3, 9, 16, requires_grad=True)
    where = torch.rand(3, 9) > 0.6
    found, expected = at_positions(head, states, where), head(states) * where[..., None]
    torch.testing.assert_close(found, expected)
    inputs = [states, *head.parameters()]
    weights = torch.randn_like(expected)
    for gradient, other in zip(*(torch.autograd.grad(x, inputs, weights) for x in (found, expected)), strict=True):
        torch.testing.assert_close(gradient, other)
