"""examples/objectives at tiny size: each trains and lowers its loss on real data; what each promises, by hand."""

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_data2vec import (
    Data2Vec2TextConfig,
    Data2Vec2TextForPreTraining,
    Data2Vec2VisionConfig,
    Data2Vec2VisionForPreTraining,
    Data2Vec2VisionModel,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    mask_collator,
)
from modeling_data2vec.objective import Views
from modeling_data2vec.trainers.modalities.image import digits

FOLDER = Path(__file__).parents[2] / "examples" / "objectives"
TINY = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64, "decoder_dim": 32}
TINY |= {"decoder_layers": 1, "average_top_k_layers": 2, "num_masks": 2, "mask_prob": 0.5, "mask_length": 1}
TINY |= {"teacher_scope": "model", "ema_decay": 0.9, "ema_end_decay": 0.99, "ema_anneal_end_step": 3}
IMAGES = {"image_size": 8, "patch_size": 2, "num_channels": 1, "num_prenet_layers": 0, "cls_loss_weight": 0.0}
MIXINS = {
    "separate_layers": "SeparateLayers",
    "visible_loss": "VisibleLoss",
    "cross_attention": "CrossAttention",
    "rope": "Rotary",
    "qk_norm": "QKNorm",
}


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture(scope="module")
def images():
    pixels = [torch.from_numpy(np.array(image, dtype=np.float32)) for image in digits().select(range(64))["image"]]
    return [{"pixel_values": one[None] / 128 - 0.5} for one in pixels]


def vision_config(**changes):
    return Data2Vec2VisionConfig(**TINY | IMAGES | changes)


def changed(mixin, base=Data2Vec2VisionForPreTraining):
    return type("Changed", (mixin, base), {})


def trained(model, images, folder, optimizer=None, steps=3) -> list[float]:
    """Losses of each step, by the trainer."""
    sizes = {"max_steps": steps, "per_device_train_batch_size": 8, "logging_steps": 1, "save_strategy": "no"}
    args = Data2VecTrainingArguments(str(folder), learning_rate=1e-2, report_to=[], use_cpu=True, seed=0, **sizes)
    collator = mask_collator(model.config)
    trainer = Data2VecTrainer(model, args, collator, train_dataset=images, optimizers=(optimizer, None))
    trainer.train()
    return [entry["regression_loss"] for entry in trainer.state.log_history if "regression_loss" in entry]


@pytest.mark.parametrize("name", MIXINS)
def test_it_trains(name, load, images, tmp_path):
    model_class = changed(getattr(load(name), MIXINS[name]))
    torch.manual_seed(0)
    losses = trained(model_class(vision_config()), images, tmp_path)
    assert len(losses) == 3 and losses[2] < losses[0]


@pytest.mark.parametrize("name", MIXINS)
def test_it_takes_tokens_too(name, load):
    model_class = changed(getattr(load(name), MIXINS[name]), Data2Vec2TextForPreTraining)
    config = Data2Vec2TextConfig(vocab_size=300, max_position_embeddings=16, position_embeddings=False, **TINY)
    torch.manual_seed(0)
    loss = model_class(config)(torch.randint(4, 300, (3, 16))).loss
    loss.backward()
    assert loss.isfinite()


def test_visible_positions_far_from_hidden_ones_count_less(load):
    """One hidden corner of 3 x 3 positions; the loss by hand."""
    generator = torch.Generator().manual_seed(0)
    predictions, targets = torch.randn(1, 1, 9, 4, generator=generator), torch.randn(1, 9, 4, generator=generator)
    mask = torch.zeros(1, 1, 9, dtype=torch.bool)
    mask[..., 0] = True
    views = Views(predictions, targets, mask, *[torch.zeros(())] * 3, None, None)
    weights = [(row**2 + column**2) ** -0.25 for row, column in (divmod(i, 3) for i in range(1, 9))]
    losses = (predictions[0, 0] - targets[0]).square().sum(-1) / 2  # 1/sqrt(D)
    expected = sum(weight * loss for weight, loss in zip(weights, losses[1:], strict=True)) / sum(weights)
    torch.testing.assert_close(load("visible_loss").visible_loss(views, columns=3), expected)


def test_layers_are_predicted_side_by_side(load):
    """Each normalised as the only one: K targets of K = 1."""
    targets = load("separate_layers").SideBySide(2, instance_norm_target_layer=True, layer_norm_targets=True)
    layers = [torch.randn(1, 5, 3) for _ in range(4)]
    alone = load("separate_layers").Targets(1, instance_norm_target_layer=True, layer_norm_targets=True)
    torch.testing.assert_close(targets(layers), torch.cat([alone([layers[1]]), alone([layers[3]])], dim=-1))


