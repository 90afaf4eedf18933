"""Layer-wise learning rates: how deep each weight lies in the models of both versions, and the groups made of it."""

import pytest
import torch
from tiny_runs import tiny_model

from modeling_data2vec.trainers.finetuning.freezing import freeze
from modeling_data2vec.trainers.finetuning.layer_decay import layer_depths, parameter_groups


def head_on(kind: str) -> torch.nn.Module:
    """A body with a linear head beside it, under the names that task models have."""
    pretraining = tiny_model(kind)
    model = torch.nn.Module()
    model.add_module(pretraining.base_model_prefix, pretraining.base_model)
    model.classifier = torch.nn.Linear(16, 3)
    model.encoder_name = pretraining.base_model_prefix
    return model


EXPECTED = {  # parts of names and the depth that weights with them have; 2 layers, images 2.0 one more in the prenet
    "images 2.0": {"patch_embed": 0, "extra_tokens": 0, "prenet.0.": 1, "trunk.layers.0.": 2, "trunk.layers.1.": 3},
    "speech 2.0": {"convs.": 0, "position_convs.": 0, "feature_projection": 0, "trunk.layers.0.": 1, "alibi_scale": 3},
    "text 2.0": {"embed_tokens": 0, "embed_positions": 0, "trunk.layers.0.": 1, "trunk.layers.1.": 2},
    "images 1.0": {"embeddings.": 0, "encoder.layer.0.": 1, "encoder.layer.1.": 2, "relative_position_bias_table": 3},
    "speech 1.0": {"conv_layers.": 0, "pos_conv_embed.": 0, "encoder.layers.0.": 1, "encoder.layers.1.": 2},
    "text 1.0": {"embeddings.": 0, "encoder.layer.0.": 1, "encoder.layer.1.": 2},
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_depths_of_all_models(kind):
    model = head_on(kind)
    depths = layer_depths((name for name, _ in model.named_parameters()), model.encoder_name)
    last = 4 if kind == "images 2.0" else 3
    assert depths["classifier.weight"] == last and set(depths.values()) == set(range(last + 1))
    for part, depth in EXPECTED[kind].items():
        found = {depths[name] for name in depths if part in name and "encoder.layer" in name} or {
            depths[name] for name in depths if part in name
        }
        assert found == {depth}, part


def test_groups_have_rates_by_depth_and_hold_each_weight_once():
    model = head_on("text 2.0")
    names = [name for name, _ in model.named_parameters()]
    decayed = [name for name in names if name.endswith("weight")]
    groups = parameter_groups(
        model, model.encoder_name, learning_rate=1.0, layer_decay=0.5, weight_decay=0.1, decayed=decayed
    )
    assert sorted({group["lr"] for group in groups}) == [0.125, 0.25, 0.5, 1.0]
    assert groups[0]["lr"] == 1.0  # the head's, which logs show
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    rate_of = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert rate_of[id(named["classifier.bias"])] == (1.0, 0.0)
    assert rate_of[id(named["data2vec2_text.trunk.layers.0.mlp.fc1.weight"])] == (0.25, 0.1)
    assert rate_of[id(named["data2vec2_text.feature_encoder.embed_tokens.weight"])] == (0.125, 0.1)
    full = parameter_groups(
        model,
        *(model.encoder_name,),
        learning_rate=1.0,
        layer_decay=0.5,
        weight_decay=0.1,
        decayed=decayed,
        decay_feature_encoder=False,
    )
    assert sorted({group["lr"] for group in full}) == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("what", "frozen", "trained"),
    [
        ("feature_encoder", ["patch_embed", "extra_tokens"], ["prenet.0", "trunk", "classifier"]),
        ("2", ["patch_embed", "prenet.0", "trunk.layers.0"], ["trunk.layers.1", "classifier"]),
        ("encoder", ["patch_embed", "prenet.0", "trunk.layers.1"], ["classifier"]),
    ],
)
def test_parts_are_frozen(what, frozen, trained):
    model = head_on("images 2.0")
    freeze(model, model.encoder_name, what)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad or not any(part in name for part in trained), name
        assert not parameter.requires_grad or not any(part in name for part in frozen), name
