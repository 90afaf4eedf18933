"""Baselines are honest: random weights are random, and raw features hold what their names promise."""

import copy
import pydoc_data.topics
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import encoder, samples
from recordings import tone, voice
from scipy.sparse import issparse
from sklearn.datasets import load_digits

from modeling_data2vec import Data2Vec2AudioConfig, Data2Vec2AudioForPreTraining
from modeling_data2vec.trainers.evaluation.baselines import random_weights, raw_features
from modeling_data2vec.trainers.evaluation.probes import knn, linear_probe
from modeling_data2vec.trainers.media.mfcc import log_mel, mfcc, mfcc_statistics
from modeling_data2vec.trainers.media.tfidf import tfidf
from modeling_data2vec.trainers.modalities.base import flattened


def clip(samples):
    return torch.from_numpy(samples)


# ---- random weights ----


@pytest.mark.parametrize("kind", ["our images", "our speech", "our text", "wav2vec 2.0, layer norm", "RoBERTa"])
def test_random_weights_are_reproducible_and_touch_nothing(kind):
    given = random_weights(encoder(kind), seed=5).train()
    weights, states_before = copy.deepcopy(given.state_dict()), torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    fresh, again, other = random_weights(given), random_weights(given), random_weights(given, seed=1)
    assert torch.equal(torch.get_rng_state(), states_before)
    assert (np.random.get_state()[1] == numpy_before).all()
    assert all(torch.equal(given.state_dict()[name], weight) for name, weight in weights.items()) and given.training
    assert type(fresh) is type(given) and not fresh.training
    assert fresh.config is not given.config and fresh.config.to_dict() == given.config.to_dict()
    name = max(weights, key=lambda name: weights[name].numel())
    assert torch.equal(fresh.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(fresh.state_dict()[name], other.state_dict()[name])
    assert not torch.equal(fresh.state_dict()[name], weights[name])


def test_random_weights_of_a_pretraining_model_are_an_encoder():
    config = encoder("our speech").config
    fresh = random_weights(Data2Vec2AudioForPreTraining(Data2Vec2AudioConfig(**config.to_dict())))
    assert type(fresh) is type(encoder("our speech"))


# ---- images ----


def test_raw_pixels_are_the_pixels():
    images = torch.rand(10, 1, 8, 8)
    np.testing.assert_array_equal(flattened(images), images.reshape(10, 64).numpy())
    np.testing.assert_array_equal(flattened(list(images)), flattened(images))


# ---- speech ----


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("frequency", [300, 1_000, 3_000])
def test_the_loudest_mel_band_holds_the_tone(frequency, rate):
    bands = log_mel(clip(tone(frequency, 0.5, rate)), num_mels=40, sampling_rate=rate)
    assert bands.shape == (48, 40)  # windows of 25 ms in 500 ms, one every 10 ms
    width = 2595 * np.log10(1 + rate / 2 / 700) / 41  # between the centres of two bands, in mel
    assert abs((bands.mean(0).argmax() + 1) * width - 2595 * np.log10(1 + frequency / 700)) <= width / 2 + 1
    assert np.ptp(bands.argmax(1)) == 0


def test_loudness_changes_the_first_coefficient_alone():
    sound = clip(voice(0.5))
    quiet, loud = mfcc(sound), mfcc(16 * sound)
    np.testing.assert_allclose(quiet[:, 1:], loud[:, 1:], atol=1e-5)
    np.testing.assert_allclose(loud[:, 0] - quiet[:, 0], np.sqrt(40) * np.log(256), atol=1e-5)  # orthonormal transform


def test_mfcc_tell_tones_apart_and_when_they_sound():
    """Low-high and high-low have equal mean and deviation; the time bins tell them apart."""
    low, high = tone(300, 0.3, 16_000), tone(2_000, 0.3, 16_000)
    rising, falling = mfcc_statistics([clip(np.concatenate(pair)) for pair in ((low, high), (high, low))])
    assert rising.dtype == np.float32 and rising.shape == (8 * 40,)
    np.testing.assert_allclose(rising[:80], falling[:80], atol=1)
    assert np.abs(rising[80:120] - falling[80:120]).max() > 10
    assert mfcc_statistics([clip(low)], num_coefficients=13).shape == (1, 8 * 13)


@pytest.mark.parametrize("length", [1, 100, 400, 560, 1_000])
def test_any_clip_has_finite_features(length):
    features = mfcc_statistics([torch.zeros(length), torch.randn(length)])
    assert features.shape == (2, 320) and np.isfinite(features).all()


GCIN = Path("/usr/share/gcin-voice/ogg")


@pytest.mark.skipif(not GCIN.is_dir(), reason="needs the package gcin-voice")
def test_mfcc_of_real_speech_hold_its_sounds():
    """The tone of Mandarin syllables, one speaker: far above the 28% of guessing."""
    import soundfile
    from scipy.signal import resample_poly

    folders = sorted(folder for folder in GCIN.iterdir() if (folder / "3.ogg").exists())[::4]
    waves = []
    for folder in folders:
        wave, rate = soundfile.read(folder / "3.ogg", dtype="float32")
        waves.append(clip(resample_poly(wave.mean(1) if wave.ndim > 1 else wave, 160, rate // 100).astype(np.float32)))
    tones = np.array([folder.name[-1] if folder.name[-1].isdigit() else "1st" for folder in folders])
    features = mfcc_statistics(waves)
    assert linear_probe(features[::2], tones[::2], features[1::2], tones[1::2]) > 0.7


# ---- text ----


def test_tfidf_of_token_ids():
    train = [torch.tensor(ids) for ids in ([5, 6, 7], [5, 5], [8])]
    x, y = tfidf(train, [torch.tensor([6, 7, 99]), torch.tensor([99])])
    # tokens 5, 6, 7, 8 and pairs 5-6, 6-7, 5-5
    assert issparse(x) and x.shape == (3, 7) and y.shape == (2, 7) and x.dtype == np.float32
    np.testing.assert_allclose(np.sqrt(x.power(2).sum(1)), 1, atol=1e-6)
    assert y[0].nnz == 3 and y[1].nnz == 0  # 6, 7 and their pair; an unknown token says nothing


def test_tfidf_with_few_labels_on_real_text():
    """Which manual page do 12 words come from? Many features, few labels: sparse all the way."""
    pages = {name: pydoc_data.topics.topics[name].split() for name in ("strings", "compound", "specialnames")}
    words = {word: index for index, word in enumerate(sorted({word for page in pages.values() for word in page}))}
    texts, labels = [], []
    for label, page in pages.items():
        for start in range(0, min(len(page), 1200) - 12, 12):
            texts.append(torch.tensor([words[word] for word in page[start : start + 12]]))
            labels.append(label)
    labels, order = np.array(labels), np.random.default_rng(0).permutation(len(texts))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, y = tfidf([texts[i] for i in train], [texts[i] for i in test])
    chance = np.unique(labels[test], return_counts=True)[1].max() / len(test)
    for probe in (linear_probe, knn):
        assert probe(x, labels[train], y, labels[test]) > chance + 0.15


# ---- which one ----


@pytest.mark.parametrize(
    ("kind", "name", "width"),
    [
        ("our images", "raw pixels", 64),
        ("ViT", "raw pixels", 64),
        ("our speech", "MFCC", 320),
        ("our speech", "log-mel", 320),
        ("RoBERTa", "TF-IDF", None),
        ("RoBERTa", "word vectors", None),
    ],
)
def test_each_kind_of_input_has_its_baseline(kind, name, width):
    (raw,) = [one for one in raw_features(encoder(kind)) if one.name == name]
    inputs = samples(kind)
    train_x, test_x = raw.compute(inputs[:5], inputs[5:])
    assert train_x.shape[0] == 5 and test_x.shape[0] == 2
    assert train_x.shape[1] == test_x.shape[1] and width in (None, train_x.shape[1])


def test_raw_pixels_solve_the_digits():
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None]
    x, y = raw_features(encoder("our images"))[0].compute(images[:1000], images[1000:])
    assert linear_probe(x, data.target[:1000], y, data.target[1000:]) > 0.9
