"""Joint models on a Hub: what arrives, and what of it a slice fetches."""

import os
import subprocess
import sys

import pytest
import torch
from joint_models import SPECIALISATIONS, inputs_of, joint_model
from safetensors.torch import load_file, save_file
from transformers import ViTImageProcessorPil

from modeling_data2vec import Data2Vec2AudioForCTC, Data2Vec2Model
from modeling_data2vec.trainers.hub.publishing import PushOptions, publish

NAME = "anna/joint"
ELSEWHERE = """
import sys
sys.modules["modeling_data2vec"] = None
import torch, transformers
from safetensors.torch import load_file, save_file
folder = sys.argv[1]
model = transformers.AutoModel.from_pretrained("anna/joint", trust_remote_code=True).eval()
with torch.no_grad():
    states = model(**load_file(folder + "/inputs.safetensors")).last_hidden_state
save_file({"states": states}, folder + "/states.safetensors")
"""


@pytest.fixture
def published(hub, monkeypatch, tmp_path):
    """A joint model on the Hub, with its code; and here."""
    monkeypatch.setenv("HF_TOKEN", "hf_anna")
    model = joint_model(**SPECIALISATIONS["all"]).eval()
    folder = tmp_path / "joint"
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / "vision")
    publish(folder, NAME, PushOptions(license="mit", with_code=True))
    return model


def raw(modality: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in inputs_of(modality).items() if name not in ("mask", "noise_keys")}


def test_a_slice_comes_from_the_hub(hub, published, tmp_path):
    files = set(hub.files(NAME))
    assert {"README.md", "config.json", "model.safetensors", "vision/preprocessor_config.json"} <= files
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    part = Data2Vec2Model.from_pretrained(NAME, modality="text", cache_dir=tmp_path).eval()
    with torch.no_grad():
        expected = published.data2vec2(**raw("text")).last_hidden_state
        assert torch.equal(part(**raw("text")).last_hidden_state, expected)
    recogniser = Data2Vec2AudioForCTC.from_pretrained(NAME, vocab_size=9, cache_dir=tmp_path)
    assert recogniser.lm_head.out_features == 9


def test_its_code_runs_without_this_package(hub, published, tmp_path):
    save_file(raw("audio"), tmp_path / "inputs.safetensors")
    environment = os.environ | {"HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = published.data2vec2(**raw("audio")).last_hidden_state
    assert torch.equal(load_file(tmp_path / "states.safetensors")["states"], expected)
