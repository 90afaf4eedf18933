"""What every pretraining model does: masks that are checked, files that load as saved, ways to compute the same."""

import copy

import pytest
import torch
from image_models import assert_equal_states, batch_for, moved
from tiny_runs import TINY, tiny_model, tiny_samples
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
from modeling_data2vec.trainers.modalities.names import mask_collator

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