def test_a_frozen_teacher_never_moves(load, images, tmp_path):
    earlier = Data2Vec2VisionForPreTraining(vision_config())
    model = load("frozen_teacher").with_frozen_teacher(Data2Vec2VisionForPreTraining(vision_config()), earlier)
    trained(model, images, tmp_path)
    for (name, weight), before in zip(model.teacher.named_parameters(), earlier.teacher.parameters(), strict=True):
        assert torch.equal(weight, before), name
    with pytest.raises(ValueError, match="teacher_scope"):
        student = Data2Vec2VisionForPreTraining(vision_config(teacher_scope="encoder"))
        load("frozen_teacher").with_frozen_teacher(student, earlier)


def test_half_of_what_is_hidden_is_asked_and_counts(load, images):
    model = changed(load("cross_attention").CrossAttention)(vision_config()).train()
    batch = mask_collator(model.config)([one | {"key": key} for key, one in enumerate(images[:4])])
    output = model(**batch)
    assert (output.mask.sum(-1) == batch["mask"].sum(-1) // 2).all() and not (output.mask & ~batch["mask"]).any()
    assert output.predictions[~output.mask].eq(0).all() and output.predictions[output.mask].ne(0).all()
    assert torch.equal(model.eval()(**batch).mask, batch["mask"])


def test_rotary_positions_are_relative(load):
    """Logits of queries and keys depend on the difference of their places alone."""
    rope = load("rope")
    frequencies = rope.BASE ** -(torch.arange(4) / 4)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def logit(at: float, other: float) -> torch.Tensor:
        turned = [rope.rotated(x, (place * frequencies).view(1, 1, 1, 4)) for x, place in ((query, at), (key, other))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(logit(7, 2), logit(15, 10))
    assert not torch.isclose(logit(7, 2), logit(7, 3))


def test_rotary_features_don_t_depend_on_padding(load):
    model_class = changed(load("rope").Rotary, Data2Vec2TextForPreTraining)
    config = Data2Vec2TextConfig(vocab_size=300, max_position_embeddings=16, position_embeddings=False, **TINY)
    encoder, tokens = model_class(config).base_model.eval(), torch.randint(4, 300, (1, 9))
    padded, mask = torch.nn.functional.pad(tokens, (0, 4), value=1), torch.arange(13)[None] < 9
    states = encoder(padded, mask, output_hidden_states=True).last_hidden_state[:, :9]
    torch.testing.assert_close(encoder(tokens).last_hidden_state, states)


def test_scaled_queries_and_keys_change_nothing(load):
    model = changed(load("qk_norm").QKNorm)(vision_config()).eval()
    encoder, pixels = model.base_model, torch.randn(2, 1, 8, 8)
    before = encoder(pixels).last_hidden_state
    for layer in encoder.trunk.layers:
        layer.attention.qkv.weight.data[: 2 * TINY["hidden_size"]] *= 7
    torch.testing.assert_close(encoder(pixels).last_hidden_state, before)


def test_muon_trains_and_goes_on_as_if_nothing_had_happened(load, images, tmp_path):
    muon = load("muon")
    torch.manual_seed(0)
    model = Data2Vec2VisionForPreTraining(vision_config())
    optimizer = muon.MuonAndAdamW(model, 1e-2, 0.01)
    assert trained(model, images, tmp_path, optimizer)[2] > 0
    matrices, rest = optimizer.parts
    assert all(weight.ndim == 2 for group in matrices.param_groups for weight in group["params"])
    assert all(group["lr"] == 0 for group in optimizer.parts[0].param_groups + rest.param_groups)  # the schedule's end
    other = muon.MuonAndAdamW(model, 1.0)
    other.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in other.param_groups] == [0, 0, 0]
    buffers = [optimizer.parts[0].state, other.parts[0].state]
    for weight, state in buffers[0].items():
        assert torch.equal(state["momentum_buffer"], buffers[1][weight]["momentum_buffer"])


def test_a_plain_encoder_reads_the_weights(load, tmp_path):
    """Of those that change the objective alone."""
    for name in ("separate_layers", "visible_loss", "cross_attention"):
        model = changed(getattr(load(name), MIXINS[name]))(vision_config()).eval()
        model.save_pretrained(tmp_path / name)
        plain, pixels = Data2Vec2VisionModel.from_pretrained(tmp_path / name).eval(), torch.randn(2, 1, 8, 8)
        torch.testing.assert_close(plain(pixels).pooler_output, model.base_model(pixels).pooler_output)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_it_is_short_and_names_its_source(file):
    text = file.read_text()
    assert "arXiv 2" in ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 90
