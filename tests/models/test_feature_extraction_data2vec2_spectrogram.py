"""The feature extractor of spectrograms: Kaldi's filter bank as EAT computes it, real padding, any sampling rate."""

import numpy as np
import pytest
import reference_cases
import torch
from recordings import voice
from transformers import ASTFeatureExtractor, AutoFeatureExtractor
from transformers.utils import is_speech_available

from modeling_data2vec import Data2Vec2SpectrogramFeatureExtractor

# The log of a small energy makes much of its rounding: both are single precision, summed up in another order.
LOG_MEL_TOLERANCE, INPUT_TOLERANCE = 5e-4, 5e-5


@pytest.fixture(params=reference_cases.names("eat_fbank*"))
def case(request):
    return reference_cases.load(request.param)


def eats_input(case, **options) -> torch.Tensor:
    """[frames, mel bins] of the stored clip, as EAT's data loader makes them."""
    length = {"padding": "max_length", "max_length": case.info["target_length"], "truncation": True}
    extractor = Data2Vec2SpectrogramFeatureExtractor(**options)
    batch = extractor(case.tensors["waveform"], sampling_rate=case.info["sample_rate"], return_tensors="pt", **length)
    return batch["input_features"][0]


def test_reference_filter_bank(case):
    extractor = Data2Vec2SpectrogramFeatureExtractor(do_normalize=False)
    log_mel = torch.as_tensor(extractor.log_mel(case.tensors["waveform"]))
    torch.testing.assert_close(log_mel, case.tensors["fbank"], rtol=0, atol=LOG_MEL_TOLERANCE)
    assert float((log_mel - case.tensors["fbank"]).abs().mean()) < 1e-5
    floor = float(np.log(np.float32(1.1920929e-07)))
    for empty in case.info["agreement"]["mel_bins_always_at_the_log_floor"]:
        assert np.allclose(log_mel[:, empty], floor)


def test_reference_model_input(case):
    """Normalised and padded to the length that EAT trains on; the first and last 16 frames are stored."""
    ends = torch.cat([eats_input(case)[:16], eats_input(case)[-16:]])
    stored = case.tensors["model_input_first_and_last_16_frames"]
    torch.testing.assert_close(ends, stored, rtol=0, atol=INPUT_TOLERANCE)


def test_reference_normalisation_of_every_data_set(case):
    fbank = torch.nn.functional.pad(case.tensors["fbank"], (0, 0, 0, 1000))[: case.info["target_length"]]
    for figures in case.info["normalisation"].values():
        mean, std = figures["mean"], figures["std"]
        expected = (fbank - mean) / (2 * std)
        torch.testing.assert_close(eats_input(case, mean=mean, std=std), expected, rtol=0, atol=INPUT_TOLERANCE)


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.skipif(is_speech_available(), reason="torchaudio computes other roundings than transformers' own code")
def test_transformers_extractor_for_asts_gives_the_same(case):
    """`ASTFeatureExtractor` fits as well, but calls its output as the waveform of speech models is called here."""
    theirs = ASTFeatureExtractor(mean=-4.268, std=4.569, max_length=case.info["target_length"])
    values = theirs(case.tensors["waveform"].numpy(), sampling_rate=16_000, return_tensors="pt")["input_values"][0]
    torch.testing.assert_close(eats_input(case), values, rtol=0, atol=INPUT_TOLERANCE)


def test_clips_are_padded_to_the_longest_and_equal_those_alone():
    extractor = Data2Vec2SpectrogramFeatureExtractor()
    clips = [voice(seconds, seed=seed) for seed, seconds in enumerate((0.5, 0.2, 0.31))]
    batch = extractor(clips, sampling_rate=16_000, return_tensors="pt")
    frames = [1 + (len(clip) - 400) // 160 for clip in clips]
    assert batch["input_features"].shape == (3, max(frames), 128) and batch["input_features"].dtype == torch.float32
    assert batch["attention_mask"].sum(1).tolist() == frames
    for row, clip, count in zip(batch["input_features"], clips, frames, strict=True):
        assert torch.equal(row[:count], extractor(clip, sampling_rate=16_000, return_tensors="pt")["input_features"][0])
        assert torch.allclose(row[count:], torch.tensor(4.268 / (2 * 4.569)))  # as EAT pads: log energies of 0
    fixed = extractor(clips, sampling_rate=16_000, padding="max_length", max_length=24, truncation=True)
    assert all(one.shape == (24, 128) for one in fixed["input_features"])


@pytest.mark.parametrize("kind", [list, torch.tensor, np.float64])
def test_clips_of_any_kind_of_array(kind):
    extractor, clip = Data2Vec2SpectrogramFeatureExtractor(), voice(0.1, seed=0)
    expected = extractor(clip, sampling_rate=16_000, return_tensors="pt")["input_features"]
    for given in (kind(clip), [kind(clip)]):
        assert torch.equal(extractor(given, sampling_rate=16_000, return_tensors="pt")["input_features"], expected)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_frames_are_25_ms_every_10_ms_at_any_sampling_rate(rate):
    extractor = Data2Vec2SpectrogramFeatureExtractor(sampling_rate=rate, feature_size=40)
    assert (extractor.frame_length, extractor.hop_length) == (int(0.025 * rate), int(0.01 * rate))
    assert extractor.fft_length // 2 < extractor.frame_length <= extractor.fft_length
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    features = extractor(tone, sampling_rate=rate, return_tensors="pt")["input_features"][0]
    assert len(features) == 1 + (rate - extractor.frame_length) // extractor.hop_length
    # The loudest bin is the one whose filter holds 1,000 Hz on Kaldi's mel scale.
    mel = lambda hertz: 1127 * np.log(1 + hertz / 700)  # noqa: E731
    place = (mel(1000) - mel(20)) / (mel(rate / 2) - mel(20)) * 41 - 1
    assert abs(int(features.mean(0).argmax()) - place) <= 1


def test_wrong_clips_are_named():
    extractor = Data2Vec2SpectrogramFeatureExtractor()
    with pytest.raises(ValueError, match=r"8000 Hz, but this extractor takes 16000 Hz: resample"):
        extractor(voice(0.1, seed=0), sampling_rate=8_000)
    with pytest.raises(ValueError, match=r"shape \[300\].*one frame of 400 samples: leave out"):
        extractor(np.zeros(300, dtype=np.float32), sampling_rate=16_000)
    with pytest.raises(ValueError, match=r"shape \[2, 800\].*mix channels"):
        extractor([np.zeros((2, 800), dtype=np.float32)], sampling_rate=16_000)


def test_it_is_saved_and_found_again(tmp_path):
    extractor = Data2Vec2SpectrogramFeatureExtractor(feature_size=64, mean=-6.627, std=5.359)
    extractor.save_pretrained(tmp_path)
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(again) is Data2Vec2SpectrogramFeatureExtractor and again.to_dict() == extractor.to_dict()
    clip = voice(0.2, seed=0)
    assert np.array_equal(again.log_mel(clip), extractor.log_mel(clip))
