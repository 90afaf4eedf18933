"""Masks of time and channels in the fine-tuning of waveforms and spectrograms: how much they hide, and where."""

import pytest
import torch
from tiny_runs import tiny_model
from transformers import AutoModelForCTC

from modeling_data2vec.spec_augment import spec_augment

KEYS = torch.arange(64, dtype=torch.int32)


def test_frames_are_hidden_in_spans_and_channels_in_all_frames():
    ones = torch.ones(64, 100, 40)
    frames = spec_augment(ones, keys=KEYS, mask_time_prob=0.5, mask_time_length=10)
    hidden = frames[:, :, 0] == 0
    assert torch.equal(frames == 0, hidden[..., None].expand_as(frames))
    assert 0.3 < hidden.float().mean() < 0.5  # spans overlap: 1 - (1 - 10 / 90) ** 5 is .44
    edges = (hidden.int().diff(dim=1) != 0).sum(1)
    assert edges.max() <= 2 * 6  # at most six spans
    channels = spec_augment(ones, keys=KEYS, mask_feature_prob=0.5, mask_feature_length=4)
    assert torch.equal(channels[:, :1].expand_as(channels), channels)
    assert 0.3 < (channels[:, 0] == 0).float().mean() < 0.5


def test_nothing_is_hidden_by_default_and_equal_keys_hide_the_same():
    frames = torch.randn(64, 50, 8)
    assert spec_augment(frames, keys=KEYS) is frames
    settings = {"mask_time_prob": 0.5, "mask_time_length": 5, "mask_feature_prob": 0.3, "mask_feature_length": 2}
    assert torch.equal(spec_augment(frames, keys=KEYS, **settings), spec_augment(frames, keys=KEYS, **settings))
    assert not torch.equal(
        spec_augment(frames, keys=KEYS, **settings), spec_augment(frames, keys=KEYS + 64, **settings)
    )


def test_spans_lie_within_the_clip_and_short_clips_stay_whole():
    valid = torch.arange(30) < torch.tensor([[30], [12], [4]])
    hidden = (
        spec_augment(torch.ones(3, 30, 2), valid, keys=KEYS[:3], mask_time_prob=0.5, mask_time_length=6)[..., 0] == 0
    )
    assert hidden[0].any() and hidden[1].any()
    assert not (hidden & ~valid).any() and not hidden[2].any()


INPUTS = {"speech 2.0": torch.randn(2, 3200), "spectrograms 2.0": torch.randn(2, 40, 16)}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", ["mask_time_prob", "mask_feature_prob"])
def test_models_mask_in_training_alone(kind, name, tmp_path):
    tiny_model(kind).save_pretrained(tmp_path)
    settings = {name: 0.5, "mask_time_length": 2, "mask_feature_length": 4}
    model = AutoModelForCTC.from_pretrained(tmp_path, vocab_size=6, **settings)
    inputs = INPUTS[kind]
    with torch.no_grad():
        trained = [model.train()(inputs).logits for _ in range(2)]
        plain = [model.eval()(inputs).logits for _ in range(2)]
        torch.manual_seed(3)
        first = model.train()(inputs).logits
        torch.manual_seed(3)
        again = model(inputs).logits
    assert not torch.equal(*trained) and torch.equal(*plain)
    assert torch.equal(first, again)  # as a resumed run needs it


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("teacher_scope", ["trunk", "model"])
def test_pretraining_does_not_mask_twice(kind, teacher_scope):
    inputs = INPUTS[kind][:1]
    length = tiny_model(kind).base_model.feature_encoder.num_positions(inputs.shape[1])
    mask = torch.zeros(1, 2, length, dtype=torch.bool)
    mask[:, :, 3:6] = True
    losses = [
        tiny_model(kind, mask_time_prob=share, mask_time_length=2, teacher_scope=teacher_scope)
        .train()(inputs, mask=mask, noise_keys=torch.zeros(1, 2, dtype=torch.int32))
        .loss
        for share in (0.0, 0.5)
    ]
    assert torch.equal(*losses)


def test_all_bands_of_a_moment_are_hidden_and_positions_stay():
    encoder = tiny_model("spectrograms 2.0", mask_time_prob=0.5, mask_time_length=2).base_model.feature_encoder
    bands = encoder.config.num_bands
    mask = (torch.arange(40) < torch.tensor([[40], [24]])).long()
    embedding = encoder.embed(INPUTS["spectrograms 2.0"], mask)
    positions = encoder.positions(embedding.grid, embedding.tokens)
    hidden = (encoder.augmented(embedding).tokens == positions).all(-1).unflatten(1, (-1, bands))  # [B, time, bands]
    real = embedding.valid.unflatten(1, (-1, bands))
    assert bands > 1 and hidden[0].any() and hidden[1].any() and not hidden.all(1).any()
    assert torch.equal(hidden.any(-1), hidden.all(-1)) and not (hidden & ~real).any()


def test_padding_changes_nothing_of_what_is_hidden():
    frames, valid = torch.randn(2, 30, 8), torch.arange(30) < torch.tensor([[30], [17]])
    settings = {"mask_time_prob": 0.5, "mask_time_length": 3, "mask_feature_prob": 0.5, "mask_feature_length": 2}
    padded = spec_augment(frames, valid, keys=KEYS[:2], **settings)
    alone = spec_augment(frames[1:, :17], keys=KEYS[1:2], **settings)
    assert torch.equal(padded[1:, :17], alone)
