"""Linear layers as convolutions: the same numbers, and only where they are faster."""

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import KINDS, tiny_model, tiny_samples
from torch import nn

from modeling_data2vec import linear as module
from modeling_data2vec.linear import by_convolution, linear, own_linear
from modeling_data2vec.trainers.modalities.names import mask_collator


@pytest.fixture
def slow_mkl(monkeypatch):
    monkeypatch.setattr(module, "MKL_IS_SLOW", True)


@pytest.mark.parametrize("shape", [(1030,), (3, 371), (2, 5, 103)], ids=str)
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
def test_the_convolution_gives_the_numbers_of_the_product(slow_mkl, monkeypatch, shape, biased):
    convolutions = []
    conv2d = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *args, **kwargs: convolutions.append(1) or conv2d(*args, **kwargs))
    torch.manual_seed(0)
    x = torch.randn(*shape, 96, requires_grad=True)
    weight = torch.randn(160, 96, requires_grad=True)
    bias = torch.randn(160, requires_grad=True) if biased else None
    given = [tensor for tensor in (x, weight, bias) if tensor is not None]
    upstream = torch.randn(*shape, 160)
    results = []
    for apply in (F.linear, linear):
        output = apply(x, weight, bias)
        results.append([output, *torch.autograd.grad(output, given, upstream)])
    assert len(convolutions) == 1
    for actual, expected in zip(*reversed(results), strict=True):
        assert actual.shape == expected.shape
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))


def test_what_a_convolution_would_slow_down_or_change_stays_a_product(slow_mkl):
    x, weight = torch.zeros(1024, 256), nn.Parameter(torch.zeros(256, 256))
    assert by_convolution(x, weight)
    assert not by_convolution(x[:383], weight)
    assert not by_convolution(x[:, :8], weight[:8, :8])
    assert not by_convolution(x.double(), weight)
    assert not by_convolution(x.bfloat16(), weight.bfloat16())
    assert not by_convolution(x.to("meta"), weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not by_convolution(x, weight)
        assert linear(x, weight).dtype == torch.bfloat16
    program = torch.compile(linear, backend="eager", fullgraph=True)
    torch.testing.assert_close(program(x, weight), x)


def test_elsewhere_nothing_changes(monkeypatch):
    monkeypatch.setattr(module, "MKL_IS_SLOW", False)
    assert not by_convolution(torch.zeros(1024, 256), torch.zeros(256, 256))


def test_layers_compute_by_it_inside_of_the_block_alone(slow_mkl, monkeypatch):
    layer, x, calls = nn.Linear(256, 256), torch.randn(1024, 256), []
    monkeypatch.setattr(module, "linear", lambda *inputs: calls.append(1) or linear(*inputs))
    expected = layer(x)
    with own_linear():
        torch.testing.assert_close(layer(x), expected)
    layer(x)
    assert len(calls) == 1


def test_what_another_library_has_put_into_linear_layers_stays(slow_mkl, monkeypatch):
    theirs = lambda layer, x: x + 1.0  # noqa: E731
    monkeypatch.setattr(nn.Linear, "forward", theirs)
    with own_linear():
        assert nn.Linear.forward is theirs
    assert nn.Linear.forward is theirs


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_computes_all_linear_layers_by_it(slow_mkl, monkeypatch, kind):
    calls = []
    monkeypatch.setattr(module, "linear", lambda *inputs: calls.append(1) or F.linear(*inputs))
    model = tiny_model(kind)
    sample = tiny_samples(model, 1)[0]
    model(**mask_collator(model.config)([sample]))
    layers = [one for one in model.modules() if isinstance(one, nn.Linear)]
    assert len(calls) >= len(layers)
