"""examples/sound_encoder.py keeps to what X-ARES and HEAR say of an encoder."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from processors import save_processor, some_samples
from tiny_runs import tiny_model

from modeling_data2vec import embed

EXAMPLE = Path(__file__).parents[2] / "examples" / "sound_encoder.py"
HEAR_RATES = (16_000, 22_050, 32_000, 44_100, 48_000)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("sound_encoder", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["speech", "spectrograms"])
def folder(request, tmp_path):
    tiny_model(f"{request.param} 2.0").save_pretrained(tmp_path)
    save_processor(request.param, tmp_path)
    return tmp_path


def test_x_ares(example, folder, monkeypatch):
    """Its checker's rules: https://github.com/jimbozhang/xares, audio_encoder_checker.py. It gives no arguments."""
    monkeypatch.setenv("DATA2VEC_MODEL", str(folder))
    encoder = example.SoundEncoder()
    assert type(encoder).__name__.endswith("Encoder") and isinstance(encoder, torch.nn.Module)
    frames = encoder(torch.randn(2, 50_000))
    assert frames.ndim == 3 and frames.shape[0] == 2 and frames.shape[2] == encoder.output_dim
    seconds = 50_000 / encoder.sampling_rate
    assert abs(frames.shape[1] - 1000 * seconds / encoder.hop_size_in_ms) < 2
    assert encoder(torch.randn(50_000)).shape == (1, *frames.shape[1:])


def test_hear(example, folder):
    """https://hearbenchmark.com/hear-api.html"""
    model = example.load_model(str(folder))
    assert isinstance(model, torch.nn.Module) and model.sample_rate in HEAR_RATES
    audio = torch.from_numpy(np.stack([clip[:4_800] for clip in some_samples("speech")]))
    scenes = example.get_scene_embeddings(audio, model)
    frames, timestamps = example.get_timestamp_embeddings(audio, model)
    assert scenes.shape == (5, model.scene_embedding_size) and scenes.dtype == torch.float32
    assert frames.shape == (*timestamps.shape, model.timestamp_embedding_size)
    assert torch.allclose(timestamps.diff(dim=1), torch.tensor(model.hop_size_in_ms)) and model.hop_size_in_ms <= 50
    assert timestamps[0, 0] > 0 and timestamps[0, -1] < 300
    vectors = embed(folder, list(audio.numpy()), progress=False).vectors
    np.testing.assert_allclose(scenes.numpy(), vectors, rtol=0, atol=1e-5)
