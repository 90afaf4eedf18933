"""Cosines and norms of gradients that accumulate, against those computed apart."""

import pytest
import torch
from torch import nn

from modeling_data2vec.trainers.monitoring.gradient_cosine import GradientCosine


def test_figures_are_those_of_gradients_computed_apart():
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    data = {name: [torch.randn(4, 5) for _ in range(2)] for name in ("audio", "vision", "text")}
    apart = {}
    for name, batches in data.items():
        layer.zero_grad()
        for one in batches:
            layer(one).square().mean().backward()
        apart[name] = torch.cat([layer.weight.grad.flatten(), layer.bias.grad])
    layer.zero_grad()
    cosine = GradientCosine(layer.parameters())
    for name, batches in data.items():
        for one in batches:
            layer(one).square().mean().backward()
        cosine.record(name)
    expected = {
        f"gradient_cosine/{a}_{b}": float(torch.cosine_similarity(apart[a], apart[b], dim=0))
        for a, b in (("audio", "vision"), ("audio", "text"), ("vision", "text"))
    }
    expected |= {f"gradient_norm/{name}": float(gradient.norm()) for name, gradient in apart.items()}
    assert cosine.take() == pytest.approx(expected, abs=1e-5)
    assert cosine.take() == {}
