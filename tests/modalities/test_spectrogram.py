"""Spectrograms of recordings: read, trained on, probed and classified by what their `Modality` says."""

import json
import shutil
from random import Random

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

import data2vec_cli
from modeling_data2vec import Data2Vec2SpectrogramConfig, Data2Vec2SpectrogramFeatureExtractor, SpectrogramReader
from modeling_data2vec.trainers.data.samples import UnreadableError
from modeling_data2vec.trainers.modalities.spectrogram import SpectrogramModality, statistics

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "num_masks": 2}
TINY |= {"average_top_k_layers": 2, "decoder_dim": 16, "decoder_layers": 2, "spectrogram_length": 32}
SHORT = ["--max_steps", "2", "--warmup_steps", "1", "--use_cpu", "--logging_steps", "1", "--disable_tqdm", "true"]
SHORT += ["--dataloader_num_workers", "0", "--per_device_train_batch_size", "4"]


def run(capsys, *argv: object) -> str:
    assert data2vec_cli.main([str(word) for word in argv]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def splits(recordings, tmp_path_factory):
    """The recordings in folders `train` and `test`."""
    folder = tmp_path_factory.mktemp("splits")
    for file in recordings.rglob("*.wav"):
        split = folder / ("test" if file.stem in "45" else "train") / file.parent.name
        split.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, split)
    return folder


@pytest.fixture(scope="module")
def model(splits, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "spectrogram"
    argv = ["pretrain", "--recipe", "data2vec2-spectrogram-base", "--dataset", splits, "--output_dir", output]
    argv += ["--config", *(f"{name}={json.dumps(value)}" for name, value in TINY.items()), *SHORT]
    assert data2vec_cli.main([str(word) for word in argv]) == 0
    return output


def test_a_run_leaves_a_model_its_feature_extractor_and_pictures(model):
    names = {path.name for path in model.iterdir()}
    assert {"model.safetensors", "preprocessor_config.json", "masks.png", "pca.png", "curves.png"} <= names
    extractor, encoder = AutoFeatureExtractor.from_pretrained(model), AutoModel.from_pretrained(model)
    inputs = extractor(np.random.default_rng(0).standard_normal(9_000), sampling_rate=16_000, return_tensors="pt")
    assert encoder(**inputs).last_hidden_state.shape == (1, 1 + 3 * 8, 16)  # the CLS token, 3 x 8 patches
    assert "spectrograms of sound" in (model / "README.md").read_text()


def test_it_is_probed_inspected_and_fine_tuned(model, splits, tmp_path, capsys):
    probed = run(capsys, "probe", "--model", model, "--dataset", splits, "--labels", "all")
    assert "| log-mel |" in probed and "| MFCC |" in probed
    assert "4 clips x 2 masks" in run(capsys, "inspect", model, "--batch_size", 4)
    argv = ("--task", "classification", "--model", model, "--dataset", splits, "--eval_split", "test")
    run(capsys, "finetune", *argv, "--output_dir", tmp_path / "classifier", *SHORT)
    config = json.loads((tmp_path / "classifier" / "config.json").read_text())
    assert config["architectures"] == ["Data2Vec2SpectrogramForAudioClassification"]


def test_crops_are_random_and_short_clips_passed_over():
    reader = SpectrogramReader(Data2Vec2SpectrogramFeatureExtractor(), max_frames=32, min_frames=32)
    wave = {"array": np.sin(np.arange(20_000) ** 1.3), "sampling_rate": 16_000}
    first, other = (reader({"audio": wave}, Random(seed))["input_features"] for seed in (0, 1))
    assert first.shape == other.shape == (32, 128) and not torch.equal(first, other)
    assert torch.equal(reader({"audio": wave})["input_features"], reader({"audio": wave})["input_features"])
    with pytest.raises(UnreadableError, match="less than"):
        reader({"audio": {"array": wave["array"][:5_000], "sampling_rate": 16_000}})


def test_a_crop_holds_the_frames_of_the_whole_clip():
    extractor = Data2Vec2SpectrogramFeatureExtractor()
    wave = {"array": np.random.default_rng(0).standard_normal(20_000), "sampling_rate": 16_000}
    whole = SpectrogramReader(extractor)({"audio": wave})["input_features"]
    crop = SpectrogramReader(extractor, max_frames=32)({"audio": wave}, Random(1))["input_features"]
    starts = [first for first in range(len(whole) - 31) if torch.allclose(whole[first : first + 32], crop, atol=1e-4)]
    assert len(starts) == 1 and starts[0] > 0


def test_pictures_and_baseline():
    modality = SpectrogramModality(Data2Vec2SpectrogramConfig(num_mel_bins=32, patch_size=[4, 8]))
    spectrogram = torch.zeros(10, 32)
    spectrogram[:, :8] = 1.0  # low bands
    assert modality.grid(spectrogram) == (2, 4)
    cells = modality.cells(np.arange(8), spectrogram)
    np.testing.assert_array_equal(cells, [[3, 7], [2, 6], [1, 5], [0, 4]])  # time to the right, low bands at the bottom
    (picture,) = modality.pictures([spectrogram])
    assert picture[-1].mean() > picture[0].mean() + 0.3
    assert statistics([spectrogram, spectrogram]).shape == (2, 8 * 32)
