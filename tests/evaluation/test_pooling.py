"""Poolings of single positions and of fields, stretches and bands: those of a sample alone, whatever its batch."""

import math

import numpy as np
import pytest
import torch
from encoders import IMAGES, KINDS, OURS, TEXT, encoder, samples
from torch.nn.functional import adaptive_avg_pool2d
from transformers import ViTConfig, ViTModel

from modeling_data2vec import Data2Vec2SpectrogramConfig, Data2Vec2SpectrogramModel
from modeling_data2vec.trainers.evaluation.attentive_probe import attentive_probe
from modeling_data2vec.trainers.evaluation.features import encode, extract_features, frame_features
from modeling_data2vec.trainers.evaluation.layer_features import layer_features
from modeling_data2vec.trainers.evaluation.pooling import bin_means

BANDS = 4
LENGTHS = (23, 8, 40, 12, 4)  # frames, in patches of 4


def spectrogram_model():
    torch.manual_seed(0)
    return Data2Vec2SpectrogramModel(Data2Vec2SpectrogramConfig(**OURS, num_mel_bins=16, patch_size=4)).eval()


def spectrograms():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, 16, generator=generator) for length in LENGTHS]


def stretch(count, bins):
    """First and last place of each stretch, as docs/evaluation.md says."""
    return [(math.floor(i * count / bins), math.ceil((i + 1) * count / bins)) for i in range(bins)]


@pytest.mark.parametrize(
    "pooling",
    ["mean", "max", "std", "cls", "bands", "bands_max+bands_std", "grid2", "grid3", "time6", "mean+std+time6"],
)
def test_spectrograms_do_not_depend_on_their_padding(pooling):
    model, inputs = spectrogram_model(), spectrograms()
    alone = np.concatenate([encode(model, [one], pooling=pooling) for one in inputs])
    for size in (2, 5):
        np.testing.assert_allclose(encode(model, inputs, pooling=pooling, batch_size=size), alone, atol=1e-5)
    together = layer_features(model, inputs, pooling=pooling, batch_size=5).pooled
    np.testing.assert_allclose(together[-1], alone, atol=1e-5)


def test_fields_stretches_and_bands_of_a_spectrogram():
    model, inputs = spectrogram_model(), spectrograms()
    frames, owners = frame_features(model, inputs)
    for sample, length in enumerate(LENGTHS):
        cells = frames[owners == sample].reshape(length // 4, BANDS, -1)  # [time, bands, D]
        expected = {
            "bands": cells.mean(0),
            "bands_max": cells.max(0),
            "bands_std": cells.std(0),
            "grid2": [cells[a:b, c:d].mean((0, 1)) for a, b in stretch(length // 4, 2) for c, d in stretch(BANDS, 2)],
            "time3": [cells[a:b].mean(0) for a, b in stretch(length // 4, 3)],  # [3, bands, D]
            "std": frames[owners == sample].std(0),
        }
        for pooling, values in expected.items():
            found = encode(model, inputs, pooling=pooling)[sample]
            np.testing.assert_allclose(found, np.ravel(values), atol=1e-5, err_msg=pooling)


def test_long_spectrograms_keep_their_bands_for_the_attentive_probe():
    model, inputs = spectrogram_model(), spectrograms()
    whole, owners = frame_features(model, inputs)
    short, kept = layer_features(model, inputs, max_positions=11, batch_size=5).frames
    assert np.bincount(kept).tolist() == [8, 8, 8, 8, 4]
    cells = whole[owners == 0].reshape(5, BANDS, -1)
    expected = np.stack([cells[a:b].mean(0) for a, b in stretch(5, 2)])
    np.testing.assert_allclose(short[kept == 0], expected.reshape(8, -1), atol=1e-5)
    labels = [0, 1, 0, 1, 0]
    assert attentive_probe((short, kept), labels, (short, kept), labels) >= 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_every_encoder_has_what_its_positions_allow(kind):
    model, inputs = encoder(kind), samples(kind)
    composed = encode(model, inputs, pooling="mean+max+std", layer=[1, -1], batch_size=3)
    parts = [[encode(model, inputs, pooling=one, layer=layer) for one in ("mean", "max", "std")] for layer in (1, -1)]
    np.testing.assert_allclose(composed, np.hstack([np.hstack(part) for part in parts]), atol=1e-5)
    possible, others = (
        ("grid2", ("time6", "bands_max")) if kind in IMAGES else ("time6", ("grid2", "bands", "bands_std"))
    )
    together = encode(model, inputs, pooling=possible, batch_size=3)
    alone = [encode(model, inputs[i : i + 1], pooling=possible) for i in range(7)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    title = "images" if kind in IMAGES else "text" if kind in TEXT else "speech"
    for pooling in others:
        with pytest.raises(ValueError, match=f"pooling is 'mean.{pooling}', but .* this is a model of {title}: choose"):
            encode(model, inputs, pooling=f"mean+{pooling}")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - IMAGES))
def test_stretches_of_sequences(kind):
    model, inputs = encoder(kind), samples(kind)
    frames, owners = frame_features(model, inputs)
    found = encode(model, inputs, pooling="time4", batch_size=3)
    for sample in range(7):
        own = frames[owners == sample]  # of 2 positions, too: each then fills two stretches
        expected = [own[a:b].mean(0) for a, b in stretch(len(own), 4)]
        np.testing.assert_allclose(found[sample], np.ravel(expected), atol=1e-5)


@pytest.mark.parametrize("kind", sorted(IMAGES))
def test_fields_of_images(kind):
    """A field for each patch is all of them side by side; larger fields are means."""
    model, inputs = encoder(kind), torch.stack(samples(kind))  # 4 x 4 patches
    flat = encode(model, inputs, pooling="flatten")
    np.testing.assert_allclose(encode(model, inputs, pooling="grid4"), flat, atol=1e-6)
    quarters = flat.reshape(7, 2, 2, 2, 2, -1).mean((2, 4)).reshape(7, -1)
    np.testing.assert_allclose(encode(model, inputs, pooling="grid2"), quarters, atol=1e-6)


def test_images_that_are_no_squares_and_a_cls_token_before_them():
    model = ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, patch_size=2))
    model.eval()
    images = torch.randn(2, 3, 6, 10)
    with torch.no_grad():
        patches = model(images, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    model.forward = lambda *args, run=model.forward, **kwargs: run(*args, interpolate_pos_encoding=True, **kwargs)
    expected = adaptive_avg_pool2d(patches.unflatten(1, (3, 5)).movedim(-1, 1), 2)  # [2, D, 2, 2]
    found = extract_features(model, [images], pooling="grid2")
    np.testing.assert_allclose(found, expected.flatten(2).transpose(1, 2).flatten(1), atol=1e-5)


def test_bins_share_and_repeat_places():
    values = torch.arange(5.0)[None, :, None]
    assert bin_means(values, 1, 2).flatten().tolist() == [1.0, 3.0]
    assert bin_means(values[:, :2], 1, 3).flatten().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("pooling", ["avg", "mean+", "", "grid", "grid0", "time-1", "mean,max", "grid2x2"])
def test_unknown_poolings(pooling):
    with pytest.raises(
        ValueError, match="but must be mean, max, std, cls, bands, bands_max, bands_std, flatten, grid2 and so on"
    ):
        encode(encoder("our images"), samples("our images"), pooling=pooling)
