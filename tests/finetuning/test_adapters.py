"""Adapters of several kinds on heads of several shapes: what is trained, merged and refused."""

import pytest
import torch
from task_models import TASKS

from modeling_data2vec.trainers.finetuning.adapters import head_modules, linear_layers, load_adapter, with_adapter


@pytest.mark.parametrize("name", ["CTC", "classes of images", "classes of texts"])
def test_encoder_frozen_head_trained(name, tmp_path):
    model = TASKS[name].model(tmp_path)
    heads = head_modules(model)
    adapted = with_adapter(model, "lora", {"r": 2})
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert all("lora_" in name or ".modules_to_save." in name for name in trained)
    assert all(any(f".{head}.modules_to_save." in name for name in trained) for head in heads)
    inside = {name for name in trained if "lora_" in name}
    assert inside and all(model.base_model_prefix in name for name in inside)


@pytest.mark.parametrize("adapter", ["lora", "ia3", "loha"])
def test_kinds_learn_and_merge_equal(adapter, tmp_path):
    model = TASKS["classes of texts"].model(tmp_path)
    inputs = TASKS["classes of texts"].batch(model)
    adapted = with_adapter(model, adapter)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    before = adapted.train()(**inputs).loss
    for _ in range(3):
        optimizer.zero_grad()
        adapted(**inputs).loss.backward()
        optimizer.step()
    assert adapted(**inputs).loss < before
    with torch.no_grad():
        expected = adapted.eval()(**inputs).logits
        merged = adapted.merge_and_unload()(**inputs).logits
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-5)


def test_layers_are_those_of_the_transformer(tmp_path):
    assert linear_layers(TASKS["classes of images"].model(tmp_path)) == ["fc1", "fc2", "proj", "qkv"]


@pytest.mark.parametrize(
    ("kind", "changes", "match"),
    [
        ("prompt_tuning", {}, "peft is 'prompt_tuning', but must be one of .*lora"),
        ("lora", {"rang": 4}, "--peft_config of lora: unknown key 'rang'"),
        ("lora", {"r": -1}, "peft refuses --peft lora"),
    ],
)
def test_what_can_not_be_adapted(kind, changes, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        with_adapter(TASKS["classes of images"].model(tmp_path), kind, changes)


def test_a_folder_without_an_adapter(tmp_path):
    TASKS["classes of images"].model(tmp_path)
    with pytest.raises(ValueError, match="holds no adapter .*--merge"):
        load_adapter(str(tmp_path))
