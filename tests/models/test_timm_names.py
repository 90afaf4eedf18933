"""timm's names of a model's parts give what the model itself gives."""

import pytest
import torch
from task_models import TASKS
from tiny_runs import KINDS, tiny_model, tiny_samples
from transformers import AutoModel


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("2.0")])
def test_features_are_the_encoders_states(kind, tmp_path):
    model = tiny_model(kind).eval()
    model.save_pretrained(tmp_path)
    sample = tiny_samples(model, 1)[0][model.main_input_name][None]
    with torch.no_grad():
        outputs = AutoModel.from_pretrained(tmp_path).eval()(sample)
        features = model.forward_features(sample)
    assert torch.equal(features, outputs.last_hidden_state) and features.shape[-1] == model.num_features == 16
    if kind.startswith("images"):
        assert torch.equal(model.base_model.forward_head(features), outputs.pooler_output)


def test_a_classifiers_head_ends_in_its_logits(tmp_path):
    task = TASKS["classes of images"]
    model = task.model(tmp_path).eval()
    pixels = task.inputs(model)["pixel_values"]
    with torch.no_grad():
        features = model.forward_features(pixels)
        assert torch.equal(model.forward_head(features), model(pixels).logits)
        assert model.forward_head(features, pre_logits=True).shape == (len(pixels), model.num_features)
