"""Dropout drops the share that it should, independently, the same again from the same generator state."""

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    Data2VecTextConfig,
    Data2VecTextModel,
    Data2VecVisionConfig,
    Data2VecVisionModel,
)

from modeling_data2vec import attention, dropout
from modeling_data2vec.attention import dropped_attention
from modeling_data2vec.dropout import Dropout, survivors
from modeling_data2vec.native_dropout import OWN_DROPOUT, run_own_dropout


def kept(rows: int, count: int, rate: float) -> torch.Tensor:
    torch.manual_seed(0)
    return survivors(dropout.draw_keys((rows,)), count, rate, torch.float32)[0]


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_share_and_scale_are_those_of_the_rate(rate):
    mask = kept(4096, 512, rate)
    deviation = (rate * (1 - rate) / mask.numel()) ** 0.5
    assert abs((1 - mask).mean().item() - rate) < 4 * deviation + 2**-17
    _, scale = survivors(torch.zeros(1, dtype=torch.int32), 1, rate, torch.float32)
    assert scale * (1 - round(rate * 2**16) / 2**16) == pytest.approx(1, abs=1e-15)  # the mean is exact
    assert scale == pytest.approx(1 / (1 - rate), rel=1e-4)


def test_numbers_are_independent():
    """Counts of each row and of each place vary as binomial ones do, and no two neighbors or rows go together."""
    rows, count, rate = 4096, 512, 0.1
    mask = kept(rows, count, rate)
    for axis, number in ((1, count), (0, rows)):
        variance = mask.sum(axis).var().item() / (number * rate * (1 - rate))
        assert variance == pytest.approx(1, abs=5 * (2 / mask.shape[1 - axis]) ** 0.5)
    centred = mask - mask.mean()
    bound = 5 / mask.numel() ** 0.5
    for lag in (1, 2, 3, 64):
        assert abs((centred[:, lag:] * centred[:, :-lag]).mean() / mask.var()) < bound
        assert abs((centred[lag:] * centred[:-lag]).mean() / mask.var()) < bound
    # Every pair of places, over all rows: correlations are those of chance, none of them large.
    correlations = torch.corrcoef(mask.T)[~torch.eye(count, dtype=torch.bool)]
    assert correlations.std().item() == pytest.approx(rows**-0.5, rel=0.02)
    assert correlations.abs().max() < 6 * rows**-0.5


def test_the_same_generator_state_drops_the_same():
    x = torch.randn(3, 50, 17)
    outputs = []
    for _ in range(2):
        torch.manual_seed(1)
        outputs.append([dropout.dropout(x, 0.3, True), dropout.dropout(x, 0.3, True)])
    assert torch.equal(outputs[0][0], outputs[1][0]) and torch.equal(outputs[0][1], outputs[1][1])
    assert not torch.equal(outputs[0][0], outputs[0][1])


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 9, 4), (2, 3, 5, 33)])
def test_what_is_dropped_has_no_gradient(monkeypatch, shape):
    monkeypatch.setattr(dropout, "PIECE", 16)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    output = dropout.dropout(x, 0.4, True)
    gone = output == 0
    torch.testing.assert_close(output[~gone], x[~gone] / (1 - round(0.4 * 2**16) / 2**16))
    output.backward(torch.ones_like(output))
    assert torch.equal(x.grad == 0, gone)
    torch.testing.assert_close(x.grad * x, output)


def test_rates_of_none_and_all():
    x = torch.randn(4, 5)
    assert dropout.dropout(x, 0.0, True) is x and dropout.dropout(x, 0.5, False) is x
    assert not dropout.dropout(x, 1.0, True).any()
    torch.manual_seed(0)
    module = Dropout(0.5)
    assert module(x).eq(0).any() and module.eval()(x) is x


@pytest.mark.parametrize("rate", [0.25, 0.0])
@pytest.mark.parametrize("piece", [8, 2**10, 2**18])
@pytest.mark.parametrize("masked", ["", "bool", "bias", "bias of all rows"])
def test_attention_is_plain_attention_with_the_same_dropout(monkeypatch, masked, piece, rate):
    monkeypatch.setattr(attention, "PIECE", piece)
    torch.manual_seed(0)
    inputs = [torch.randn(3, 7, 4, 5, dtype=torch.float64).transpose(1, 2).requires_grad_() for _ in range(3)]
    mask = None
    if masked == "bool":
        mask = torch.rand(3, 1, 7, 7) > 0.3
    elif masked:
        mask = torch.randn(1 if "all" in masked else 3, 4, 7, 7, dtype=torch.float64, requires_grad=True)
        inputs.append(mask)
    torch.manual_seed(1)
    output = dropped_attention(*inputs[:3], mask, 0.5, rate)
    torch.manual_seed(1)
    survived, scale = survivors(dropout.draw_keys((3, 4, 7)), 7, rate, torch.float64)
    scores = inputs[0] @ inputs[1].mT * 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e30) if masked == "bool" else scores + mask
    expected = (F.softmax(scores, -1) * survived * scale @ inputs[2]).transpose(1, 2)
    torch.testing.assert_close(output, expected)
    weights = torch.randn_like(expected)
    ours, plain = (torch.autograd.grad(one, inputs, weights) for one in (output, expected))
    for gradient, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize(("kind", "rate"), [("text", 1e-6), ("speech", 1e-6), ("images", 1e-6), ("images", 0.0)])
def test_native_encoders_are_the_same_where_nothing_is_dropped(monkeypatch, kind, rate):
    """At a rate that rounds to 0, or with a trained bias, attention is ours, and gives what transformers' gives."""
    config, model_class, inputs = {
        "text": (Data2VecTextConfig, Data2VecTextModel, torch.arange(5, 17).view(2, 6)),
        "speech": (Data2VecAudioConfig, Data2VecAudioModel, torch.randn(2, 2000)),
        "images": (Data2VecVisionConfig, Data2VecVisionModel, torch.randn(2, 3, 32, 32)),
    }[kind]
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    if kind == "images":
        sizes |= {"image_size": 32, "use_shared_relative_position_bias": True}
    rates = {"attention_dropout" if kind == "speech" else "attention_probs_dropout_prob": rate}
    rates |= dict.fromkeys(["hidden_dropout_prob", "hidden_dropout", "activation_dropout", "feat_proj_dropout"], 0.0)
    rates |= dict.fromkeys(["layerdrop", "drop_path_rate", "mask_time_prob"], 0.0)
    torch.manual_seed(0)
    model = model_class(config(**sizes, **rates))
    for weight in model.parameters():
        weight.data += torch.randn_like(weight) * 0.05  # biases, too
    expected = model.eval()(inputs).last_hidden_state
    run_own_dropout(model)
    assert {type(module) for module in model.modules()} & set(OWN_DROPOUT.values()) - {Dropout}
    calls = []
    monkeypatch.setattr(
        "modeling_data2vec.native_dropout.dropped_attention",
        lambda *inputs: calls.append(1) or dropped_attention(*inputs),
    )
    torch.testing.assert_close(model.train()(inputs).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
    assert len(calls) == 1
