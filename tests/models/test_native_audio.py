"""The speech encoder of data2vec 1.0 with channels last gives what transformers' own gives."""

import copy

import pytest
import torch
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioForCTC,
    Data2VecAudioModel,
    Data2VecVisionConfig,
    Data2VecVisionModel,
)

from modeling_data2vec.native_audio import CHANNELS_LAST, run_channels_last

CONFIG = Data2VecAudioConfig(
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    conv_dim=[40] * 7,
    conv_bias=True,
    num_conv_pos_embedding_groups=4,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    feat_proj_dropout=0.0,
    layerdrop=0.0,
    mask_time_prob=0.0,
)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_states_and_gradients_are_transformers_own(attention, padded):
    torch.manual_seed(0)
    native = Data2VecAudioModel._from_config(CONFIG, attn_implementation=attention).train()
    ours = copy.deepcopy(native)
    run_channels_last(ours)
    assert {type(module) for module in ours.modules()} >= set(CHANNELS_LAST.values())
    assert ours.state_dict().keys() == native.state_dict().keys()
    inputs = torch.randn(2, 16_001)
    mask = torch.ones(2, 16_001, dtype=torch.long)
    if padded:
        mask[1, 9000:] = 0
    states = [model(inputs.clone(), mask if padded else None).last_hidden_state for model in (native, ours)]
    torch.testing.assert_close(states[1], states[0], rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(states[0])  # a sum of squares would have no gradient behind a norm
    for one in states:
        (one * weights).mean().backward()
    for (name, weight), other in zip(ours.named_parameters(), native.parameters(), strict=True):
        if other.grad is None:
            assert weight.grad is None, name
        else:
            torch.testing.assert_close(weight.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_trains_the_extractor():
    for reentrant in (True, False):
        model = Data2VecAudioForCTC(CONFIG).train()
        run_channels_last(model)
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model(torch.randn(1, 8000)).logits.sum().backward()
        assert all(layer.conv.weight.grad is not None for layer in model.data2vec_audio.feature_extractor.conv_layers)


def test_the_waveform_needs_no_gradient():
    model = Data2VecAudioModel(CONFIG).train()
    run_channels_last(model)
    waveform = torch.randn(1, 8000)
    model(waveform).last_hidden_state.sum().backward()
    assert not waveform.requires_grad


def test_other_models_are_left_as_they_are():
    model = Data2VecVisionModel(Data2VecVisionConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2))
    classes = [type(module) for module in model.modules()]
    run_channels_last(model)
    assert [type(module) for module in model.modules()] == classes
