"""examples/{digits,speech,text}_api.py at tiny size: from data to models on a Hub on localhost, and short."""

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import voice
from transformers import AutoModel, AutoModelForImageClassification

import modeling_data2vec

EXAMPLES = Path(__file__).parents[2] / "examples"
REAL_SPEECH = Path("/usr/share/asterisk/sounds")


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_anna")


def check_run(trainers, hub, steps: int) -> None:
    by_recipe, as_any, whole, lora = trainers
    assert [trainer.state.global_step for trainer in trainers] == [steps] * 4
    assert {"README.md", "config.json", "model.safetensors"} <= hub.files("anna/api").keys()
    assert "model.safetensors" in hub.files("anna/api-whole")
    assert "adapter_model.safetensors" in hub.files("anna/api-lora")
    trained = sum(weight.numel() for weight in lora.model.parameters() if weight.requires_grad)
    assert trained < sum(weight.numel() for weight in whole.model.parameters())
    losses = [entry for trainer in (by_recipe, as_any) for entry in trainer.state.log_history if "train_loss" in entry]
    assert len(losses) == 2 and all(np.isfinite(entry["train_loss"]) for entry in losses)
    assert AutoModel.from_pretrained("anna/api").config.model_type == by_recipe.model.config.model_type


def shortened(load, count: int):
    """A loader's first samples: what comes after them takes time and shows nothing more."""

    def first(*args, **kwargs):
        dataset, column = load(*args, **kwargs)
        return dataset.select(range(count)), column

    return first


def test_digits(hub, token, tmp_path):
    module = example("digits_api")
    module.load_images = shortened(module.load_images, 40)
    check_run(module.main(str(tmp_path), 2, "anna/api"), hub, 2)
    classifier = AutoModelForImageClassification.from_pretrained("anna/api-whole")
    assert classifier.config.num_labels == 10


def test_text(hub, token, tmp_path):
    module = example("text_api")
    module.load_text = shortened(module.load_text, 200)
    module.CHAPTERS = ("string-methods", "formatstrings", "typesseq", "numbers")
    check_run(module.main(str(tmp_path), 2, "anna/api"), hub, 2)


def test_speech(hub, token, tmp_path):
    """On sounds that are made up: what is learned of them is nothing."""
    for number in range(20):
        file = tmp_path / "sounds" / f"class {number % 2}" / f"{number}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, voice(1.5 + 0.05 * number, seed=number), 16_000)
    check_run(example("speech_api").main(str(tmp_path / "sounds"), str(tmp_path), 2, "anna/api"), hub, 2)


@pytest.mark.slow
def test_speech_on_real_recordings(hub, token, tmp_path):
    if not REAL_SPEECH.is_dir():
        pytest.skip("real recordings: apt-get install -y asterisk-core-sounds-en-g722 asterisk-core-sounds-fr-g722")
    check_run(example("speech_api").main(str(REAL_SPEECH), str(tmp_path), 2, "anna/api"), hub, 2)


@pytest.mark.parametrize("name", ["digits_api", "speech_api", "text_api"])
def test_it_is_short(name):
    """At most 80 lines without imports and docstring; it imports nothing of the package but its public names."""
    text = (EXAMPLES / f"{name}.py").read_text()
    body = ast.parse(text).body
    head = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)]
    skipped = sum(node.end_lineno - node.lineno + 1 for node in head)
    assert sum(bool(line.strip()) for line in text.splitlines()) - skipped <= 80
    own = [node for node in body if isinstance(node, ast.ImportFrom) and node.module.startswith("modeling_data2vec")]
    assert [node.module for node in own] == ["modeling_data2vec"]
    assert all(hasattr(modeling_data2vec, alias.name) for alias in own[0].names)
