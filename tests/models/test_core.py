"""What every pretraining model does: a teacher that stays one, masks that are checked, files that load as saved."""

import copy

import pytest
import torch
from tiny_runs import JOINT, KINDS, TINY, tiny_joint_model, tiny_model, tiny_samples
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForPreTraining,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)
from transformers.utils import output_capturing

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining, Data2Vec2VisionModel
from modeling_data2vec.feature_encoder import alibi_bias
from modeling_data2vec.trainers import ImageMaskCollator
from modeling_data2vec.trainers.modalities.names import mask_collator

SCOPES = ("trunk", "encoder", "model")


def batch_for(config: Data2Vec2VisionConfig, size=(8, 8), num=3) -> dict[str, torch.Tensor]:
    images = torch.randn(num, config.num_channels, *size, generator=torch.Generator().manual_seed(1))
    return ImageMaskCollator(config)([{"pixel_values": image, "key": i} for i, image in enumerate(images)])


def moved(model: Data2Vec2VisionForPreTraining) -> Data2Vec2VisionForPreTraining:
    """The same model with a student that has left its teacher behind."""
    with torch.no_grad():
        for parameter in model.base_model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def assert_equal_states(a: torch.nn.Module, b: torch.nn.Module) -> None:
    a_states, b_states = a.state_dict(), b.state_dict()
    assert a_states.keys() == b_states.keys()
    for name, value in a_states.items():
        assert value.dtype == b_states[name].dtype and torch.equal(value, b_states[name]), name


# ---- the teacher ----


@pytest.mark.parametrize("scope", SCOPES)
def test_teacher_scope_says_what_the_teacher_has_of_its_own(scope):
    model = tiny_model(teacher_scope=scope)
    parts = {name.split(".")[0] for name, _ in model.teacher.named_parameters()}
    assert parts == ({"trunk"} if scope == "trunk" else {"trunk", "feature_encoder"})
    embeds = {name for name, _ in model.teacher.named_parameters() if "patch_embed" in name}
    assert bool(embeds) == (scope == "model")
    students = dict(model.base_model.named_parameters())
    for name, parameter in model.teacher.named_parameters():
        assert torch.equal(parameter, students[name])

    loss = model(**batch_for(model.config)).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(parameter.grad is not None for parameter in model.base_model.parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())


@pytest.mark.parametrize("scope", SCOPES)
def test_targets_come_from_what_the_scope_covers(scope):
    """Moving the student's patch embedding changes the targets unless the teacher has its own."""
    model = tiny_model(teacher_scope=scope)
    batch = batch_for(model.config)
    before = model(**batch).targets
    with torch.no_grad():
        model.base_model.feature_encoder.patch_embed.weight.mul_(-1)
    assert torch.equal(model(**batch).targets, before) == (scope == "model")


def test_teacher_stays_in_eval_mode():
    model = tiny_model(hidden_dropout=0.5)
    model.train()
    assert model.base_model.training and not any(module.training for module in model.teacher.modules())
    batch = batch_for(model.config)
    assert torch.equal(model(**batch).targets, model(**batch).targets)


def test_state_dict_has_three_parts():
    model = tiny_model()
    assert {name.split(".")[0] for name in model.state_dict()} == {"data2vec2_vision", "teacher", "head"}
    students = {f"teacher.{name}" for name in model.base_model.state_dict()}
    assert {name for name in model.state_dict() if name.startswith("teacher.")} == students


def test_teacher_is_loaded_frozen_and_in_full_precision(tmp_path):
    model = moved(tiny_model())
    model.save_pretrained(tmp_path)
    loaded = Data2Vec2VisionForPreTraining.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert all(parameter.dtype == torch.float32 for parameter in loaded.teacher.parameters())
    assert {parameter.dtype for parameter in loaded.base_model.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in loaded.teacher.parameters())
    assert all(parameter.requires_grad for parameter in loaded.base_model.parameters())
    assert not any(module.training for module in loaded.teacher.modules())
    assert_equal_states(loaded.teacher, model.teacher)
    batch = batch_for(model.config)
    output = loaded(**batch)
    assert output.targets.dtype == torch.float32
    expected = model.eval()(**batch)
    assert float(output.loss.detach()) == pytest.approx(float(expected.loss.detach()), rel=0.05)


