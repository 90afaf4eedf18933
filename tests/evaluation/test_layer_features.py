"""All layers in one pass: equal to what each layer alone gives, for every kind of encoder."""

import numpy as np
import pytest
import torch
from encoders import IMAGES, KINDS, encoder, samples

from modeling_data2vec.trainers.evaluation.features import encode, frame_features
from modeling_data2vec.trainers.evaluation.layer_features import layer_features


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_those_of_encode(kind):
    model, inputs = encoder(kind), samples(kind)
    found = layer_features(model, inputs, frames_of=[1, -1], batch_size=3)
    last = len(found.pooled) - 1
    assert found.pooled.dtype == np.float32 and last == (3 if kind.startswith("our") else 2)
    for layer, pooled in enumerate(found.pooled):
        np.testing.assert_allclose(pooled, encode(model, inputs, layer=-1 if layer == last else layer), atol=1e-5)
    frames, owners = frame_features(model, inputs, layer=[1, -1])
    np.testing.assert_allclose(found.frames[0], frames, atol=1e-5)
    np.testing.assert_array_equal(found.frames[1], owners)


def test_the_encoder_runs_once(monkeypatch):
    model, inputs = encoder("our images"), samples("our images")
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    layer_features(model, inputs, batch_size=4)
    assert len(calls) == 2


def test_long_samples_are_averaged_over_stretches():
    model, inputs = encoder("our text"), samples("our text")
    whole, owners = frame_features(model, inputs)
    short, short_owners = layer_features(model, inputs, max_positions=6).frames
    for sample, length in enumerate(len(one) for one in inputs):
        own, kept = whole[owners == sample], short[short_owners == sample]
        assert len(kept) == min(length, 6)
        if length == 30:
            np.testing.assert_allclose(kept, own.reshape(6, 5, -1).mean(1), atol=1e-5)
        elif length <= 6:
            np.testing.assert_allclose(kept, own, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(IMAGES))
def test_other_poolings(kind):
    model, inputs = encoder(kind), samples(kind)
    for pooling in ("cls", "max"):
        expected = encode(model, inputs, pooling=pooling)
        np.testing.assert_allclose(layer_features(model, inputs, pooling=pooling).pooled[-1], expected, atol=1e-5)


def test_errors_of_layer_features():
    model, inputs = encoder("our images"), torch.stack(samples("our images"))
    with pytest.raises(
        ValueError, match="pooling is 'flatten', but must be mean, max, std, cls, bands, bands_max, bands_std, grid2"
    ):
        layer_features(model, inputs, pooling="flatten")
    for layers in (4, [0, -5]):
        with pytest.raises(ValueError, match=r"layer is (4|-5), but the encoder has layers 0 .* to 3"):
            layer_features(model, inputs, frames_of=layers)
    with pytest.raises(ValueError, match=r"layer is \[\]"):
        layer_features(model, inputs, frames_of=[])
