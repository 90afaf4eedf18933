"""data2vec 1.0 is transformers' own: what is saved here loads there, and what is saved there is a start here."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import KINDS, arguments, tiny_model, tiny_samples
from transformers import (
    AutoModel,
    Data2VecAudioForCTC,
    Data2VecTextForSequenceClassification,
    Data2VecVisionForImageClassification,
)

from modeling_data2vec.auto import pretraining_class_of
from modeling_data2vec.trainers import Data2VecTrainer

NATIVE = [kind for kind in KINDS if kind.endswith("1.0")]
# With a head, which starts with new weights: the class there, and what Auto class leads to it.
HEADS = {
    "images 1.0": (Data2VecVisionForImageClassification, "AutoModelForImageClassification"),
    "speech 1.0": (Data2VecAudioForCTC, "AutoModelForCTC"),
    "text 1.0": (Data2VecTextForSequenceClassification, "AutoModelForSequenceClassification"),
}
# Run where this package can't be imported.
ELSEWHERE = """
import sys
sys.modules["modeling_data2vec"] = None
import torch, transformers
from safetensors.torch import load_file, save_file
folder, auto_class = sys.argv[1:]
inputs = load_file(folder + "/inputs.safetensors")
base = transformers.AutoModel.from_pretrained(folder).eval()
headed = getattr(transformers, auto_class).from_pretrained(folder).eval()
with torch.no_grad():
    states = {"base": base(**inputs).last_hidden_state, "headed": headed.base_model(**inputs).last_hidden_state}
    assert torch.isfinite(headed(**inputs).logits).all()
save_file({name: value.contiguous() for name, value in states.items()}, folder + "/states.safetensors")
assert not any(name.startswith("modeling_data2vec.") for name in sys.modules)
print(type(base).__module__, type(headed).__name__)
"""


def moved(model):
    """With weights that differ from new ones, and a teacher that differs from the student."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "token_type" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs_for(model) -> dict[str, torch.Tensor]:
    name = model.main_input_name
    samples = tiny_samples(model, 3)
    return {name: torch.stack([samples[i][name] for i in range(3)])}


@pytest.mark.parametrize("kind", NATIVE)
def test_plain_transformers_loads_what_was_trained_here(tmp_path, kind):
    model = tiny_model(kind)
    trainer = Data2VecTrainer(model, arguments(tmp_path, max_steps=2), train_dataset=tiny_samples(model))
    trainer.train()
    trainer.save_model()
    model.eval()
    inputs = inputs_for(model)
    save_file(inputs, tmp_path / "inputs.safetensors")
    headed_class, auto_class = HEADS[kind]
    argv = [sys.executable, "-c", ELSEWHERE, str(tmp_path), auto_class]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    assert said[0].startswith("transformers.") and said[1] == headed_class.__name__
    with torch.no_grad():
        expected = model.base_model(**inputs).last_hidden_state
    states = load_file(tmp_path / "states.safetensors")
    for state in (states["base"], states["headed"]):
        torch.testing.assert_close(state, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize("headed", [False, True], ids=["base", "fine-tuned"])
def test_a_native_folder_is_a_start(tmp_path, kind, headed, caplog):
    config = tiny_model(kind).config
    native_class = HEADS[kind][0] if headed else type(tiny_model(kind).base_model)
    native_config = native_class.config_class(
        **{name: value for name, value in config.to_dict().items() if name in native_class.config_class().to_dict()}
    )
    if kind == "images 1.0":
        native_config.use_mask_token = False  # as the published checkpoints
    theirs = moved(native_class(native_config)).eval()
    theirs.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert "teacher_scope" not in saved and "mask_prob" not in saved

    model_class = pretraining_class_of(str(tmp_path))
    model = model_class.from_pretrained(tmp_path, average_top_k_layers=2).eval()
    inputs = inputs_for(model)
    with torch.no_grad():
        states = [one.base_model(**inputs).last_hidden_state for one in (model, theirs)]
    torch.testing.assert_close(*states, rtol=0, atol=1e-5)
    student = model.base_model.state_dict()
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, student[name]), name
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
    words = " ".join(caplog.messages)
    assert "has no teacher" in words and "it starts as a copy of the student" in words
    for name in {"images 1.0": ["mask_token"]}.get(kind, ["head.0.weight"]):
        assert name in words


def test_token_types_stay_as_they_are():
    model = tiny_model("text 1.0")
    assert not model.base_model.embeddings.token_type_embeddings.weight.any()
    assert not model.base_model.embeddings.token_type_embeddings.weight.requires_grad


@pytest.mark.parametrize("kind", NATIVE)
def test_a_saved_pretraining_model_comes_back_whole(tmp_path, kind, caplog):
    model = moved(tiny_model(kind))
    model.save_pretrained(tmp_path)
    back = type(model).from_pretrained(tmp_path)
    states = back.state_dict()
    assert states.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(states[name], value), name
    assert not caplog.messages
    for name in KINDS[kind][1]:
        assert getattr(back.config, name) == getattr(model.config, name), name
    assert not isinstance(AutoModel.from_pretrained(tmp_path), type(model))