CONVERSIONS = {
    "to": lambda model: model.to(torch.bfloat16),
    "to a device and dtype": lambda model: model.to("cpu", torch.float16),
    "bfloat16": lambda model: model.bfloat16(),
    "half": lambda model: model.half(),
    "double": lambda model: model.double(),
    "a copy, twice": lambda model: copy.deepcopy(model.half()).bfloat16(),
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("kind", [*KINDS, JOINT])
def test_the_teacher_of_a_converted_model_still_moves(kind, conversion):
    """An average in half precision stands still: most of its steps are below the weights' rounding."""
    model = tiny_joint_model() if kind == JOINT else tiny_model(kind)
    model.config.ema_decay = model.config.ema_end_decay = 0.999
    exact = {name: value.clone() for name, value in model.teacher.named_parameters()}
    model = CONVERSIONS[conversion](model)
    assert {weight.dtype for weight in model.base_model.parameters()} != {torch.float32}
    for name, value in model.teacher.named_parameters():
        assert value.dtype == (torch.float64 if conversion == "double" else torch.float32), name
        assert torch.equal(value, exact[name].to(value.dtype)), name  # not rounded on the way either
    with torch.no_grad():
        for weight in model.base_model.parameters():
            weight.copy_(weight + 1)
    students = dict(model.base_model.named_parameters())
    for step in range(100):
        model.update_teacher(step + 1)
    for name, value in model.teacher.named_parameters():
        if students[name].requires_grad and not name.startswith(model.copied_into_teacher):
            moved = (value - exact[name]) / (students[name].to(value.dtype) - exact[name])
            torch.testing.assert_close(moved, torch.full_like(moved, 1 - 0.999**100), rtol=1e-3, atol=0, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    ("kind", "scope"),
    [(kind, scope) for kind in KINDS for scope in (SCOPES if kind.endswith("2.0") else ("layers", "model"))],
)
def test_a_converted_model_computes_the_same_loss(kind, scope, dtype, monkeypatch):
    # oneDNN's bf16 kernels for processors with AMX change the loss of 1.0's speech by 16%.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", dtype == torch.float64)
    model = tiny_model(kind, teacher_scope=scope)
    batch = mask_collator(model.config)([tiny_samples(model, 3)[i] for i in range(3)])
    expected = float(model(**batch).loss.detach())
    model = model.to(dtype)
    output = model(**batch)
    output.loss.backward()
    assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-5 if dtype == torch.float64 else 0.1)
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_a_teacher_on_no_device_is_made_in_full_precision():
    with torch.device("meta"):
        model = tiny_model()
    model = model.half().to_empty(device="cpu")
    assert {weight.dtype for weight in model.base_model.parameters()} == {torch.float16}
    assert {weight.dtype for weight in model.teacher.parameters()} == {torch.float32}


def test_checkpoint_without_a_teacher_starts_one_from_the_student(tmp_path, caplog):
    model = moved(tiny_model())
    model.base_model.save_pretrained(tmp_path)
    loaded, info = Data2Vec2VisionForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert "has no teacher" in caplog.text and "copy of the student" in caplog.text
    assert any(key.startswith("teacher.") for key in info["missing_keys"])
    assert_equal_states(loaded.base_model, model.base_model)
    assert_equal_states(loaded.teacher.trunk, model.base_model.trunk)
    assert_equal_states(loaded.teacher.feature_encoder, model.base_model.feature_encoder)
    assert not any(parameter.requires_grad for parameter in loaded.teacher.parameters())


# ---- loading and saving ----


def test_models_load_as_saved_through_the_auto_classes(tmp_path, caplog):
    model = moved(tiny_model())
    model.save_pretrained(tmp_path)
    ViTImageProcessorPil(
        size={"height": 8, "width": 8}, image_mean=[0.3], image_std=[0.35], do_convert_rgb=False
    ).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is Data2Vec2VisionConfig
    assert {name: getattr(config, name) for name in TINY} == TINY

    whole = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert type(whole) is Data2Vec2VisionForPreTraining
    assert_equal_states(whole, model)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert type(encoder) is Data2Vec2VisionModel
    assert_equal_states(encoder, model.base_model)
    assert not caplog.records  # teacher and decoder are left out in silence

    batch = batch_for(config)
    assert torch.equal(whole.eval()(**batch).loss, model.eval()(**batch).loss)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert tuple(processor.image_mean) == (0.3,) and dict(processor.size) == {"height": 8, "width": 8}


