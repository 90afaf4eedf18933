"""Masks of time and channels in the fine-tuning of speech: how much they hide, and where."""

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


@pytest.mark.parametrize("name", ["mask_time_prob", "mask_feature_prob"])
def test_models_mask_in_training_alone(name, tmp_path):
    tiny_model("speech 2.0").save_pretrained(tmp_path)
    settings = {name: 0.5, "mask_time_length": 2, "mask_feature_length": 4}
    model = AutoModelForCTC.from_pretrained(tmp_path, vocab_size=6, **settings)
    waves = torch.randn(2, 3200)
    with torch.no_grad():
        trained = [model.train()(waves).logits for _ in range(2)]
        plain = [model.eval()(waves).logits for _ in range(2)]
        torch.manual_seed(3)
        first = model.train()(waves).logits
        torch.manual_seed(3)
        again = model(waves).logits
    assert not torch.equal(*trained) and torch.equal(*plain)
    assert torch.equal(first, again)  # as a resumed run needs it


def test_pretraining_does_not_mask_twice():
    mask = torch.zeros(1, 2, 10, dtype=torch.bool)
    mask[:, :, 3:6] = True
    wave = torch.randn(1, 1620)
    losses = [
        tiny_model("speech 2.0", mask_time_prob=share, mask_time_length=2)
        .train()(wave, mask=mask, noise_keys=torch.zeros(1, 2, dtype=torch.int32))
        .loss
        for share in (0.0, 0.5)
    ]
    assert torch.equal(*losses)
