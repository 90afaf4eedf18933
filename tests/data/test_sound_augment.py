"""data/sound_augment.py: clips rolled and scaled, noise on spectrograms, by a sample's own random numbers."""

from random import Random

import numpy as np
import torch

from modeling_data2vec import Data2Vec2SpectrogramFeatureExtractor
from modeling_data2vec.trainers.data.sound_augment import SoundAugment
from modeling_data2vec.trainers.modalities.spectrogram import SpectrogramReader


def test_a_clip_is_rolled_and_scaled():
    clip = np.sin(np.arange(1_000) ** 2 / 9e4).astype(np.float32)
    gains = []
    for seed in range(40):
        changed = SoundAugment(roll=True).waveform(clip, Random(seed))
        gains.append(np.abs(changed).max() / np.abs(clip).max())
        back = np.stack([np.roll(changed / gains[-1], shift) for shift in range(1_000)])
        assert np.abs(back - clip).max(1).min() < 1e-5 and changed.dtype == np.float32
    assert 0.5 < min(gains) < 0.95 and 1.05 < max(gains) < 1.5 and abs(np.mean(gains) - 1) < 0.1  # Beta(10, 10) + .5


def test_noise_is_even_and_rolls_a_few_frames():
    spectrogram = torch.arange(100.0)[:, None].expand(100, 16)
    shifts, most = set(), []
    for seed in range(200):
        changed = SoundAugment(noise=0.1).spectrogram(spectrogram, Random(seed))
        frames = changed.floor()
        shifts.add(int(frames[50, 0]) - 50)
        most.append(float((changed - frames).max()))
        assert torch.equal(frames[:, 0].sort().values, torch.arange(100.0))
    assert shifts <= set(range(-9, 11)) and len(shifts) > 15 and 0.08 < max(most) < 0.1 and min(most) < 0.02


def test_readers_augment_training_samples_alone():
    extractor = Data2Vec2SpectrogramFeatureExtractor(feature_size=16)
    example = {"audio": {"array": np.sin(np.arange(8_000) ** 1.3), "sampling_rate": 16_000}}
    plain = SpectrogramReader(extractor)
    reader = SpectrogramReader(extractor, augment=SoundAugment(roll=True, noise=0.1))
    same, one, other = (reader(example, rng)["input_features"] for rng in (None, Random(1), Random(2)))
    assert torch.equal(same, plain(example)["input_features"])
    assert torch.equal(plain(example, Random(1))["input_features"], same)
    assert torch.equal(one, reader(example, Random(1))["input_features"]) and not torch.equal(one, other)
    assert one.shape == same.shape and not torch.equal(one, same)
