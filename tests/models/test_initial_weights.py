"""Initial weights: each module's own rule is applied, also by modules that hold no weights themselves."""

import math

import pytest
import torch
from tiny_runs import tiny_joint_model, tiny_model

from modeling_data2vec.heads import ConvDecoder, RegressionHead
from modeling_data2vec.modeling_data2vec2_audio import WaveformConv


def bound(layer) -> float:
    """Of PyTorch's own uniform initial weights."""
    return 1 / math.sqrt(layer.weight[0].numel())


@pytest.mark.parametrize("kind", ["images 2.0", "speech 2.0"])
def test_the_decoder_is_initialised_as_pytorch_has_it(kind):
    decoder = tiny_model(kind).head
    assert isinstance(decoder, ConvDecoder) and not list(decoder.parameters(recurse=False))
    for layer in (decoder.proj, *decoder.convs):
        assert layer.weight.abs().max() <= bound(layer)
        assert layer.weight.std() > 0.9 * bound(layer) / math.sqrt(3)
        assert layer.bias.abs().max() > 0


def test_the_text_decoders_projection_is_as_the_trunk():
    linear = tiny_model("text 2.0", hidden_size=64, decoder_dim=64).head.proj[0]
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05) and not linear.bias.any()


def test_convolutions_over_the_waveform_are_kaiming_normal():
    model = tiny_model("speech 2.0", conv_dim=[64, 64])
    conv = next(
        module for module in model.modules() if isinstance(module, WaveformConv) and module.conv.in_channels > 1
    )
    assert conv.conv.weight.std().item() == pytest.approx(math.sqrt(2 / conv.conv.weight[0].numel()), rel=0.05)


def test_the_head_of_speech_1_0_is_initialised_as_pytorch_has_it():
    head = tiny_model("speech 1.0", hidden_size=64).head
    assert isinstance(head, RegressionHead)
    assert head[0].weight.std().item() == pytest.approx(bound(head[0]) / math.sqrt(3), rel=0.05)


def test_low_ranks_can_learn():
    """One factor is zero, or the modality would not start as the trunk is; were both, nothing would ever change."""
    model = tiny_joint_model(["text"], modality_lora_rank=2)
    own = model.base_model.differences["text"]
    assert not any(value.any() for value in own.up.values())
    assert all(value.abs().max() <= 1 / math.sqrt(value.shape[1]) and value.std() > 0.05 for value in own.down.values())
    ids = torch.randint(4, 58, (4, 16), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(16).expand(4, 2, -1) % 2 == 0
    model(input_ids=ids, mask=mask).loss.backward()
    assert all(value.grad.abs().sum() > 0 for value in own.up.values())


def test_loaded_weights_are_left_alone(tmp_path):
    model = tiny_model("speech 2.0")
    model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    again = type(model).from_pretrained(tmp_path)
    states = again.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in model.state_dict().items())