@pytest.fixture
def vit_folder(tmp_path):
    """A checkpoint of another model that our config's fields would accept."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 10, "num_attention_heads": 4, "intermediate_size": 32}
    ViTModel(ViTConfig(**sizes, image_size=8, patch_size=2, num_channels=1)).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("cls", [Data2Vec2VisionForPreTraining, Data2Vec2VisionModel])
def test_a_checkpoint_of_another_model_type_is_an_error(vit_folder, cls):
    """transformers would only warn, and leave every weight random."""
    with pytest.raises(ValueError, match="'vit'.*'data2vec2-vision'.*Auto"):
        cls.from_pretrained(vit_folder)


def test_a_checkpoint_without_one_of_our_weights_is_an_error(vit_folder):
    with pytest.raises(ValueError, match="no weight of a Data2Vec2VisionForPreTraining.*another model"):
        Data2Vec2VisionForPreTraining.from_pretrained(vit_folder, config=tiny_model().config)


# ---- masks ----


def test_ids_keep_by_default_is_what_the_mask_leaves():
    model = tiny_model().eval()
    batch = batch_for(model.config)
    without = {name: value for name, value in batch.items() if name != "ids_keep"}
    assert torch.equal(model(**batch).loss, model(**without).loss)


def bad_masks(mask: torch.Tensor) -> dict[str, torch.Tensor]:
    unequal = mask.clone()
    unequal[0, 0] = True
    unequal[0, 0, :3] = False
    return {
        r"mask has shape \(3, 2, 15\).*3 samples of 16 positions.*grid \(4, 4\).*\[3, masks, 16\]": mask[:, :, 1:],
        r"mask has shape \(2, 2, 16\)": mask[1:],
        r"mask has shape \(3, 16\)": mask[:, 0],
        "between 3 and 6 positions visible.*equally many.*exact_count": unequal,
        "nothing visible.*mask_prob": torch.ones_like(mask),
        "hides nothing.*mask_prob": torch.zeros_like(mask),
    }


@pytest.mark.parametrize("which", range(6))
def test_each_bad_mask_has_its_own_error(which):
    model = tiny_model()
    batch = batch_for(model.config)
    message, mask = list(bad_masks(batch["mask"]).items())[which]
    with pytest.raises(ValueError, match=message):
        model(batch["pixel_values"], mask)


@pytest.mark.parametrize("wrong", [lambda ids: ids[:, :1], lambda ids: ids[1:], lambda ids: ids[:, :, :0]])
def test_ids_keep_that_do_not_fit_the_mask_are_an_error(wrong):
    model = tiny_model()
    batch = batch_for(model.config)
    with pytest.raises(ValueError, match=r"ids_keep has shape.*\[3, 2, visible\] with 1 to 15"):
        model(batch["pixel_values"], batch["mask"], wrong(batch["ids_keep"]))


def test_noise_keys_make_a_sample_independent_of_its_batch():
    model = moved(tiny_model()).eval()
    batch = batch_for(model.config, num=4)
    whole, again = model(**batch), model(**batch)
    assert torch.equal(whole.loss, again.loss)
    losses = []
    for i in range(4):
        alone = model(**{name: value[i : i + 1] for name, value in batch.items()})
        torch.testing.assert_close(alone.predictions[0], whole.predictions[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.targets[0], whole.targets[i], atol=1e-5, rtol=0)
        losses.append(alone.loss)
    torch.testing.assert_close(torch.stack(losses).mean(), whole.loss, atol=1e-5, rtol=1e-5)


def test_without_noise_keys_the_noise_follows_the_global_seed():
    model = tiny_model().eval()
    batch = batch_for(model.config)
    del batch["noise_keys"]
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(float(model(**batch).loss.detach()))
    assert losses[0] == losses[1] != losses[2]


def test_the_student_never_sees_hidden_pixels():
    model = moved(tiny_model()).eval()
    batch = batch_for(model.config)
    hidden = batch["mask"].all(1)  # [B, T], hidden in every mask
    assert hidden.any()
    pixels = hidden.view(3, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    changed = batch | {"pixel_values": batch["pixel_values"] + 5.0 * pixels}
    before, after = model(**batch), model(**changed)
    assert torch.equal(before.predictions, after.predictions)
    assert not torch.equal(before.targets, after.targets)


def test_loss_can_be_left_out():
    model = tiny_model()
    output = model(**batch_for(model.config), return_loss=False)
    assert output.loss is None and output.predictions.shape == (3, 2, 16, 16)


# ---- ways to compute the same ----


def test_attention_implementations_agree():
    model = moved(tiny_model()).eval()
    batch = batch_for(model.config)
    losses, attentions = {}, {}
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        losses[name] = float(model(**batch).loss.detach())
        attentions[name] = model.base_model(batch["pixel_values"]).last_hidden_state
    assert losses["sdpa"] == pytest.approx(losses["eager"], rel=1e-5)
    torch.testing.assert_close(attentions["sdpa"], attentions["eager"], atol=1e-5, rtol=0)
    model.set_attn_implementation("eager")
    weights = model.base_model(batch["pixel_values"], output_attentions=True).attentions
    assert [tuple(weight.shape) for weight in weights] == [(3, 2, 17, 17)] * 3
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(3, 2, 17))


@pytest.mark.slow
def test_flex_attention_agrees():
    """It is compiled, which takes a minute; on a CPU it only runs without gradients."""
    sizes = {"hidden_size": 64, "intermediate_size": 64, "decoder_dim": 64, "image_size": 16}
    model = tiny_model(**sizes).eval()
    pixels = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected = model.base_model(pixels).last_hidden_state
        model.set_attn_implementation("flex_attention")
        torch.testing.assert_close(model.base_model(pixels).last_hidden_state, expected, atol=1e-5, rtol=0)


def test_encoder_can_be_exported():
    model = tiny_model().base_model.eval()
    images = torch.randn(2, 1, 8, 8)
    exported = torch.export.export(model, (images,), strict=False).module()
    torch.testing.assert_close(exported(images).last_hidden_state, model(images).last_hidden_state)


@pytest.mark.parametrize("dims", [1, 2])
def test_distances_of_patches_in_the_grid_or_in_their_sequence(dims):
    model = tiny_model(use_alibi=True, alibi_dims=dims, num_extra_tokens=0, cls_loss_weight=0.0).eval()
    encoder = model.base_model.feature_encoder
    embedding = encoder.embed(torch.randn(2, 1, 8, 12))
    _, masks = encoder.arrange(embedding)
    places = torch.arange(24)
    cells = torch.stack([places // 6, places % 6], dim=1)
    expected = alibi_bias(places[:, None] if dims == 1 else cells, 2)
    torch.testing.assert_close(masks[0][0], expected)
    ids_keep = torch.tensor([[[20, 3, 7]], [[1, 0, 23]]])
    _, masks = encoder.arrange(embedding, torch.ones(2, 1, 24, dtype=torch.bool), ids_keep)
    for row, ids in enumerate(ids_keep[:, 0]):
        torch.testing.assert_close(masks[0][row], expected[:, ids][:, :, ids])


# ---- sizes and channels ----


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (10, 6)], ids=str)
def test_any_size_and_number_of_channels_trains(channels, size):
    model = tiny_model(num_channels=channels)
    batch = batch_for(model.config, size)
    output = model(**batch)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    tokens = size[0] * size[1] // 4
    assert output.targets.shape == (3, tokens, 16)
    encoded = model.base_model(batch["pixel_values"])
    assert encoded.last_hidden_state.shape == (3, tokens + 1, 16)
    torch.testing.assert_close(encoded.pooler_output, encoded.last_hidden_state[:, 1:].mean(1))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 1, 8), r"1 x 8 pixels are smaller than one patch of 2 x 2.*resize"),
        ((1, 1, 8, 7), r"8 x 7 pixels can't be cut into patches of 2 x 2.*multiples of 2"),
        ((1, 3, 8, 8), r"\(1, 3, 8, 8\).*\[batch, 1, height, width\].*convert.*num_channels"),
        ((1, 8, 8), r"\(1, 8, 8\).*\[batch, 1, height, width\]"),
    ],
    ids=["too small", "indivisible", "channels", "no batch"],
)
def test_each_bad_image_has_its_own_error(shape, message):
    with pytest.raises(ValueError, match=message):
        tiny_model().base_model(torch.zeros(shape))


def test_hidden_states_of_every_layer():
    model = tiny_model().base_model.eval()
    output = model(torch.randn(2, 1, 8, 8), output_hidden_states=True)
    assert len(output.hidden_states) >= TINY["num_hidden_layers"] + TINY["num_prenet_layers"]
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)


@pytest.mark.skipif(not hasattr(output_capturing, "selected_hidden_states"), reason="came with transformers 5.23")
def test_hidden_states_by_number_count_the_prenet():
    model, images = tiny_model().base_model.eval(), torch.randn(2, 1, 8, 8)
    every = model(images, output_hidden_states=True).hidden_states
    some = model(images, output_hidden_states=[1, -1]).hidden_states
    assert [number for number, states in enumerate(some) if states is not None] == [1, len(every) - 1]
    assert torch.equal(some[1], every[1]) and torch.equal(some[-1], every[-1])


@pytest.mark.parametrize("kind", ["speech 1.0", "text 1.0"])
def test_a_head_at_hidden_positions_gives_the_same_loss_and_gradients(kind):
    model = tiny_model(kind).train()

    class Own(type(model)):
        def build_terms(self, config):
            return super().build_terms(config)

    whole = copy.deepcopy(model)
    whole.__class__ = Own
    batch = mask_collator(model.config)([tiny_samples(model, 2)[i] for i in range(2)])
    few, all_of_them = model(**batch), whole(**batch)
    mask = batch["mask"]
    torch.testing.assert_close(few.predictions[mask], all_of_them.predictions[mask], rtol=1e-5, atol=1e-5)
    assert few.predictions[~mask].eq(0).all() and all_of_them.predictions[~mask].ne(0).any()
    torch.testing.assert_close(few.loss, all_of_them.loss, rtol=1e-6, atol=0)
    few.loss.backward()
    all_of_them.loss.backward()
    for (name, weight), other in zip(model.named_parameters(), whole.parameters(), strict=True):
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
