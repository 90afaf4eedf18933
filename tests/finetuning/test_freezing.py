"""freezing.py: what is not frozen is trained, also by checkpointing that looks at a layer's input alone."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from task_models import TASKS
from tiny_tasks import FAST, body, few_digits, sounds

import data2vec_cli
from modeling_data2vec.trainers.finetuning.adapters import with_adapter
from modeling_data2vec.trainers.finetuning.freezing import freeze, let_gradients_reach_layers

REENTRANT = ("--gradient_checkpointing", "--gradient_checkpointing_kwargs", '{"use_reentrant": true}')


def gradients(model, batch, reentrant: bool) -> dict[str, torch.Tensor]:
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)  # since 5.23
    enable({"use_reentrant": reentrant})
    let_gradients_reach_layers(model)
    model.train().zero_grad()
    np.random.seed(0)  # which transformers masks speech by
    model(**batch).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad", "ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize("frozen", ["lora", "feature_encoder", "1", "encoder"])
@pytest.mark.parametrize("name", ["CTC", "classes of images", "classes of texts"])
def test_models_of_transformers_train_as_without_reentrance(name, frozen, tmp_path):
    """Layers share a bias in images of 1.0, which is trained by way of frozen layers as well."""
    task = TASKS[name]
    changes = {"layerdrop": 0.0, "activation_dropout": 0.0} if task.modality == "speech" else {}
    model = task.model(tmp_path / "1.0", "1.0", changes)
    batch = task.batch(task.model(tmp_path / "2.0"))  # of the same sizes
    if frozen == "lora":
        model = with_adapter(model, "lora", {"r": 2, "init_lora_weights": False})
    else:
        freeze(model, model.base_model_prefix, frozen)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    expected, found = gradients(model, batch, False), gradients(model, batch, True)
    assert expected.keys() == found.keys() and len(expected) > (0 if frozen == "encoder" else 10)
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, atol=1e-6, rtol=1e-5, msg=key)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize(
    ("kind", "task"), [("speech 2.0", "audio-classification"), ("images 1.0", "image-classification")]
)
def test_an_adapter_is_trained_by_reentrant_checkpointing(kind, task, tmp_path):
    """`data2vec finetune --peft`: its weights are those that the other kind of checkpointing gives."""
    data = sounds(tmp_path / "data") if task.startswith("audio") else few_digits(tmp_path / "data")
    model = body(kind, tmp_path / "model")
    weights = []
    for options in ((), REENTRANT):
        out = tmp_path / f"out{len(weights)}"
        command = ["finetune", "--task", task, "--model", model, "--dataset", data, "--peft", "lora", *FAST]
        command += ["--max_steps", "2", *options, "--output_dir", out]
        assert data2vec_cli.main([str(word) for word in command]) == 0
        weights.append(load_file(out / "adapter_model.safetensors"))
    trained = [key for key in weights[0] if "lora_B" in key]
    assert trained and all(weights[1][key].abs().max() > 0 for key in trained)
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, atol=1e-5, rtol=1e-3, msg=key)
