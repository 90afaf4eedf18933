"""Heads of task models one by one: how they pool, read bands, weigh layers, and what does not count."""

import pytest
import torch
from task_models import TASKS, assert_same, tensors

LAYERED = ["classes of clips", "classes of frames", "voices"]


def test_clips_are_pooled_as_the_config_says(tmp_path):
    task = TASKS["classes of sounds"]
    model = task.model(tmp_path).eval()
    inputs = task.inputs(model)
    states = model.base_model(**inputs)
    assert torch.equal(model.classify(states.last_hidden_state[:, 0], None)[1], model(**inputs).logits)
    model.config.classifier_pooling = "mean"
    assert torch.equal(model.classify(states.pooler_output, None)[1], model(**inputs).logits)
    with pytest.raises(ValueError, match='classifier_pooling is "cls", but num_extra_tokens is 0.*"mean"'):
        task.model(tmp_path, num_extra_tokens=0, cls_loss_weight=0.0)


def test_a_head_of_frames_reads_every_band(tmp_path):
    """What happens in any band of a frame reaches that frame's logits, and in its own place."""
    task = TASKS["classes of moments"]
    model = task.model(tmp_path).eval()
    states = torch.randn(1, 19 * 4, model.config.hidden_size)
    before = model.classifier(model.frames(states))
    for band in range(4):
        changed = states.clone()
        changed[:, 5 * 4 + band] += 1.0
        moved = (model.classifier(model.frames(changed)) != before).any(-1)[0]
        assert moved.nonzero().flatten().tolist() == [5]


def test_letters_outside_the_vocabulary(tmp_path):
    model = TASKS["CTC"].model(tmp_path, vocab_size=6)
    with pytest.raises(ValueError, match="labels go up to 9, but vocab_size is 6"):
        model(torch.randn(1, 1600), labels=torch.tensor([[9]]))


@pytest.mark.parametrize("name", LAYERED)
def test_weighted_layers(name, tmp_path):
    model = TASKS[name].model(tmp_path, use_weighted_layer_sum=True)
    assert torch.equal(model.layer_weights, torch.full((3,), 1 / 3))
    batch = TASKS[name].batch(model)
    model(**batch).loss.backward()
    assert model.layer_weights.grad.abs().sum() > 0
    with torch.no_grad():
        model.layer_weights.copy_(torch.tensor([-1e4, -1e4, 0.0]))
        expected = TASKS[name].model(tmp_path).eval()
        expected.load_state_dict(model.state_dict(), strict=False)
        assert_same(tensors(model.eval()(**batch)), tensors(expected(**batch)), 1e-6)
    with pytest.raises(ValueError, match=r"layerdrop is 0.1, but use_weighted_layer_sum reads every layer.*to 0"):
        TASKS[name].model(tmp_path, use_weighted_layer_sum=True, layerdrop=0.1)


def test_clips_too_short_for_voices(tmp_path):
    model = TASKS["voices"].model(tmp_path)
    with pytest.raises(ValueError, match=r"a clip has 6 frames.*need at least 9: leave out"):
        model(torch.randn(2, 170 + 5 * 160))
    assert model(torch.randn(2, 170 + 8 * 160)).embeddings.isfinite().all()


def test_pixels_of_images_of_any_size(tmp_path):
    task = TASKS["classes of pixels"]
    model = task.model(tmp_path).eval()
    assert model.config.segmentation_layers == (1, 2, 3, 3)
    assert model(torch.randn(1, 1, 8, 12)).logits.shape == (1, 3, 16, 24)
    with pytest.raises(ValueError, match=r"at least 2 x 2 patches of 2 pixels"):
        model(torch.randn(1, 1, 2, 8))
    with pytest.raises(ValueError, match=r"at least 2 images.*dataloader_drop_last"):
        model.train()(torch.randn(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"layerdrop is 0.2, but Data2Vec2VisionForSemanticSegmentation"):
        task.model(tmp_path, layerdrop=0.2)


def test_ignored_pixels(tmp_path):
    task = TASKS["classes of pixels"]
    model = task.model(tmp_path).eval()
    batch = task.batch(model)
    other = batch | {"labels": batch["labels"].masked_fill(batch["labels"] < 0, 255)}
    assert torch.equal(model(**batch).loss, model(**other).loss)
    assert model.config.use_auxiliary_head and model.auxiliary_head is not None
    alone = task.model(tmp_path, use_auxiliary_head=False).eval()
    assert alone.auxiliary_head is None and alone(**batch).loss < model(**batch).loss


@pytest.mark.parametrize("outside", [-100, -1, 12, 500])
def test_answers_outside_the_tokens_do_not_count(outside, tmp_path):
    model = TASKS["answers"].model(tmp_path).eval()
    batch = TASKS["answers"].batch(model)
    fewer = {key: value[:3] for key, value in batch.items()}
    batch["start_positions"][3] = batch["end_positions"][3] = outside
    torch.testing.assert_close(model(**batch).loss, model(**fewer).loss, rtol=0, atol=1e-5)


def test_words_share_the_embeddings(tmp_path):
    model = TASKS["words under masks"].model(tmp_path)
    table = model.get_input_embeddings().weight
    assert model.lm_head.decoder.weight is table and model.lm_head.decoder.bias is model.lm_head.bias
    assert not model.lm_head.bias.any()
    model.resize_token_embeddings(70)
    assert model.lm_head.decoder.weight is model.get_input_embeddings().weight
    assert model(torch.full((1, 4), 69)).logits.shape == (1, 4, 70)
